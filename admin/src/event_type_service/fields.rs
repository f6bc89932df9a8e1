//! The fields of an event type: which a caller may write, which are set, and how a change is laid over
//! what is stored.

use bowline_proto::v1::EventType;

use crate::mask::Mask;

pub(super) const WRITABLE: [&str; 3] = ["description", "labels", "json_schema"];

pub(super) fn is_set(event_type: &EventType, field: &str) -> bool {
    match field {
        "description" => !event_type.description.is_empty(),
        "labels" => !event_type.labels.is_empty(),
        "json_schema" => !event_type.json_schema.is_empty(),
        _ => false,
    }
}

/// `old` with the fields of the mask from `new`.
pub(super) fn merge(old: EventType, new: EventType, mask: &Mask) -> EventType {
    let mut merged = old;
    macro_rules! take {
        ($($field:ident),*) => {$(
            if mask.has(stringify!($field)) {
                merged.$field = new.$field;
            }
        )*};
    }
    take!(description, labels, json_schema);
    merged
}

/// What a caller asks for, without what it cannot decide.
pub(super) fn without_output(event_type: EventType) -> EventType {
    EventType {
        id: String::new(),
        tenant_id: String::new(),
        create_time: None,
        update_time: None,
        etag: String::new(),
        ..event_type
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::FieldMask;

    #[test]
    fn every_writable_field_is_seen_and_taken() {
        let full = || EventType {
            id: "typ_x".into(),
            name: "order.created".into(),
            description: "d".into(),
            labels: [("a".into(), "b".into())].into(),
            json_schema: "{}".into(),
            etag: "v1".into(),
            ..EventType::default()
        };
        for field in WRITABLE {
            assert!(is_set(&full(), field) && !is_set(&EventType::default(), field), "{field}");
            let mask =
                Mask::new(Some(&FieldMask { paths: vec![field.into()] }), &WRITABLE, |_| false).unwrap();
            let merged = merge(EventType::default(), full(), &mask);
            assert!(WRITABLE.iter().all(|other| is_set(&merged, other) == (*other == field)), "{field}");
        }
        let plain = without_output(full());
        assert_eq!((plain.id.as_str(), plain.etag.as_str(), plain.name.as_str()), ("", "", "order.created"));
    }
}
