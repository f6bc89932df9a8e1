//! `EventService`: events an app publishes, and a look at what came in.

mod bulk;
mod dry_run;
mod watch;

use std::sync::Arc;

use bowline_core::catalog::Demand;
use bowline_core::defaults;
use bowline_core::event::Event;
use bowline_core::id::{EventId, TenantId};
use bowline_core::journal::{DedupKey, JournalError, NewEvent};
use bowline_core::store::dedup_keys;
use bowline_core::store::events::{self, EventQuery, EventRow};
use bowline_core::store::unmatched::unmatched;
use bowline_proto::v1;
use bowline_proto::v1::event_service_server::EventService;
use chrono::Utc;
use deadpool_postgres::Object;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::apart::apart;
use crate::call::Call;
use crate::change::{Act, audited};
use crate::fault::{Fault, Kind};
use crate::page::{Listing, page_size};
use crate::present;
use crate::streaming::{Nothing, answer};
use crate::validate::{self, Violations, filter};
use crate::watch::Watching;

const JSON: &str = "application/json";
const CONTENT_TYPE_BYTES_MAX: usize = 255;
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Events looked at for one page, step by step until it is full: a type that nothing has ends a page early instead of
/// reading the whole log.
const STEPS: [i64; 6] = [1_000, 20_000, 20_000, 20_000, 20_000, 20_000];

pub(crate) struct Events {
    context: Arc<AdminContext>,
    watching: Watching,
}

impl Events {
    pub(crate) fn new(context: Arc<AdminContext>, watching: Watching) -> Self {
        Self { context, watching }
    }

    /// Permit first: what this process cannot hold is refused before anything else is done.
    async fn publish(
        &self,
        call: &Call,
        request: v1::PublishEventRequest,
    ) -> Result<v1::PublishEventResponse, Fault> {
        let tenant = call.tenant(&self.context, &request.tenant_id).await?;
        self.publish_for(call, tenant, request).await
    }

    async fn publish_for(
        &self,
        call: &Call,
        tenant: TenantId,
        request: v1::PublishEventRequest,
    ) -> Result<v1::PublishEventResponse, Fault> {
        check(&request)?;
        let permit = self.context.journal.admit(tenant)?;
        permit.grow(request.body.len())?;
        let key = dedup_key(tenant, &request);
        if let Err(refusal) = self.check_catalog(tenant, &request).await {
            return self.published_before(key.as_ref(), refusal).await;
        }
        let event = Event {
            id: EventId::new(),
            tenant_id: tenant,
            source_id: None,
            event_type: request.event_type,
            channel: (!request.channel.is_empty()).then_some(request.channel),
            content_type: if request.content_type.is_empty() { JSON.into() } else { request.content_type },
            headers: call.trace.clone(),
            body: request.body,
            time: Utc::now(),
        };
        let new = NewEvent { event, generation: 0, key };
        let committed = self.context.journal.commit(&permit, new).await.map_err(|error| match error {
            JournalError::KeyReused => Fault::IdempotencyKeyReused,
            other => other.into(),
        })?;
        Ok(v1::PublishEventResponse { event_id: committed.id.to_string(), duplicate: committed.duplicate })
    }

    /// What the catalog refuses now may repeat what it took before it was changed: that is answered as it was then.
    async fn published_before(
        &self,
        key: Option<&DedupKey>,
        refusal: Fault,
    ) -> Result<v1::PublishEventResponse, Fault> {
        let Some(key) = key else { return Err(refusal) };
        let held = dedup_keys::holder(&self.context.client().await?, key).await?;
        match held {
            None => Err(refusal),
            Some(held)
                if held.fingerprint.as_deref() == key.fingerprint.as_ref().map(<[u8; 32]>::as_slice) =>
            {
                Ok(v1::PublishEventResponse { event_id: held.event_id.to_string(), duplicate: true })
            }
            Some(_) => Err(Fault::IdempotencyKeyReused),
        }
    }

