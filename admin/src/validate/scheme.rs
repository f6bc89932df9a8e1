//! A signature scheme as a caller describes it: every fault with its path, as many at once as can be.

use std::sync::Arc;

use bowline_core::scheme::{CompiledScheme, Scheme};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::Violations;
use crate::convert;

const JSON_BYTES_MAX: usize = 16 * 1024;
/// Each fault costs a reading of the whole.
const FAULTS_MAX: usize = 20;

/// Reads and compiles a scheme from the wire.
pub(super) fn read(
    violations: &mut Violations,
    field: &str,
    wire: &prost_types::Struct,
) -> Option<(Scheme, Arc<CompiledScheme>)> {
    let Some(json) = convert::json_of_struct(wire) else {
        violations.add(field, "holds a number that JSON does not have");
        return None;
    };
    if json.to_string().len() > JSON_BYTES_MAX {
        violations.add(field, format!("must be at most {JSON_BYTES_MAX} bytes as JSON"));
        return None;
    }
    let scheme = described(violations, field, json)?;
    match scheme.compile() {
        Ok(compiled) => Some((scheme, Arc::new(compiled))),
        Err(error) => {
            for fault in error.faults {
                violations.add(format!("{field}.{}", fault.field), fault.problem);
            }
            None
        }
    }
}

/// A description is read up to its first fault. So that all are named, what is at fault is taken out
/// and the rest is read again; what is missing then was there.
fn described(violations: &mut Violations, field: &str, mut json: Value) -> Option<Scheme> {
    let mut removed: Vec<String> = Vec::new();
    for _ in 0..FAULTS_MAX {
        let error = match serde_path_to_error::deserialize::<_, Scheme>(&json) {
            Ok(scheme) if removed.is_empty() => return Some(scheme),
            Ok(_) => return None,
            Err(error) => error,
        };
        let (path, problem) = (error.path().clone(), error.into_inner().to_string());
        let at = named(field, &path);
        if let Some(missing) = missing_field(&problem) {
            let name = format!("{at}.{missing}");
            if !removed.contains(&name) {
                violations.add(name, "is missing");
            }
            // Nothing can stand in for it: the rest is read once it is there.
            return None;
        }
        violations.add(at, problem);
        removed.push(remove(field, &mut json, &path)?);
    }
    None
}

/// `source.scheme.signature.sources[0]`
fn named(field: &str, path: &Path) -> String {
    path.iter().fold(field.to_owned(), |name, segment| match segment {
        Segment::Seq { index } => format!("{name}[{index}]"),
        Segment::Map { key } => format!("{name}.{}", super::excerpt(key)),
        Segment::Enum { .. } | Segment::Unknown => name,
    })
}

fn missing_field(problem: &str) -> Option<&str> {
    problem.strip_prefix("missing field `")?.split('`').next()
}

/// The path of what was removed. An item of a list takes the list with it, so that the places of the
/// others stay true.
fn remove(field: &str, json: &mut Value, path: &Path) -> Option<String> {
    let keys: Vec<&String> = path
        .iter()
        .map_while(|segment| match segment {
            Segment::Map { key } => Some(key),
            _ => None,
        })
        .collect();
    let (last, parents) = keys.split_last()?;
    let parent = parents.iter().try_fold(json, |value, key| value.get_mut(key.as_str()))?;
    parent.as_object_mut()?.remove(last.as_str())?;
    Some(keys.iter().fold(field.to_owned(), |name, key| format!("{name}.{}", super::excerpt(key))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(json: Value) -> Vec<String> {
        super::super::faults(|it| read(it, "source.scheme", &convert::struct_of_json(json).unwrap()))
    }

    fn good() -> Value {
        json!({
            "algorithm": "hmac-sha256", "content": "{timestamp}.{body}",
            "signature": {"sources": ["header:x-signature"]},
            "timestamp": {"sources": ["header:x-timestamp"], "unit": "s", "tolerance_past_s": 300}
        })
    }

    #[test]
    fn a_good_one_has_no_fault() {
        assert_eq!(faults(good()), [""; 0]);
    }

    #[test]
    fn every_fault_has_its_path() {
        let mut bad = good();
        bad["algorithm"] = json!("rot13");
        bad["signature"]["encoding"] = json!("base65");
        bad["signature"]["colour"] = json!("blue");
        bad["timestamp"]["unit"] = json!(7);
        let mut named = faults(bad);
        named.sort();
        assert_eq!(
            named,
            [
                "source.scheme.algorithm",
                "source.scheme.signature.colour",
                "source.scheme.signature.encoding",
                "source.scheme.timestamp.unit",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_named_and_an_item_too() {
        assert_eq!(faults(json!({"algorithm": "hmac-sha256"})), ["source.scheme.signature"]);
        let mut bad = good();
        bad["signature"]["sources"] = json!(["header:x-a", "smoke:y"]);
        assert_eq!(faults(bad), ["source.scheme.signature.sources[1]"]);
    }

    #[test]
    fn hostile_ones_end() {
        let many: serde_json::Map<_, _> = (0..400).map(|n| (format!("k{n}"), json!(n))).collect();
        assert_eq!(faults(Value::Object(many)).len(), FAULTS_MAX);
        assert_eq!(faults(json!({"content": "x".repeat(20_000)})), ["source.scheme"]);
    }
}
