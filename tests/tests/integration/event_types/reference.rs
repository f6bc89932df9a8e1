//! What the pages of the reference systems say of their events, as a catalog.

use bowline_proto::v1;
use bowline_tests::admin::violations;
use bowline_tests::{Receiver, Stack, admin};
use serde_json::json;
use tonic::Code;

use super::{create, publish, set_strict};

/// `leads.submit` has four fields, each a string.
#[tokio::test]
async fn the_four_fields_of_a_lead_are_strings() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let fields = ["conversationId", "customerEmail", "customerName", "customerPhone"];
    let string = json!({"type": "string"});
    let properties: serde_json::Map<_, _> =
        fields.iter().map(|field| ((*field).to_owned(), string.clone())).collect();
    let schema = json!({"type": "object", "properties": properties, "required": fields});
    create(&admin, "leads.submit", &schema.to_string()).await.unwrap();
    let lead = json!({
        "conversationId": "c-1", "customerEmail": "someone@example.com", "customerName": "Example",
        "customerPhone": "123",
    });
    publish(&admin, "leads.submit", lead.to_string()).await.unwrap();
    for field in fields {
        for wrong in [json!(5), json!(null), json!(["123"])] {
            let mut lead = lead.clone();
            lead[field] = wrong;
            let refused = publish(&admin, "leads.submit", lead.to_string()).await.unwrap_err();
            assert_eq!(violations(&refused), ["body"]);
            assert!(refused.message().contains(&format!("/{field}: ")), "{}", refused.message());
        }
        let mut lead = lead.clone();
        lead.as_object_mut().unwrap().remove(field);
        let refused = publish(&admin, "leads.submit", lead.to_string()).await.unwrap_err();
        assert!(refused.message().contains(field), "{}", refused.message());
    }
}

/// Every event has an id and an organization, and more that is its own.
#[tokio::test]
async fn each_event_has_fields_of_its_own() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let schema = |own: &[&str]| {
        let required: Vec<&str> = ["id", "organization_id"].iter().chain(own).copied().collect();
        json!({"type": "object", "required": required, "properties": {"id": {"type": "string"}}}).to_string()
    };
    let contact = json!({
        "id": "uuid-here", "first_name": "John", "last_name": "Doe", "organization_id": "org-uuid",
    });
    create(&admin, "contact.created", &schema(&["first_name", "last_name"])).await.unwrap();
    create(&admin, "deal.stage.changed", &schema(&["stage"])).await.unwrap();
    publish(&admin, "contact.created", contact.to_string()).await.unwrap();
    // A contact is no deal.
    let refused = publish(&admin, "deal.stage.changed", contact.to_string()).await.unwrap_err();
    assert_eq!(violations(&refused), ["body"]);
    assert!(refused.message().contains("stage"), "{}", refused.message());
    let deal = json!({"id": "uuid-here", "organization_id": "org-uuid", "stage": "won"});
    publish(&admin, "deal.stage.changed", deal.to_string()).await.unwrap();
    // An event that has no schema has the fields it has.
    publish(&admin, "message.sent", "{}").await.unwrap();
}

/// `allowedEvents: ["order.created", "order.shipped"]`: those may go out, and no others.
#[tokio::test]
async fn allowed_events_go_out_and_others_do_not() {
    let stack = Stack::start().await;
    let (admin, receiver) = (stack.admin(), Receiver::start().await);
    for name in ["order.created", "order.shipped"] {
        create(&admin, name, "").await.unwrap();
    }
    set_strict(&admin, true).await;
    let (everything, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    for name in ["order.created", "order.shipped"] {
        let id = publish(&admin, name, "{}").await.unwrap();
        admin.await_delivery(&id, &everything, v1::DeliveryState::Delivered).await;
    }
    let refused = publish(&admin, "order.lost", "{}").await.unwrap_err();
    assert_eq!(
        (refused.code(), violations(&refused)),
        (Code::InvalidArgument, vec!["event_type".to_owned()])
    );
    assert_eq!(receiver.count(), 2);
}