    /// As the tenant's catalog has it; most tenants have none.
    async fn check_catalog(&self, tenant: TenantId, request: &v1::PublishEventRequest) -> Result<(), Fault> {
        let snapshot = &self.context.snapshot;
        let Some(catalog) = snapshot.catalog(tenant) else { return Ok(()) };
        let mut demand = catalog.demand(&request.event_type);
        if matches!(demand, Demand::KnownType) {
            // Another replica may have learned of it just now.
            snapshot.refresh_for_unknown(&format!("{tenant} {}", request.event_type)).await?;
            demand = snapshot
                .catalog(tenant)
                .map_or(Demand::Nothing, |catalog| catalog.demand(&request.event_type));
        }
        let schema = match demand {
            Demand::Nothing => return Ok(()),
            Demand::KnownType => {
                let problem = validate::event_type::not_in_catalog(&request.event_type);
                return Err(Fault::field("event_type", problem));
            }
            Demand::Schema(schema) => schema,
        };
        let body = request.body.clone();
        let Err(faults) = apart(tenant, move || schema.check(&body)).await? else { return Ok(()) };
        let mut violations = Violations::default();
        for fault in faults {
            violations.add("body", fault);
        }
        violations.finish()
    }

    async fn get(&self, call: &Call, request: v1::GetEventRequest) -> Result<v1::GetEventResponse, Fault> {
        let id: EventId = validate::id("id", &request.id)?;
        let client = self.context.client().await?;
        let row = events::find(&client, call.scope(), id)
            .await?
            .ok_or_else(|| Fault::not_found(Kind::Event, id.to_string()))?;
        let event = flagged(&client, &[row]).await?.pop();
        Ok(v1::GetEventResponse { event })
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListEventsRequest,
    ) -> Result<v1::ListEventsResponse, Fault> {
        let tenant = call.tenant(&self.context, &request.tenant_id).await?;
        let listing = Listing::new("ListEvents", tenant, request.filter.as_ref());
        let mut violations = Violations::default();
        let query = filter::events(&mut violations, &request.filter.unwrap_or_default());
        violations.finish()?;
        let size = page_size(request.page_size)?;
        let mut after = listing.position(&request.page_token)?.map(EventId);
        let client = self.context.client().await?;
        let mut rows = Vec::new();
        for looks in STEPS {
            let seen_to = events::nth(&client, tenant, &query, after, looks).await?;
            let step = EventQuery { range: query.range.down_to(seen_to), ..query.clone() };
            let most = size + 1 - rows.len() as i64;
            rows.extend(events::list(&client, tenant, &step, after, most).await?);
            after = seen_to;
            if after.is_none() || rows.len() as i64 > size {
                break;
            }
        }
        let mut next_page_token = listing.cut(&mut rows, size, |row| row.id.0);
        if let (Some(seen_to), true) = (after, next_page_token.is_empty()) {
            next_page_token = listing.token(&seen_to.0);
        }
        Ok(v1::ListEventsResponse { events: flagged(&client, &rows).await?, next_page_token })
    }
}

/// As they are shown; those that nobody wanted say so.
async fn flagged(client: &Object, rows: &[EventRow]) -> Result<Vec<v1::Event>, Fault> {
    let unmatched = unmatched(client, rows.iter().filter(|row| row.flag.is_none()).map(|row| row.id)).await?;
    let shown = |row: &EventRow| {
        let mut event = present::event(row);
        if unmatched.contains(&row.id) {
            event.set_flag(v1::EventFlag::Unmatched);
        }
        event
    };
    Ok(rows.iter().map(shown).collect())
}

fn check(request: &v1::PublishEventRequest) -> Result<(), Fault> {
    let mut violations = Violations::default();
    validate::event_type(&mut violations, "event_type", &request.event_type);
    if !request.channel.is_empty() {
        validate::channel(&mut violations, "channel", &request.channel);
    }
    let content_type = request.content_type.as_str();
    if content_type.len() > CONTENT_TYPE_BYTES_MAX
        || content_type.bytes().any(|byte| !(byte.is_ascii_graphic() || byte == b' '))
        || !(content_type.is_empty() || content_type.contains('/'))
    {
        violations.add(
            "content_type",
            format!(
                "must be a media type such as {JSON}, of at most {CONTENT_TYPE_BYTES_MAX} ASCII characters"
            ),
        );
    }
    let key = &request.idempotency_key;
    if key.len() > IDEMPOTENCY_KEY_BYTES_MAX || key.chars().any(char::is_control) {
        violations.add(
            "idempotency_key",
            format!("must be at most {IDEMPOTENCY_KEY_BYTES_MAX} bytes, without control characters"),
        );
    }
    if request.body.len() as u64 > defaults::BODY_LIMIT_BYTES {
        violations.add(
            "body",
            format!("has {} bytes; at most {} are accepted", request.body.len(), defaults::BODY_LIMIT_BYTES),
        );
    } else if claims_json(content_type)
        && let Err(error) = serde_json::from_slice::<IgnoredAny>(&request.body)
    {
        violations.add("body", format!("is not the JSON its content type claims: {error}"));
    }
    violations.finish()
}

