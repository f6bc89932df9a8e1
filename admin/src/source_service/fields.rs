//! The fields of a source: which a caller may write, which are set, and how a change is laid over
//! what is stored.

use bowline_proto::v1::Source;

use crate::mask::Mask;

pub(super) const WRITABLE: [&str; 21] = [
    "name",
    "display_name",
    "labels",
    "preset",
    "parameters",
    "scheme",
    "insecure",
    "path",
    "event_type",
    "channel",
    "dedup_ttl",
    "body_limit_bytes",
    "enabled",
    "ip_allow_list",
    "rate",
    "query_window_payloads",
    "max_stored_payloads",
    "dedup_key",
    "verify",
    "event_type_cel",
    "channel_cel",
];

pub(super) fn is_set(source: &Source, field: &str) -> bool {
    match field {
        "name" => !source.name.is_empty(),
        "display_name" => !source.display_name.is_empty(),
        "labels" => !source.labels.is_empty(),
        "preset" => !source.preset.is_empty(),
        "parameters" => !source.parameters.is_empty(),
        "scheme" => source.scheme.is_some(),
        "insecure" => source.insecure,
        "path" => !source.path.is_empty(),
        "event_type" => !source.event_type.is_empty(),
        "channel" => !source.channel.is_empty(),
        "dedup_ttl" => source.dedup_ttl.is_some(),
        "body_limit_bytes" => source.body_limit_bytes != 0,
        "enabled" => source.enabled.is_some(),
        "ip_allow_list" => !source.ip_allow_list.is_empty(),
        "rate" => source.rate != 0.0,
        "query_window_payloads" => source.query_window_payloads != 0,
        "max_stored_payloads" => source.max_stored_payloads.is_some(),
        "dedup_key" => !source.dedup_key.is_empty(),
        "verify" => !source.verify.is_empty(),
        "event_type_cel" => !source.event_type_cel.is_empty(),
        "channel_cel" => !source.channel_cel.is_empty(),
        _ => false,
    }
}

/// `old` with the fields of the mask from `new`.
pub(super) fn merge(old: Source, new: Source, mask: &Mask) -> Source {
    let mut merged = old;
    if mask.has("preset") && merged.preset != new.preset {
        merged.parameters.clear();
    }
    macro_rules! take {
        ($($field:ident),*) => {$(
            if mask.has(stringify!($field)) {
                merged.$field = new.$field;
            }
        )*};
    }
    take!(name, display_name, labels, preset, parameters, scheme, insecure);
    take!(path, event_type, channel, dedup_ttl, body_limit_bytes, enabled, ip_allow_list, rate);
    take!(query_window_payloads, max_stored_payloads);
    take!(dedup_key, verify, event_type_cel, channel_cel);
    merged
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
    use prost_types::FieldMask;

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
    fn every_writable_field_is_seen_and_taken() {
        for field in WRITABLE {
            assert!(is_set(&full(), field), "{field}");
            assert!(!is_set(&Source::default(), field), "{field}");
            let mask =
                Mask::new(Some(&FieldMask { paths: vec![field.into()] }), &WRITABLE, |_| false).unwrap();
            let merged = merge(Source::default(), full(), &mask);
            assert!(WRITABLE.iter().all(|other| is_set(&merged, other) == (*other == field)), "{field}");
        }
    }

    #[test]
    fn a_new_preset_begins_without_the_parameters_of_the_old_one() {
        let mask = |fields: &[&str]| {
            let paths = fields.iter().map(ToString::to_string).collect();
            Mask::new(Some(&FieldMask { paths }), &WRITABLE, |_| false).unwrap()
        };
        let other = || Source { preset: "stripe".into(), ..Source::default() };
        assert!(merge(full(), other(), &mask(&["preset"])).parameters.is_empty());
        assert_eq!(merge(full(), full(), &mask(&["preset"])).parameters.len(), 1);
        assert_eq!(merge(full(), other(), &mask(&["name"])).parameters.len(), 1);
    }

    #[test]
    fn output_fields_do_not_count() {
        let plain = without_output(full());
        assert_eq!((plain.id.as_str(), plain.etag.as_str(), plain.name.as_str()), ("", "", "n"));
        assert_eq!(without_output(plain.clone()), plain);
    }
}
