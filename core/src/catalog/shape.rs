//! What a schema is made of, before anything is made of it: how many schemas there are in it, and how many it
//! unfolds to where references multiply. What refers to itself for one and the same value means nothing, and what
//! lies elsewhere is never fetched: both are refused here.

use std::collections::HashMap;

use serde_json::{Map, Value};

const VALUES_MAX: u64 = 10_000;
const PATTERNS_MAX: u64 = 64;
const REFERENCES_MAX: u64 = 500;
/// Schemas that are asked of one value, each with all it refers to, summed up over a whole schema.
const UNFOLDED_MAX: u64 = 50_000;
/// How often a schema may lead on to another for the same value.
const DEPTH_MAX: usize = 500;

/// What there is of a schema that is within all limits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// JSON values, of whatever kind.
    pub(super) values: u64,
    pub(super) patterns: u64,
    /// A pattern repeats something a number of times.
    pub(super) counted: bool,
    pub(super) formats: bool,
    /// Schemas, each with all that are asked of the same value for it.
    pub(super) unfolded: u64,
    /// The most that are asked of one value for one schema.
    pub(super) widest: u64,
}

impl Shape {
    /// The error says in a sentence what is too much, or wrong.
    pub(super) fn of(schema: &Value) -> Result<Self, String> {
        let mut survey =
            Survey { shape: Self { values: count(schema), ..Self::default() }, ..Survey::default() };
        // Counted first: everything else takes time by it.
        within(survey.shape.values, VALUES_MAX, "values")?;
        survey.walk(schema, String::new())?;
        within(survey.shape.patterns, PATTERNS_MAX, "patterns")?;
        within(survey.references, REFERENCES_MAX, "references")?;
        survey.unfold()
    }
}

fn within(found: u64, most: u64, what: &str) -> Result<(), String> {
    if found > most { Err(format!("it holds {found} {what}; at most {most} are accepted")) } else { Ok(()) }
}

fn count(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// What of one schema is asked of the same value.
#[derive(Debug, Default)]
struct Node<'s> {
    in_place: Vec<usize>,
    references: Vec<&'s str>,
}

/// How far a schema is unfolded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfolding {
    Not,
    Begun,
    To(u64),
}

#[derive(Debug, Default)]
struct Survey<'s> {
    shape: Shape,
    references: u64,
    nodes: Vec<Node<'s>>,
    by_pointer: HashMap<String, usize>,
    /// Several of a name are all meant.
    by_anchor: HashMap<&'s str, Vec<usize>>,
}

impl<'s> Survey<'s> {
    /// A schema at its place, and all within it; as deep as the parser of JSON goes at most.
    fn walk(&mut self, schema: &'s Value, pointer: String) -> Result<usize, String> {
        let at = self.nodes.len();
        self.nodes.push(Node::default());
        if let Value::Object(members) = schema {
            self.note(members, at, pointer.is_empty())?;
            for (name, value) in members {
                let below = format!("{pointer}/{}", escaped(name));
                match name.as_str() {
                    "allOf" | "anyOf" | "oneOf" => self.walk_list(value, &below, Some(at))?,
                    "not" | "if" | "then" | "else" => self.walk_one(value, below, Some(at))?,
                    "dependentSchemas" | "dependencies" => self.walk_map(value, &below, Some(at))?,
                    "items" if value.is_array() => self.walk_list(value, &below, None)?,
                    "prefixItems" => self.walk_list(value, &below, None)?,
                    "items"
                    | "additionalItems"
                    | "unevaluatedItems"
                    | "contains"
                    | "propertyNames"
                    | "additionalProperties"
                    | "unevaluatedProperties"
                    | "contentSchema" => {
                        self.walk_one(value, below, None)?;
                    }
                    "properties" | "patternProperties" | "$defs" | "definitions" => {
                        self.walk_map(value, &below, None)?;
                    }
                    _ => {}
                }
            }
        }
        self.by_pointer.insert(pointer, at);
        Ok(at)
    }

