//! Where senders are: a source's list of networks, and the proxies whose word counts.

use bowline_proto::v1;
use bowline_tests::{BOUND, Stack, eventually, http};

use super::{events, open_source_like};

async fn from(stack: &Stack, source: &str, forwarded: Option<&str>) -> http::Answer {
    let headers: Vec<_> =
        forwarded.into_iter().map(|value| ("x-forwarded-for".to_owned(), value.to_owned())).collect();
    http::post(&stack.inbound(source), &headers, "{}").await.unwrap()
}

fn hearing(list: &[&str]) -> v1::Source {
    v1::Source {
        ip_allow_list: list.iter().map(|network| (*network).to_owned()).collect(),
        ..v1::Source::default()
    }
}

#[tokio::test]
async fn a_sender_from_elsewhere_is_403_and_cannot_say_otherwise() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let here = open_source_like(&stack, hearing(&["127.0.0.0/8"])).await;
    let elsewhere = open_source_like(&stack, hearing(&["192.0.2.0/24", "2001:db8::/32"])).await;
    from(&stack, &here, None).await.accepted();
    for forwarded in [None, Some("192.0.2.7")] {
        let answer = from(&stack, &elsewhere, forwarded).await;
        assert_eq!(answer.refused(403), "sender_not_allowed");
    }
    assert_eq!(events(&stack).await, 1);
    // It is kept for whoever has to mend the list, with the address.
    eventually(BOUND, async || {
        let kept =
            "SELECT count(*) FROM rejections WHERE code = 'sender_not_allowed' AND remote_addr = '127.0.0.1'";
        let count = stack.database.count(kept).await;
        if count == 2 { Ok(()) } else { Err(count) }
    })
    .await;
    // A change of the list counts at once.
    let update = v1::UpdateSourceRequest {
        source: Some(v1::Source { id: elsewhere.clone(), ..hearing(&["127.0.0.1"]) }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["ip_allow_list".into()] }),
    };
    stack.admin().sources().update_source(update).await.unwrap();
    from(&stack, &elsewhere, None).await.accepted();
}

#[tokio::test]
async fn behind_a_trusted_proxy_its_word_counts() {
    let stack = Stack::builder()
        .dispatchers(0)
        .set_ingest("BOWLINE_INGEST_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")
        .start()
        .await;
    let source = open_source_like(&stack, hearing(&["192.0.2.0/24"])).await;
    for (forwarded, status) in [
        (Some("192.0.2.7"), 200),
        (Some("192.0.2.7:4711"), 200),
        (Some("203.0.113.5, 192.0.2.7, 10.1.1.1"), 200),
        // The sender wrote the first itself.
        (Some("192.0.2.7, 203.0.113.5"), 403),
        (Some("192.0.2.7, nonsense"), 403),
        (None, 403),
    ] {
        assert_eq!(from(&stack, &source, forwarded).await.status, status, "{forwarded:?}");
    }
}
