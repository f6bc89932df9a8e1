//! The catalog of a tenant: which event types there are, and what their payloads must be.
//!
//! 1. A [`Schema`] is checked when it is saved: within limits, referring to nothing outside itself.
//! 2. Each process keeps the [`Catalog`] of every tenant that has one in its snapshot, as texts.
//! 3. [`Catalog::demand`] says at once what an event of a type has to meet. Where that is a schema, the check is
//!    for a thread that may be kept: it compiles the schema, unless that was done lately, and gives a payload up
//!    that takes too much work.

mod metered;
mod schema;
mod shape;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use serde_json::Value;

use crate::event::OWN_EVENTS;
use crate::id::{EventTypeId, TenantId};

pub use schema::{SCHEMA_BYTES_MAX, Schema};

/// Of all schemas of a tenant together, since every process keeps them.
pub const SCHEMAS_BYTES_MAX: i64 = 4 * 1024 * 1024;
/// Of compiled schemas, as [`Schema::weight`] counts; they take some ten times that.
const COMPILED_WEIGHT_MAX: u64 = 16 * 1024 * 1024;

type CompiledKey = (EventTypeId, i64, DateTime<Utc>);
type Compiled = Result<Arc<Schema>, Arc<str>>;

static COMPILED: LazyLock<Cache<CompiledKey, Compiled>> = LazyLock::new(|| {
    let weigh = |_: &CompiledKey, compiled: &Compiled| compiled.as_ref().map_or(1, |schema| schema.weight());
    Cache::builder().max_capacity(COMPILED_WEIGHT_MAX).weigher(weigh).build()
});

/// An event type as it is stored.
#[derive(Debug, Clone)]
pub struct EventType {
    pub id: EventTypeId,
    pub tenant_id: TenantId,
    /// As events have it, unique per tenant.
    pub name: String,
    pub description: String,
    pub labels: BTreeMap<String, String>,
    /// As it was given.
    pub json_schema: Option<String>,
    pub config_version: i64,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
}

/// What a catalog asks of an event.
#[derive(Debug, Clone)]
pub enum Demand {
    Nothing,
    /// It is strict and does not have the type.
    KnownType,
    Schema(Arc<LiveSchema>),
}

/// A schema as a process keeps it.
#[derive(Debug)]
pub struct LiveSchema {
    key: CompiledKey,
    text: String,
}

impl LiveSchema {
    /// All that does not fit. May take a tenth of a second: not for a thread that others wait for.
    pub fn check(&self, payload: &[u8]) -> Result<(), Vec<String>> {
        let payload: Value = serde_json::from_slice(payload).map_err(|error| {
            vec![format!("is not JSON that the schema of its type could be asked of: {error}")]
        })?;
        let compile = || {
            let schema = serde_json::from_str(&self.text).map_err(|error| error.to_string());
            schema.and_then(|schema| Schema::compile(&schema)).map(Arc::new).map_err(Arc::from)
        };
        match COMPILED.get_with(self.key, compile) {
            Ok(schema) => schema.check(&payload),
            // It was accepted by another version.
            Err(fault) => Err(vec![format!("cannot be checked: the schema of its type: {fault}")]),
        }
    }
}

#[derive(Debug, Clone)]
struct LiveType {
    id: EventTypeId,
    schema: Option<Arc<LiveSchema>>,
}

/// The catalog of one tenant, as each process keeps it.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub strict: bool,
    names: HashMap<EventTypeId, Arc<str>>,
    types: HashMap<Arc<str>, LiveType>,
}

impl Catalog {
    pub(crate) fn insert(&mut self, event_type: EventType) {
        let EventType { id, config_version, update_time, .. } = event_type;
        self.remove(id);
        let schema = event_type
            .json_schema
            .map(|text| Arc::new(LiveSchema { key: (id, config_version, update_time), text }));
        let name: Arc<str> = event_type.name.into();
        self.names.insert(id, Arc::clone(&name));
        self.types.insert(name, LiveType { id, schema });
    }

