//! The description of a signature scheme in a file, as TOML or JSON, and the same on the wire.

use std::fs;
use std::io::Read;
use std::path::Path;

use prost_types::value::Kind;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The API takes 16 KiB as JSON; TOML may hold comments.
const BYTES_MAX: u64 = 64 * 1024;

/// Reads the scheme in `path`, given as `flag`: JSON where the name ends so or the text begins with `{`,
/// else TOML.
///
/// # Errors
/// When the file cannot be read or is neither, with the place.
pub(crate) fn read(flag: &str, path: &Path) -> Result<prost_types::Struct, Failure> {
    let wrong = |problem: String| Failure::Configuration(format!("{flag} {}: {problem}", path.display()));
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > BYTES_MAX {
        return Err(wrong(format!("longer than {BYTES_MAX} bytes")));
    }
    let json =
        path.extension().is_some_and(|extension| extension == "json") || text.trim_start().starts_with('{');
    let value: Value = if json {
        serde_json::from_str(&text).map_err(|error| wrong(format!("not JSON: {error}")))?
    } else {
        toml::from_str(&text).map_err(|error| wrong(format!("not TOML: {error}")))?
    };
    match value {
        Value::Object(map) => Ok(fields(map)),
        _ => Err(wrong("not an object".to_owned())),
    }
}

/// What the API answered, as JSON. The wire has only doubles: whole ones were integers.
pub(crate) fn shown(scheme: &prost_types::Struct) -> Value {
    Value::Object(scheme.fields.iter().map(|(key, value)| (key.clone(), shown_value(value))).collect())
}

fn fields(map: Map<String, Value>) -> prost_types::Struct {
    prost_types::Struct { fields: map.into_iter().map(|(key, value)| (key, wire(value))).collect() }
}

fn wire(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(flag),
        // Every number of JSON and TOML is one a double comes near; the API checks what it gets.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.into_iter().map(wire).collect() })
        }
        Value::Object(map) => Kind::StructValue(fields(map)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn shown_value(value: &prost_types::Value) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(*flag),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= EXACT_MAX => {
            Value::from(*number as i64)
        }
        Some(Kind::NumberValue(number)) => Value::from(*number),
        Some(Kind::StructValue(fields)) => shown(fields),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(shown_value).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(name: &str, text: &str) -> Result<Value, Failure> {
        let folder = std::env::temp_dir().join(format!("bowline-scheme-{:x}", rand::random::<u64>()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        let read = read("--scheme", &path);
        fs::remove_dir_all(folder).unwrap();
        read.map(|scheme| shown(&scheme))
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = "algorithm = \"hmac-sha256\" # a comment\n[timestamp]\ntolerance_past_s = 300\nsources = [\"header:x\"]\n";
        let json =
            r#"{"algorithm":"hmac-sha256","timestamp":{"tolerance_past_s":300,"sources":["header:x"]}}"#;
        let expected: Value = serde_json::from_str(json).unwrap();
        assert_eq!(from_file("scheme.toml", toml).unwrap(), expected);
        assert_eq!(from_file("scheme.json", json).unwrap(), expected);
        assert_eq!(from_file("scheme", json).unwrap(), expected);
    }

    #[test]
    fn what_is_neither_is_refused_with_its_place() {
        let place = from_file("scheme.toml", "algorithm = \n").unwrap_err().to_string();
        assert!(place.contains("scheme.toml") && place.contains("line 1"), "{place}");
        assert!(from_file("scheme.json", "[1]").unwrap_err().to_string().contains("not an object"));
        let long = "#".repeat(70_000);
        assert!(from_file("scheme.toml", &long).unwrap_err().to_string().contains("longer than"));
    }
}
