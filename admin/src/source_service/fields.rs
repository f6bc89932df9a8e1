//! The fields of a source: which a caller may write, how a change is laid over what is stored, and which
//! a caller cannot decide.

use bowline_proto::v1::Source;

use crate::mask::{Field, Mask, fields};

pub(super) const WRITABLE: &[Field<Source>] = fields! {
    Source:
    name, display_name, labels, preset, parameters, scheme, insecure, path, event_type, channel,
    dedup_ttl, body_limit_bytes, enabled, ip_allow_list, rate, query_window_payloads, max_stored_payloads,
    dedup_key, verify, event_type_cel, channel_cel
};

/// `old` with the fields of the mask from `new`.
pub(super) fn merge(mut old: Source, new: Source, mask: &Mask<Source>) -> Source {
    if mask.has("preset") && old.preset != new.preset {
        old.parameters.clear();
    }
    mask.merge(old, new)
}

/// What a caller asks for, without what it cannot decide: two requests that differ only there are
/// the same.
pub(super) fn without_output(source: Source) -> Source {
    Source {
        id: String::new(),
        tenant_id: String::new(),
        create_time: None,
        update_time: None,
        etag: String::new(),
        receive_url: String::new(),
        secrets: Vec::new(),
        ..source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Source {
        Source {
            id: "src_x".into(),
            name: "n".into(),
            display_name: "N".into(),
            labels: [("a".into(), "b".into())].into(),
            etag: "v1".into(),
            preset: "github".into(),
            parameters: [("a".into(), "b".into())].into(),
            scheme: Some(prost_types::Struct::default()),
            insecure: true,
            path: "/p".into(),
            event_type: "t".into(),
            channel: "c".into(),
            dedup_ttl: Some(prost_types::Duration::default()),
            body_limit_bytes: 1,
            enabled: Some(false),
            ip_allow_list: vec!["192.0.2.0/24".into()],
            rate: 1.0,
            query_window_payloads: 1,
            max_stored_payloads: Some(0),
            dedup_key: "null".into(),
            verify: "true".into(),
            event_type_cel: "null".into(),
            channel_cel: "null".into(),
            ..Source::default()
        }
    }

    #[test]
    fn a_new_preset_begins_without_the_parameters_of_the_old_one() {
        let mask = |fields: &[&str]| Mask::of(fields, WRITABLE, &full()).unwrap();
        let other = || Source { preset: "stripe".into(), ..Source::default() };
        assert!(merge(full(), other(), &mask(&["preset"])).parameters.is_empty());
        assert_eq!(merge(full(), full(), &mask(&["preset"])).parameters.len(), 1);
        assert_eq!(merge(full(), other(), &mask(&["name"])).parameters.len(), 1);
    }

    #[test]
    fn what_is_not_output_may_be_written() {
        let all = Mask::of(&["*"], WRITABLE, &full()).unwrap();
        assert_eq!(merge(Source::default(), full(), &all), without_output(full()));
    }
}
