//! What an expression can look at. Bodies are read as JSON at most once, and only when asked for.

use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use zeroize::Zeroizing;

use super::error::Fault;
use super::kind::Field;
use super::limits;
use super::value::Value;
use crate::event::Event;
use crate::format::Data;
use crate::json::{self, Alteration, Document};
use crate::secrets::Secret;

/// Gives the value of a secret by its name; the newest of an overlap, or the one that is tried.
pub trait SecretLookup: Sync {
    fn secret(&self, name: &str) -> Option<Arc<Secret>>;
}

#[derive(Clone, Copy)]
pub struct RequestScope<'a> {
    pub method: &'a str,
    /// With its query, as it came.
    pub path_and_query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

#[derive(Debug, Clone)]
pub struct DeliveryScope {
    pub id: String,
    /// 1 for the first.
    pub attempt: u32,
}

/// Headers and body may hold secrets and are left out.
impl fmt::Debug for RequestScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestScope").field("method", &self.method).finish_non_exhaustive()
    }
}

/// All of it. One scope serves any number of expressions over the same request or event.
pub struct Scope<'a> {
    request: Option<RequestScope<'a>>,
    event: Option<&'a Event>,
    delivery: Option<DeliveryScope>,
    secrets: Option<&'a dyn SecretLookup>,
    ids: OnceCell<(String, Option<String>)>,
    json: OnceCell<Result<Document, Fault>>,
}

/// Bodies and headers may hold secrets and are left out.
impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl<'a> Scope<'a> {
    pub fn of_request(request: RequestScope<'a>) -> Self {
        Self { request: Some(request), ..Self::empty() }
    }

    pub fn of_event(event: &'a Event) -> Self {
        Self { event: Some(event), ..Self::empty() }
    }

    #[must_use]
    pub fn with_delivery(mut self, delivery: DeliveryScope) -> Self {
        self.delivery = Some(delivery);
        self
    }

    #[must_use]
    pub fn with_secrets(mut self, secrets: &'a dyn SecretLookup) -> Self {
        self.secrets = Some(secrets);
        self
    }

    pub(super) fn empty() -> Self {
        Self {
            request: None,
            event: None,
            delivery: None,
            secrets: None,
            ids: OnceCell::new(),
            json: OnceCell::new(),
        }
    }

    /// The checker lets only those fields through that the place has; a scope of another place is
    /// treated as one without the field.
    pub(super) fn field(&self, field: Field) -> Result<Value<'_>, Fault> {
        let missing = || Fault::NoSuchField("this variable here".to_owned());
        let request = || self.request.ok_or_else(missing);
        let event = || self.event.ok_or_else(missing);
        let delivery = || self.delivery.as_ref().ok_or_else(missing);
        let text = |text| Value::String(std::borrow::Cow::Borrowed(text));
        Ok(match field {
            Field::RequestMethod => text(request()?.method),
            Field::RequestPath => text(split(request()?.path_and_query).0),
            Field::RequestQuery => query(split(request()?.path_and_query).1),
            Field::RequestHeaders => Value::Headers(request()?.headers),
            Field::RequestBody => Value::Bytes(request()?.body.into()),
            Field::RequestJson => self.json(request()?.body)?,
            Field::EventId => text(&self.ids(event()?).0),
            Field::EventType => text(&event()?.event_type),
            Field::EventChannel => event()?.channel.as_deref().map_or(Value::Null, text),
            Field::EventSource => self.ids(event()?).1.as_deref().map_or(Value::Null, text),
            Field::EventTimestamp => Value::Timestamp(event()?.time),
            Field::EventData => self.data(event()?)?,
            Field::DeliveryId => text(&delivery()?.id),
            Field::DeliveryAttempt => Value::Int(i64::from(delivery()?.attempt)),
        })
    }

    fn ids(&self, event: &Event) -> &(String, Option<String>) {
        self.ids.get_or_init(|| (event.id.to_string(), event.source_id.map(|id| id.to_string())))
    }

    fn json(&self, body: &[u8]) -> Result<Value<'_>, Fault> {
        let read = self.json.get_or_init(|| read_json(body));
        let document = read.as_ref().map_err(Clone::clone)?;
        // Nobody knows which of its members are meant.
        if document.has_altered_names {
            document.alteration.notice();
        }
        Ok(Value::of_json(&document.root))
    }

    /// Runs `work`, and says whether it looked at something in the body that is not read as it was sent.
    pub(super) fn notices_alterations<T>(&self, work: impl FnOnce() -> T) -> (T, bool) {
        let alteration = || Some(&self.json.get()?.as_ref().ok()?.alteration);
        if let Some(alteration) = alteration() {
            alteration.forget();
        }
        let done = work();
        (done, alteration().is_some_and(Alteration::was_noticed))
    }

    /// As an envelope holds it: JSON, else text, else bytes.
    fn data<'s>(&'s self, event: &'s Event) -> Result<Value<'s>, Fault> {
        if event.body.len() > limits::JSON_BYTES_MAX {
            return Err(Fault::BodyTooLarge);
        }
        if self.json.get().is_some() {
            return self.json(&event.body);
        }
        match Data::of(event) {
            Data::Json(text) => self.json(text.as_bytes()),
            Data::Text(text) => Ok(Value::String(text.into())),
            Data::Binary(bytes) => Ok(Value::Bytes(bytes.into())),
        }
    }

    /// Null where it is missing.
    pub(super) fn header(&self, name: &str) -> Result<Value<'_>, Fault> {
        let request = self.request.ok_or_else(|| Fault::NoSuchField("request".to_owned()))?;
        Ok(header(request.headers, name)?.unwrap_or(Value::Null))
    }

    pub(super) fn secret(&self, name: &str) -> Result<Value<'_>, Fault> {
        let found = self.secrets.and_then(|secrets| secrets.secret(name));
        found
            .map(|secret| Value::Secret(Rc::new(Zeroizing::new(secret.expose().to_vec()))))
            .ok_or_else(|| Fault::NoSecret(name.to_owned()))
    }
}

/// A header's value in any case of its name, repeated ones joined with `, `.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<Value<'a>>, Fault> {
    let mut joined: Option<std::borrow::Cow<'a, str>> = None;
    for value in headers.get_all(name) {
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| Fault::Unreadable("text"))?;
        match &mut joined {
            None => joined = Some(text.into()),
            Some(joined) => {
                joined.to_mut().push_str(", ");
                joined.to_mut().push_str(text);
            }
        }
    }
    Ok(joined.map(Value::String))
}

fn split(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_once('?').unwrap_or((path_and_query, ""))
}

/// The first of several values counts.
fn query(text: &str) -> Value<'_> {
    let mut entries: Vec<(std::borrow::Cow<'_, str>, Value<'_>)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        if seen.insert(name.clone()) {
            entries.push((name, Value::String(value)));
        }
    }
    Value::Map(Rc::new(entries))
}

fn read_json(body: &[u8]) -> Result<Document, Fault> {
    if body.len() > limits::JSON_BYTES_MAX {
        return Err(Fault::BodyTooLarge);
    }
    json::read(body).map_err(Fault::Json)
}
