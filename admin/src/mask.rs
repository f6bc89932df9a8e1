//! Update masks: which fields of a resource a call changes.

use std::collections::BTreeSet;

use prost_types::FieldMask;

use crate::fault::{Fault, FieldFault};

const PATHS_MAX: usize = 64;

/// The fields to change, all of them known and writable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mask(BTreeSet<&'static str>);

impl Mask {
    /// `*` means every writable field; no mask at all means those that are set in the resource.
    pub(crate) fn new(
        asked: Option<&FieldMask>,
        writable: &[&'static str],
        is_set: impl Fn(&str) -> bool,
    ) -> Result<Self, Fault> {
        let Some(paths) = asked.map(|mask| &mask.paths).filter(|paths| !paths.is_empty()) else {
            return Ok(Self(writable.iter().copied().filter(|field| is_set(field)).collect()));
        };
        if paths.len() > PATHS_MAX {
            return Err(Fault::field("update_mask", format!("at most {PATHS_MAX} paths")));
        }
        let mut fields = BTreeSet::new();
        let mut faults = Vec::new();
        for path in paths {
            if path == "*" {
                fields.extend(writable);
            } else if let Some(field) = writable.iter().copied().find(|field| field == path) {
                fields.insert(field);
            } else {
                faults.push(FieldFault {
                    field: "update_mask".into(),
                    problem: format!(
                        "`{}` is not one of {}",
                        path.chars().take(64).collect::<String>().escape_debug(),
                        writable.join(", ")
                    ),
                });
            }
        }
        if faults.is_empty() { Ok(Self(fields)) } else { Err(Fault::Invalid(faults)) }
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.0.contains(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITABLE: [&str; 3] = ["name", "labels", "url"];

    fn mask(paths: &[&str]) -> Result<Mask, Fault> {
        let asked = FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
        Mask::new(Some(&asked), &WRITABLE, |_| false)
    }

    #[test]
    fn named_fields_star_and_none() {
        assert_eq!(mask(&["url", "url"]).unwrap(), Mask(["url"].into()));
        assert_eq!(mask(&["*"]).unwrap(), Mask(WRITABLE.into()));
        assert_eq!(Mask::new(None, &WRITABLE, |field| field == "name").unwrap(), Mask(["name"].into()));
    }

    #[test]
    fn every_unknown_path_is_named() {
        let Err(Fault::Invalid(faults)) = mask(&["id", "url", "labels.a"]) else { panic!("must fail") };
        assert_eq!(faults.len(), 2);
        assert!(faults[0].problem.starts_with("`id` is not one of name"));
    }
}