    fn walk_one(&mut self, value: &'s Value, pointer: String, holder: Option<usize>) -> Result<(), String> {
        // What is neither is no schema: whoever compiles it says so.
        if value.is_object() || value.is_boolean() {
            let at = self.walk(value, pointer)?;
            if let Some(holder) = holder {
                self.nodes[holder].in_place.push(at);
            }
        }
        Ok(())
    }

    fn walk_list(&mut self, value: &'s Value, pointer: &str, holder: Option<usize>) -> Result<(), String> {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| self.walk_one(item, format!("{pointer}/{index}"), holder))
    }

    fn walk_map(&mut self, value: &'s Value, pointer: &str, holder: Option<usize>) -> Result<(), String> {
        value.as_object().into_iter().flatten().try_for_each(|(name, member)| {
            self.walk_one(member, format!("{pointer}/{}", escaped(name)), holder)
        })
    }

    /// What is said beside the schemas within.
    fn note(&mut self, members: &'s Map<String, Value>, at: usize, top: bool) -> Result<(), String> {
        let texts = members.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        for (name, text) in texts {
            match name {
                "$ref" | "$dynamicRef" | "$recursiveRef" => {
                    self.references += 1;
                    self.nodes[at].references.push(text);
                }
                "$anchor" | "$dynamicAnchor" => self.by_anchor.entry(text).or_default().push(at),
                "$id" | "id" if !top => {
                    return Err(format!(
                        "only its top may have `{name}`: what lies within is named by `$anchor`"
                    ));
                }
                "pattern" => self.add_pattern(text),
                "format" => self.shape.formats = true,
                _ => {}
            }
        }
        let patterns = members.get("patternProperties").and_then(Value::as_object);
        patterns.into_iter().flatten().for_each(|(pattern, _)| self.add_pattern(pattern));
        Ok(())
    }

    fn add_pattern(&mut self, pattern: &str) {
        self.shape.patterns += 1;
        self.shape.counted |= pattern.contains('{');
    }

    /// How much is asked of one value for each schema.
    fn unfold(mut self) -> Result<Shape, String> {
        let mut known = vec![Unfolding::Not; self.nodes.len()];
        for at in 0..self.nodes.len() {
            let size = self.unfold_one(at, 0, &mut known)?;
            self.shape.widest = self.shape.widest.max(size);
            self.shape.unfolded = self.shape.unfolded.saturating_add(size);
        }
        if self.shape.unfolded > UNFOLDED_MAX {
            return Err(format!(
                "its references multiply: they unfold to more than the {UNFOLDED_MAX} schemas that are accepted"
            ));
        }
        Ok(self.shape)
    }

    fn unfold_one(&self, at: usize, depth: usize, known: &mut [Unfolding]) -> Result<u64, String> {
        match known[at] {
            Unfolding::To(size) => return Ok(size),
            Unfolding::Begun => return Err("it refers to itself for one and the same value".into()),
            Unfolding::Not if depth > DEPTH_MAX => {
                return Err(format!("it leads on more than {DEPTH_MAX} times for one value"));
            }
            Unfolding::Not => known[at] = Unfolding::Begun,
        }
        let mut size = 1_u64;
        for below in &self.nodes[at].in_place {
            size = size.saturating_add(self.unfold_one(*below, depth + 1, known)?);
        }
        for reference in &self.nodes[at].references {
            for target in self.targets(reference)? {
                size = size.saturating_add(self.unfold_one(*target, depth + 1, known)?);
            }
        }
        known[at] = Unfolding::To(size);
        Ok(size)
    }

