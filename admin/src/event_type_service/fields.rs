//! The fields of an event type: which a caller may write, and which it cannot decide.

use bowline_proto::v1::EventType;

use crate::mask::{Field, fields};

pub(super) const WRITABLE: &[Field<EventType>] = fields! {
    EventType:
    description, labels, json_schema
};

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
    use crate::mask::Mask;

    #[test]
    fn what_is_not_output_may_be_written() {
        let full = EventType {
            id: "typ_x".into(),
            name: "order.created".into(),
            description: "d".into(),
            labels: [("a".into(), "b".into())].into(),
            json_schema: "{}".into(),
            etag: "v1".into(),
            ..EventType::default()
        };
        let all = Mask::of(&["*"], WRITABLE, &full).unwrap();
        // The name is, once, when it is made.
        let old = EventType { name: full.name.clone(), ..EventType::default() };
        assert_eq!(all.merge(old, full.clone()), without_output(full));
    }
}
