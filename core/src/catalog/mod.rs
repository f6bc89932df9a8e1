//! The catalog of a tenant: which event types there are, and what their payloads must be.
//!
//! A schema is checked when it is saved, and compiled when it is first used. It refers to nothing outside
//! itself, and its patterns cannot backtrack: what a payload costs is bounded by its size.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::event::OWN_EVENTS;
use crate::id::{EventTypeId, TenantId};

/// As JSON.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
const PATTERN_BYTES_MAX: usize = 1024 * 1024;
/// Of one payload, what is said at most.
const FAULTS_MAX: usize = 10;
const FAULT_CHARS_MAX: usize = 300;

/// An event type as it is stored.
#[derive(Debug, Clone)]
pub struct EventType {
    pub id: EventTypeId,
    pub tenant_id: TenantId,
    /// As events have it, unique per tenant.
    pub name: String,
    pub description: String,
    pub labels: BTreeMap<String, String>,
    pub json_schema: Option<Value>,
    pub config_version: i64,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
}

/// A schema, ready to check payloads.
#[derive(Debug)]
pub struct Schema(Validator);

impl Schema {
    /// The error says in a sentence what is wrong with it.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
        let built = jsonschema::options().offline().with_pattern_options(patterns).build(schema);
        built.map(Self).map_err(|fault| told(&fault))
    }

    /// All that does not fit, up to a number.
    pub fn check(&self, payload: &Value) -> Result<(), Vec<String>> {
        let faults: Vec<String> =
            self.0.iter_errors(payload).take(FAULTS_MAX).map(|fault| told(&fault)).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// With the place it stands at, and without the value, which may be long or private.
fn told(fault: &jsonschema::ValidationError<'_>) -> String {
    let place = fault.instance_path().to_string();
    let text = fault.masked().to_string();
    let whole = if place.is_empty() { text } else { format!("{place}: {text}") };
    whole.chars().take(FAULT_CHARS_MAX).collect()
}

/// A type, its schema compiled when it is first used.
#[derive(Debug)]
struct LiveType {
    json_schema: Option<Value>,
    compiled: OnceLock<Result<Schema, String>>,
}

/// What a catalog says of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    Fits,
    /// The catalog is strict and does not have the type.
    UnknownType,
    Unfit(Vec<String>),
}

/// The catalog of one tenant, as each process keeps it.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub strict: bool,
    names: HashMap<EventTypeId, String>,
    types: HashMap<String, Arc<LiveType>>,
}

impl Catalog {
    pub(crate) fn insert(&mut self, event_type: EventType) {
        self.remove(event_type.id);
        self.names.insert(event_type.id, event_type.name.clone());
        let live = LiveType { json_schema: event_type.json_schema, compiled: OnceLock::new() };
        self.types.insert(event_type.name, Arc::new(live));
    }

    pub(crate) fn remove(&mut self, id: EventTypeId) {
        if let Some(name) = self.names.remove(&id) {
            self.types.remove(&name);
        }
    }

    /// It says nothing of any event.
    pub(crate) fn is_empty(&self) -> bool {
        !self.strict && self.types.is_empty()
    }

    /// Bowline's own events need no place in it.
    pub fn has(&self, event_type: &str) -> bool {
        self.types.contains_key(event_type) || event_type.starts_with(OWN_EVENTS)
    }

    /// Whether the type is one that a strict catalog does not have.
    pub fn lacks(&self, event_type: &str) -> bool {
        self.strict && !self.has(event_type)
    }

    pub fn check(&self, event_type: &str, payload: &[u8]) -> Fit {
        let Some(live) = self.types.get(event_type) else {
            return if self.lacks(event_type) { Fit::UnknownType } else { Fit::Fits };
        };
        let Some(json_schema) = &live.json_schema else { return Fit::Fits };
        let payload: Value = match serde_json::from_slice(payload) {
            Ok(payload) => payload,
            Err(error) => return Fit::Unfit(vec![format!("is not JSON, which its type asks for: {error}")]),
        };
        match live.compiled.get_or_init(|| Schema::compile(json_schema)) {
            Ok(schema) => schema.check(&payload).map_or_else(Fit::Unfit, |()| Fit::Fits),
            // It was accepted by another version.
            Err(fault) => Fit::Unfit(vec![format!("cannot be checked: the schema of its type: {fault}")]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_TENANT;
    use serde_json::json;

    fn event_type(name: &str, json_schema: Option<Value>) -> EventType {
        EventType {
            id: EventTypeId::new(),
            tenant_id: DEFAULT_TENANT,
            name: name.into(),
            description: String::new(),
            labels: BTreeMap::new(),
            json_schema,
            config_version: 1,
            create_time: DateTime::UNIX_EPOCH,
            update_time: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn payloads_fit_the_schema_of_their_type() {
        let mut catalog = Catalog::default();
        assert!(catalog.is_empty());
        let schema = json!({
            "type": "object", "required": ["total"],
            "properties": {"total": {"type": "number", "minimum": 0}, "code": {"pattern": "^[a-z]+$"}},
        });
        let order = event_type("order.created", Some(schema));
        catalog.insert(order.clone());
        catalog.insert(event_type("order.seen", None));
        assert_eq!(catalog.check("order.created", br#"{"total": 5, "code": "a"}"#), Fit::Fits);
        let Fit::Unfit(faults) = catalog.check("order.created", br#"{"total": "secret-text", "code": "1"}"#)
        else {
            panic!("it must not fit")
        };
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults.iter().any(|fault| fault.starts_with("/total: ")), "{faults:?}");
        assert!(!faults.iter().any(|fault| fault.contains("secret-text")), "{faults:?}");
        assert!(matches!(catalog.check("order.created", b"{}"), Fit::Unfit(_)));
        assert!(matches!(catalog.check("order.created", b"<order/>"), Fit::Unfit(_)));
        assert_eq!(catalog.check("order.seen", b"<order/>"), Fit::Fits);
        assert_eq!(catalog.check("order.lost", b"{}"), Fit::Fits);
        catalog.strict = true;
        assert_eq!(catalog.check("order.lost", b"{}"), Fit::UnknownType);
        assert_eq!(catalog.check("bowline.test", b"{}"), Fit::Fits);
        catalog.remove(order.id);
        assert!(catalog.lacks("order.created") && catalog.has("order.seen"));
    }

    #[test]
    fn a_schema_is_one_and_refers_to_nothing_elsewhere() {
        for good in [json!(true), json!({}), json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}})]
        {
            assert!(Schema::compile(&good).is_ok(), "{good}");
        }
        for bad in [
            json!({"type": "nothing"}),
            json!({"minimum": "a"}),
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"pattern": "(a+)+$("}),
            json!({"pattern": "^(?=a)(?!b).*\\1$"}),
            json!(5),
        ] {
            assert!(Schema::compile(&bad).is_err(), "{bad}");
        }
        // What would take a backtracking engine for ever.
        let schema = Schema::compile(&json!({"pattern": "^(a+)+$"})).unwrap();
        assert!(schema.check(&Value::String(format!("{}b", "a".repeat(50_000)))).is_err());
    }
}
