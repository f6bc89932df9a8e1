//! Update masks: which fields of a resource a call changes.

use prost_types::FieldMask;

use crate::fault::{Fault, FieldFault};

const PATHS_MAX: usize = 64;

/// A field of a message that a caller may write.
pub(crate) struct Field<M> {
    pub(crate) name: &'static str,
    /// Whether it is given: the wire has no other word for that than that it is not the default.
    pub(crate) is_set: fn(&M) -> bool,
    /// Writes that of the second message into the first.
    pub(crate) take: fn(&mut M, &mut M),
}

/// The fields of a message by their names.
macro_rules! fields {
    ($message:ty: $($name:ident),* $(,)?) => {
        &[$($crate::mask::Field {
            name: stringify!($name),
            is_set: |message: &$message| $crate::mask::is_set(&message.$name),
            take: |to: &mut $message, from: &mut $message| to.$name = std::mem::take(&mut from.$name),
        }),*]
    };
}
pub(crate) use fields;

pub(crate) fn is_set<T: Default + PartialEq>(value: &T) -> bool {
    *value != T::default()
}

/// The fields to change, all of them known and writable.
pub(crate) struct Mask<M: 'static>(Vec<&'static Field<M>>);

impl<M: 'static> Mask<M> {
    /// `*` means every writable field; no mask at all means those that are set in `given`.
    pub(crate) fn new(
        asked: Option<&FieldMask>,
        writable: &'static [Field<M>],
        given: &M,
    ) -> Result<Self, Fault> {
        let Some(paths) = asked.map(|mask| &mask.paths).filter(|paths| !paths.is_empty()) else {
            return Ok(Self(writable.iter().filter(|field| (field.is_set)(given)).collect()));
        };
        if paths.len() > PATHS_MAX {
            return Err(Fault::field("update_mask", format!("at most {PATHS_MAX} paths")));
        }
        let is_known = |path: &String| path == "*" || writable.iter().any(|field| field.name == path);
        let names = || writable.iter().map(|field| field.name).collect::<Vec<_>>().join(", ");
        let faults: Vec<FieldFault> = paths
            .iter()
            .filter(|path| !is_known(path))
            .map(|path| FieldFault {
                field: "update_mask".into(),
                problem: format!(
                    "`{}` is not one of {}",
                    path.chars().take(64).collect::<String>().escape_debug(),
                    names()
                ),
            })
            .collect();
        if !faults.is_empty() {
            return Err(Fault::Invalid(faults));
        }
        let is_asked = |field: &&Field<M>| paths.iter().any(|path| path == "*" || path == field.name);
        Ok(Self(writable.iter().filter(is_asked).collect()))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|field| field.name == name)
    }

    /// `old` with the fields of the mask from `new`.
    pub(crate) fn merge(&self, old: M, mut new: M) -> M {
        let mut merged = old;
        for field in &self.0 {
            (field.take)(&mut merged, &mut new);
        }
        merged
    }
}

#[cfg(test)]
impl<M: 'static> Mask<M> {
    /// Of these fields, all of them writable.
    pub(crate) fn of(paths: &[&str], writable: &'static [Field<M>], given: &M) -> Result<Self, Fault> {
        let asked = FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
        Self::new(Some(&asked), writable, given)
    }
}

#[cfg(test)]
mod tests {
    use bowline_proto::v1::Tenant;

    use super::*;

    const WRITABLE: &[Field<Tenant>] = fields!(Tenant: name, labels, retention, strict_event_catalog);

    fn tenant() -> Tenant {
        Tenant {
            id: "ten_x".into(),
            name: "n".into(),
            labels: [("a".into(), "b".into())].into(),
            retention: Some(prost_types::Duration::default()),
            strict_event_catalog: true,
            ..Tenant::default()
        }
    }

    fn names(mask: &Mask<Tenant>) -> Vec<&'static str> {
        mask.0.iter().map(|field| field.name).collect()
    }

    #[test]
    fn named_fields_star_and_none() {
        let mask = |paths: &[&str]| Mask::of(paths, WRITABLE, &Tenant::default()).unwrap();
        assert_eq!(names(&mask(&["labels", "labels"])), ["labels"]);
        assert_eq!(names(&mask(&["name", "*"])).len(), WRITABLE.len());
        let given = Tenant { labels: tenant().labels, retention: tenant().retention, ..Tenant::default() };
        assert_eq!(names(&Mask::new(None, WRITABLE, &given).unwrap()), ["labels", "retention"]);
        assert!(mask(&["name"]).has("name") && !mask(&["name"]).has("labels"));
    }

    #[test]
    fn every_unknown_path_is_named() {
        let Err(Fault::Invalid(faults)) = Mask::of(&["id", "name", "labels.a"], WRITABLE, &tenant()) else {
            panic!("must fail")
        };
        assert_eq!(faults.len(), 2);
        assert!(faults[0].problem.starts_with("`id` is not one of name, labels"));
    }

    #[test]
    fn what_the_mask_has_is_taken_and_nothing_else() {
        let one = |name: &str| Mask::of(&[name], WRITABLE, &tenant()).unwrap();
        for field in WRITABLE {
            let merged = one(field.name).merge(Tenant::default(), tenant());
            assert!((field.is_set)(&merged), "{}", field.name);
            assert_eq!(names(&Mask::new(None, WRITABLE, &merged).unwrap()), [field.name]);
            assert_eq!(merged.id, "");
            // Set back to its default.
            assert!(!(field.is_set)(&one(field.name).merge(tenant(), Tenant::default())), "{}", field.name);
        }
    }
}