    /// A name may have gone to another type meanwhile, and stays with it.
    pub(crate) fn remove(&mut self, id: EventTypeId) {
        if let Some(name) = self.names.remove(&id)
            && self.types.get(&name).is_some_and(|live| live.id == id)
        {
            self.types.remove(&name);
        }
    }

    /// It says nothing of any event.
    pub(crate) fn is_empty(&self) -> bool {
        !self.strict && self.types.is_empty()
    }

    /// Whether the type is one that a strict catalog does not have. Bowline's own need no place in it.
    pub fn lacks(&self, event_type: &str) -> bool {
        self.strict && !self.types.contains_key(event_type) && !event_type.starts_with(OWN_EVENTS)
    }

    pub fn demand(&self, event_type: &str) -> Demand {
        match self.types.get(event_type) {
            Some(LiveType { schema: Some(schema), .. }) => Demand::Schema(Arc::clone(schema)),
            None if self.lacks(event_type) => Demand::KnownType,
            _ => Demand::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_TENANT;

    fn event_type(name: &str, json_schema: Option<&str>) -> EventType {
        EventType {
            id: EventTypeId::new(),
            tenant_id: DEFAULT_TENANT,
            name: name.into(),
            description: String::new(),
            labels: BTreeMap::new(),
            json_schema: json_schema.map(Into::into),
            config_version: 1,
            create_time: DateTime::UNIX_EPOCH,
            update_time: DateTime::UNIX_EPOCH,
        }
    }

    fn check(catalog: &Catalog, event_type: &str, payload: &str) -> Result<(), Vec<String>> {
        let Demand::Schema(schema) = catalog.demand(event_type) else { panic!("{event_type} has a schema") };
        schema.check(payload.as_bytes())
    }

    #[test]
    fn a_type_with_a_schema_asks_for_what_fits_it() {
        let mut catalog = Catalog::default();
        let mut order = event_type("order.created", Some(r#"{"required": ["total"]}"#));
        catalog.insert(order.clone());
        catalog.insert(event_type("order.seen", None));
        assert_eq!(check(&catalog, "order.created", "{\"total\": 5}"), Ok(()));
        assert!(check(&catalog, "order.created", "{}").unwrap_err()[0].contains("total"));
        assert!(check(&catalog, "order.created", "<order/>").unwrap_err()[0].contains("is not JSON"));
        let deep = [vec![b'['; 1_000], vec![b']'; 1_000]].concat();
        assert!(check(&catalog, "order.created", std::str::from_utf8(&deep).unwrap()).is_err());
        assert!(matches!(catalog.demand("order.seen"), Demand::Nothing));
        // A change is another schema, even if a restored backup gave it a version that was there before.
        order.json_schema = Some("true".into());
        order.update_time = DateTime::from_timestamp(1, 0).unwrap();
        catalog.insert(order);
        assert_eq!(check(&catalog, "order.created", "{}"), Ok(()));
        catalog.insert(event_type("order.odd", Some("{\"type\": 5}")));
        assert!(check(&catalog, "order.odd", "{}").unwrap_err()[0].contains("cannot be checked"));
    }

    #[test]
    fn a_strict_catalog_lacks_what_it_does_not_have() {
        let mut catalog = Catalog::default();
        catalog.insert(event_type("order.created", None));
        assert!(!catalog.lacks("order.lost") && matches!(catalog.demand("order.lost"), Demand::Nothing));
        catalog.strict = true;
        assert!(catalog.lacks("order.lost") && matches!(catalog.demand("order.lost"), Demand::KnownType));
        for known in ["order.created", "bowline.test"] {
            assert!(!catalog.lacks(known) && matches!(catalog.demand(known), Demand::Nothing), "{known}");
        }
    }

    #[test]
    fn a_name_goes_from_one_type_to_another_in_any_order() {
        let (old, new) = (event_type("order.created", None), event_type("order.created", Some("true")));
        let mut catalog = Catalog::default();
        catalog.insert(old.clone());
        catalog.insert(new.clone());
        catalog.remove(old.id);
        assert!(matches!(catalog.demand("order.created"), Demand::Schema(_)));
        catalog.remove(new.id);
        assert!(catalog.is_empty() && catalog.names.is_empty());
    }
}
