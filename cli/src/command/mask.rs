//! Which fields an update changes.

use prost_types::FieldMask;

use crate::failure::Failure;

/// Those that were given, and those that are set back to their defaults; there must be one at least.
pub(super) fn of(
    given: Vec<&'static str>,
    cleared: impl IntoIterator<Item = &'static str>,
) -> Result<FieldMask, Failure> {
    let mut fields = given;
    for field in cleared {
        if fields.contains(&field) {
            return Err(Failure::Usage(format!("{field} is both given and cleared")));
        }
        fields.push(field);
    }
    if fields.is_empty() {
        return Err(Failure::Usage("nothing to change: give at least one field (see --help)".to_owned()));
    }
    Ok(FieldMask { paths: fields.into_iter().map(str::to_owned).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_given_or_cleared_and_one_is_needed() {
        assert_eq!(of(vec!["name"], ["labels"]).unwrap().paths, ["name", "labels"]);
        assert_eq!(of(vec!["name"], ["name"]).unwrap_err().to_string(), "name is both given and cleared");
        assert!(of(Vec::new(), []).unwrap_err().to_string().starts_with("nothing to change"));
    }
}
