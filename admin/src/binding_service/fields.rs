//! The fields of a binding: which a caller may write, and which it cannot decide.

use bowline_proto::v1::Binding;

use crate::mask::{Field, fields};

pub(super) const WRITABLE: &[Field<Binding>] = fields! {
    Binding:
    name, display_name, labels, query, projection, widget
};

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
    use bowline_proto::v1;

    use super::*;
    use crate::mask::Mask;

    #[test]
    fn what_is_not_output_may_be_written() {
        let full = Binding {
            id: "bnd_x".into(),
            name: "n".into(),
            display_name: "N".into(),
            labels: [("a".into(), "b".into())].into(),
            query: Some(v1::BindingQuery::default()),
            projection: Some(v1::Projection::default()),
            widget: Some(v1::Widget::default()),
            etag: "v1".into(),
            revision: 3,
            ..Binding::default()
        };
        let all = Mask::of(&["*"], WRITABLE, &full).unwrap();
        assert_eq!(all.merge(Binding::default(), full.clone()), without_output(full));
    }
}
