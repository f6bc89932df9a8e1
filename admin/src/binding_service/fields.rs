//! The fields of a binding: which a caller may write, which are set, and how a change is laid over
//! what is stored.

use bowline_proto::v1::Binding;

use crate::mask::Mask;

pub(super) const WRITABLE: [&str; 6] = ["name", "display_name", "labels", "query", "projection", "widget"];

pub(super) fn is_set(binding: &Binding, field: &str) -> bool {
    match field {
        "name" => !binding.name.is_empty(),
        "display_name" => !binding.display_name.is_empty(),
        "labels" => !binding.labels.is_empty(),
        "query" => binding.query.is_some(),
        "projection" => binding.projection.is_some(),
        "widget" => binding.widget.is_some(),
        _ => false,
    }
}

/// `old` with the fields of the mask from `new`.
pub(super) fn merge(old: Binding, new: Binding, mask: &Mask) -> Binding {
    let mut merged = old;
    macro_rules! take {
        ($($field:ident),*) => {$(
            if mask.has(stringify!($field)) {
                merged.$field = new.$field;
            }
        )*};
    }
    take!(name, display_name, labels, query, projection, widget);
    merged
}

/// What a caller asks for, without what it cannot decide.
pub(super) fn without_output(binding: Binding) -> Binding {
    Binding {
        id: String::new(),
        tenant_id: String::new(),
        create_time: None,
        update_time: None,
        etag: String::new(),
        stale: false,
        refresh_time: None,
        revision: 0,
        refresh_error: String::new(),
        ..binding
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_proto::v1;
    use prost_types::FieldMask;

    #[test]
    fn every_writable_field_is_seen_and_taken() {
        let full = || Binding {
            id: "bnd_x".into(),
            name: "n".into(),
            display_name: "N".into(),
            labels: [("a".into(), "b".into())].into(),
            query: Some(v1::BindingQuery::default()),
            projection: Some(v1::Projection::default()),
            widget: Some(v1::Widget::default()),
            etag: "v1".into(),
            ..Binding::default()
        };
        for field in WRITABLE {
            assert!(is_set(&full(), field) && !is_set(&Binding::default(), field), "{field}");
            let mask =
                Mask::new(Some(&FieldMask { paths: vec![field.into()] }), &WRITABLE, |_| false).unwrap();
            let merged = merge(Binding::default(), full(), &mask);
            assert!(WRITABLE.iter().all(|other| is_set(&merged, other) == (*other == field)), "{field}");
        }
        let plain = without_output(full());
        assert_eq!((plain.id.as_str(), plain.etag.as_str(), plain.name.as_str()), ("", "", "n"));
    }
}
