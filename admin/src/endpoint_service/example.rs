//! An example of what a JSON Schema describes: what the schema itself gives, else the plainest value.

use serde_json::{Map, Value, json};

/// A schema may refer to itself: deeper than this, everything is null.
const DEPTH_MAX: usize = 16;
/// Values made in all: references may multiply.
const VALUES_MAX: usize = 1_000;

/// Never fails: what it does not understand of a schema is null.
pub(super) fn of_schema(schema: &Value) -> Value {
    Maker { root: schema, left: VALUES_MAX }.make(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    left: usize,
}

impl Maker<'_> {
    fn make(&mut self, schema: &Value, depth: usize) -> Value {
        if depth > DEPTH_MAX || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        if let Some(value) = given(schema) {
            return value.clone();
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let root = self.root;
            let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
            return found.cloned().map_or(Value::Null, |found| self.make(&found, depth + 1));
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(first) = schema.get(choice).and_then(|choices| choices.get(0)) {
                return self.make(first, depth + 1);
            }
        }
        self.of_type(schema, depth)
    }

    fn of_type(&mut self, schema: &Value, depth: usize) -> Value {
        let kind = match schema.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str).unwrap_or_default(),
            _ if schema.get("properties").is_some() || schema.get("allOf").is_some() => "object",
            _ if schema.get("items").is_some() => "array",
            _ => "",
        };
        match kind {
            "object" => Value::Object(self.object(schema, depth)),
            "array" => {
                let item = schema.get("items").map(|items| self.make(items, depth + 1));
                Value::Array(item.into_iter().collect())
            }
            "string" => json!(text(schema)),
            "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(0)),
            "boolean" => json!(true),
            _ => Value::Null,
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Map<String, Value> {
        let mut object = Map::new();
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            if let Value::Object(more) = self.make(part, depth + 1) {
                object.extend(more);
            }
        }
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let value = self.make(property, depth + 1);
            object.insert(name.clone(), value);
        }
        object
    }
}

/// What the schema says itself.
fn given(schema: &Value) -> Option<&Value> {
    let first = |field: &str| schema.get(field).and_then(|values| values.get(0));
    first("examples")
        .or_else(|| schema.get("example"))
        .or_else(|| schema.get("const"))
        .or_else(|| schema.get("default"))
        .or_else(|| first("enum"))
}

fn text(schema: &Value) -> &'static str {
    match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("date") => "2026-01-01",
        Some("time") => "00:00:00Z",
        Some("email") => "someone@example.com",
        Some("uri" | "url") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "example",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_schema_gives_comes_first() {
        let schema = json!({
            "type": "object",
            "properties": {
                "id": { "type": "string", "examples": ["ord_1"] },
                "state": { "enum": ["open", "closed"] },
                "at": { "type": "string", "format": "date-time" },
                "count": { "type": "integer", "minimum": 3 },
                "lines": { "type": "array", "items": { "$ref": "#/$defs/line" } },
            },
            "$defs": { "line": { "type": ["object", "null"], "properties": { "sku": { "const": "a" } } } },
        });
        let expected = json!({
            "id": "ord_1", "state": "open", "at": "2026-01-01T00:00:00Z", "count": 3, "lines": [{ "sku": "a" }],
        });
        assert_eq!(of_schema(&schema), expected);
        let whole = json!({ "examples": [{ "a": 1 }], "type": "object" });
        assert_eq!(of_schema(&whole), json!({ "a": 1 }));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({ "type": "object", "properties": {
            "a": { "$ref": "#" }, "b": { "$ref": "#" }, "c": { "$ref": "#" } } });
        assert!(of_schema(&schema).to_string().len() < 100_000);
        assert_eq!(of_schema(&json!(true)), Value::Null);
        assert_eq!(of_schema(&json!({ "$ref": "#/nowhere" })), Value::Null);
    }
}