    fn targets(&self, reference: &str) -> Result<&[usize], String> {
        let named = || reference.chars().take(100).collect::<String>();
        let Some(fragment) = reference.strip_prefix('#') else {
            return Err(format!(
                "it refers to `{}`: only what is within it, as `#/$defs/name`, is looked at",
                named()
            ));
        };
        let found = if fragment.is_empty() || fragment.starts_with('/') {
            let pointer = percent_encoding::percent_decode_str(fragment).decode_utf8_lossy();
            self.by_pointer.get(pointer.as_ref()).map(std::slice::from_ref)
        } else {
            self.by_anchor.get(fragment).map(Vec::as_slice)
        };
        found.ok_or_else(|| format!("it refers to `{}`, where it has no schema", named()))
    }
}

/// As JSON pointers have names (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(schema: &Value) -> String {
        Shape::of(schema).expect_err("it must be refused")
    }

    #[test]
    fn a_schema_is_counted_as_far_as_it_is_one() {
        let schema = json!({
            "properties": {"pattern": {"pattern": "a{3}"}, "$ref": {"type": "string"}, "$id": {"format": "uuid"}},
            "patternProperties": {"^x": true},
            "const": {"$ref": "https://example.com/", "$id": "x", "pattern": "("},
            "allOf": [{"$ref": "#/$defs/a~1b%20c"}, {"$ref": "#name"}, {"not": {"$dynamicRef": "#name"}}],
            "$defs": {"a/b c": {}, "n": {"$anchor": "name"}},
        });
        let shape = Shape::of(&schema).unwrap();
        assert_eq!((shape.patterns, shape.counted, shape.formats), (2, true, true));
        // The top asks three, of which the last asks one, and each of them one that it refers to.
        assert_eq!(shape.widest, 1 + 2 + 2 + 3);
        let plain = Shape::of(&json!({"pattern": "^a"})).unwrap();
        assert_eq!((plain.counted, plain.formats, plain.unfolded, plain.widest), (false, false, 1, 1));
        assert_eq!(Shape::of(&json!(true)).unwrap().unfolded, 1);
    }

    #[test]
    fn what_is_too_much_is_named() {
        assert!(refused(&json!({"enum": vec![0; 10_001]})).contains("10003 values; at most 10000"));
        let patterns: Map<_, _> = (0..65).map(|n| (format!("^{n}$"), json!(true))).collect();
        assert!(refused(&json!({ "patternProperties": patterns })).contains("65 patterns; at most 64"));
        let references = vec![json!({"$ref": "#/$defs/a"}); 501];
        assert!(refused(&json!({"anyOf": references, "$defs": {"a": {}}})).contains("501 references"));
    }

    #[test]
    fn what_lies_elsewhere_or_nowhere_is_refused() {
        for elsewhere in ["https://example.com/a.json", "file:///etc/passwd", "other.json#/a", "//x/y", ""] {
            assert!(
                refused(&json!({"items": {"$ref": elsewhere}})).contains("only what is within"),
                "{elsewhere}"
            );
        }
        for nowhere in ["#/nowhere", "#/const", "#name", "#/$defs"] {
            assert!(
                refused(&json!({"const": {}, "$defs": {}, "$ref": nowhere})).contains("no schema"),
                "{nowhere}"
            );
        }
        let within = json!({"$id": "https://example.com/", "items": {"$id": "b"}});
        assert!(refused(&within).contains("only its top"));
    }

    #[test]
    fn what_goes_round_for_one_value_is_refused() {
        for round in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"not": {"if": {"$ref": "#"}}}),
            json!({"$dynamicAnchor": "a", "anyOf": [{"$dynamicRef": "#a"}, true]}),
            json!({"$recursiveAnchor": true, "anyOf": [{"$recursiveRef": "#"}]}),
            json!({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
            json!({"dependencies": {"a": {"$ref": "#"}}}),
        ] {
            assert!(refused(&round).contains("refers to itself"), "{round}");
        }
        // A value within another is another value.
        let tree = json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}});
        assert_eq!(Shape::of(&tree).unwrap().widest, 2);
    }
}