/// JSON by name or by suffix (RFC 6839); nothing given means JSON.
fn claims_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.is_empty()
        || media_type.eq_ignore_ascii_case(JSON)
        || media_type
            .rsplit('+')
            .next()
            .is_some_and(|suffix| suffix.len() < media_type.len() && suffix.eq_ignore_ascii_case("json"))
}

fn dedup_key(tenant: TenantId, request: &v1::PublishEventRequest) -> Option<DedupKey> {
    if request.idempotency_key.is_empty() {
        return None;
    }
    Some(DedupKey {
        scope: tenant.0,
        hash: DedupKey::hash(request.idempotency_key.as_bytes()),
        ttl: defaults::DEDUP_TTL,
        fingerprint: Some(fingerprint(request)),
    })
}

/// Lengths go in before texts, so that no two events run into the same bytes.
fn fingerprint(request: &v1::PublishEventRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [request.event_type.as_bytes(), request.channel.as_bytes(), &request.body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream = Nothing<v1::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let (call, message) = Call::open(request)?;
        answer(&call, self.watch(&call, message).await)
    }

    async fn publish_event(
        &self,
        request: Request<v1::PublishEventRequest>,
    ) -> Result<Response<v1::PublishEventResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.publish(&call, message).await)
    }

    async fn get_event(
        &self,
        request: Request<v1::GetEventRequest>,
    ) -> Result<Response<v1::GetEventResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.get(&call, message).await)
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }

    async fn publish_event_batch(
        &self,
        request: Request<v1::PublishEventBatchRequest>,
    ) -> Result<Response<v1::PublishEventBatchResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.publish_batch(&call, message).await)
    }

    async fn replay_events(
        &self,
        request: Request<v1::ReplayEventsRequest>,
    ) -> Result<Response<v1::ReplayEventsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act { request_id: message.request_id.clone(), ..Act::new("ReplayEvents", "") };
        let outcome = self.replay(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request() -> v1::PublishEventRequest {
        v1::PublishEventRequest {
            event_type: "order.created".into(),
            body: Bytes::from_static(b"{}"),
            ..v1::PublishEventRequest::default()
        }
    }

    fn faults(request: &v1::PublishEventRequest) -> Vec<String> {
        match check(request) {
            Err(Fault::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn bodies_are_what_they_claim() {
        let with = |content_type: &str, body: &'static [u8]| {
            let body = Bytes::from_static(body);
            faults(&v1::PublishEventRequest { content_type: content_type.into(), body, ..request() })
        };
        assert_eq!(with("", b"{\"a\": [1, 2e3]}"), [""; 0]);
        assert_eq!(with("application/json; charset=utf-8", b"{"), ["body"]);
        assert_eq!(with("application/cloudevents+json", b""), ["body"]);
        assert_eq!(with("text/plain", b"{"), [""; 0]);
        assert_eq!(with("application/octet-stream", b"\xff\0"), [""; 0]);
        assert_eq!(with("json", b"{}"), ["content_type"]);
        assert_eq!(with("text/plain\r\nx: y", b"{}"), ["content_type"]);
        let deep = Bytes::from([vec![b'['; 100_000], vec![b']'; 100_000]].concat());
        assert_eq!(faults(&v1::PublishEventRequest { body: deep, ..request() }), [""; 0]);
    }

    #[test]
    fn every_fault_at_once() {
        let bad = v1::PublishEventRequest {
            event_type: "bowline.mine".into(),
            channel: "c".repeat(257),
            idempotency_key: "k".repeat(256),
            body: Bytes::from(vec![b' '; 1024 * 1024 + 1]),
            ..request()
        };
        assert_eq!(faults(&bad), ["event_type", "channel", "idempotency_key", "body"]);
    }

    #[test]
    fn another_event_has_another_fingerprint() {
        let of = |event_type: &str, channel: &str, body: &'static str| {
            let (event_type, channel) = (event_type.into(), channel.into());
            fingerprint(&v1::PublishEventRequest { event_type, channel, body: body.into(), ..request() })
        };
        let all =
            [of("a", "b", "c"), of("ab", "", "c"), of("a", "", "bc"), of("a", "b", "d"), of("", "ab", "c")];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one));
        }
        assert_eq!(of("a", "b", "c"), all[0]);
    }
}
