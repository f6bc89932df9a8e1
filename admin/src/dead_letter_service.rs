//! `DeadLetterService`: what could not be delivered, and another chance for it.

mod bulk;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_core::delivery::DeliveryKey;
use bowline_core::id::TenantId;
use bowline_core::store::dead_letters::{self, DeadLetterQuery};
use bowline_proto::v1;
use bowline_proto::v1::dead_letter_service_server::DeadLetterService;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::call::Call;
use crate::change::{Act, audited, begin_work};
use crate::fault::{Fault, Kind};
use crate::page::{Listing, page_size};
use crate::present;
use crate::validate::{self, Violations, excerpt};

const IDS_MAX: usize = 1_000;
const COUNT_DEFAULT: i64 = 10_000;
const COUNT_MAX: i64 = 100_000;
/// Dead letters a transaction moves.
const BATCH: i64 = 1_000;
/// A redrive by filter ends here, well before the call's deadline, and says that there is more.
const REDRIVE_TIME_MAX: Duration = Duration::from_secs(20);

pub(crate) struct DeadLetters {
    context: Arc<AdminContext>,
}

impl DeadLetters {
    pub(crate) fn new(context: Arc<AdminContext>) -> Self {
        Self { context }
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListDeadLettersRequest,
    ) -> Result<v1::ListDeadLettersResponse, Fault> {
        let tenant = call.tenant(&self.context, &request.tenant_id).await?;
        let listing = Listing::new("ListDeadLetters", tenant, request.filter.as_ref());
        let mut violations = Violations::default();
        let query = validate::filter::dead_letters(&mut violations, &request.filter.unwrap_or_default());
        violations.finish()?;
        let size = page_size(request.page_size)?;
        let after = listing.position(&request.page_token)?;
        let client = self.context.client().await?;
        let mut rows = dead_letters::list(&client, tenant, &query, after, size + 1).await?;
        let next_page_token = listing.cut(&mut rows, size, |row| row.key);
        let dead_letters = rows.iter().map(present::dead_letter).collect();
        Ok(v1::ListDeadLettersResponse { dead_letters, next_page_token })
    }

    async fn redrive(
        &self,
        call: &Call,
        request: v1::RedriveDeadLettersRequest,
    ) -> Result<v1::RedriveDeadLettersResponse, Fault> {
        let tenant = call.tenant(&self.context, &request.tenant_id).await?;
        if request.as_operation || request.rate_per_second != 0 {
            return self.redrive_as_operation(call, tenant, request).await;
        }
        match choose(&request.delivery_ids, request.filter.as_ref(), request.max_count)? {
            Choice::Named(keys) => self.redrive_named(call, tenant, &keys, request.dry_run).await,
            Choice::Matching { query, max } if request.dry_run => self.count(tenant, &query, max).await,
            Choice::Matching { query, max } => self.redrive_matching(call, tenant, &query, max).await,
        }
    }

    /// All of them or none, in one transaction.
    async fn redrive_named(
        &self,
        call: &Call,
        tenant: TenantId,
        keys: &[DeliveryKey],
        dry_run: bool,
    ) -> Result<v1::RedriveDeadLettersResponse, Fault> {
        let mut client = self.context.client().await?;
        let work = begin_work(&mut client).await?;
        let found = dead_letters::lock(&work.tx, tenant, keys).await?;
        if let Some(missing) = keys.iter().find(|key| !found.iter().any(|row| row.key == **key)) {
            return Err(Fault::not_found(Kind::DeadLetter, missing.to_string()));
        }
        let gone: BTreeSet<String> =
            found.iter().filter(|row| !row.body_stored).map(|row| row.key.event_id.to_string()).collect();
        if !gone.is_empty() {
            return Err(Fault::EventBodyGone { events: gone.into_iter().collect() });
        }
        let count = found.len() as i64;
        if !dry_run {
            dead_letters::requeue(&work.tx, &found).await?;
            let resource = if let [only] = keys { only.to_string() } else { format!("{count} dead letters") };
            let act = Act { tenant: Some(tenant), ..Act::new("RedriveDeadLetters", resource) };
            work.commit(&self.context, call, &act).await?;
        }
        Ok(v1::RedriveDeadLettersResponse { count, ..v1::RedriveDeadLettersResponse::default() })
    }

    async fn count(
        &self,
        tenant: TenantId,
        query: &DeadLetterQuery,
        max: i64,
    ) -> Result<v1::RedriveDeadLettersResponse, Fault> {
        let client = self.context.client().await?;
        let counted = dead_letters::count(&client, tenant, query, max + 1).await?;
        Ok(v1::RedriveDeadLettersResponse {
            count: counted.stored.min(max),
            body_gone_count: counted.gone,
            more: counted.stored > max,
            operation: None,
        })
    }

    /// Batch by batch, oldest event first, each in a transaction of its own.
    async fn redrive_matching(
        &self,
        call: &Call,
        tenant: TenantId,
        query: &DeadLetterQuery,
        max: i64,
    ) -> Result<v1::RedriveDeadLettersResponse, Fault> {
        let begun = Instant::now();
        let mut answer = v1::RedriveDeadLettersResponse::default();
        let mut gone = BTreeSet::new();
        let mut after = None;
        loop {
            let mut client = self.context.client().await?;
            let work = begin_work(&mut client).await?;
            let limit = BATCH.min(max - answer.count);
            let found = dead_letters::lock_matching(&work.tx, tenant, query, after, limit.max(1)).await?;
            let Some(last) = found.last().map(|row| row.key) else { break };
            if answer.count >= max || begun.elapsed() >= REDRIVE_TIME_MAX {
                answer.more = true;
                break;
            }
            after = Some(last);
            let (stored, missing): (Vec<_>, Vec<_>) = found.into_iter().partition(|row| row.body_stored);
            answer.body_gone_count += missing.len() as i64;
            gone.extend(missing.iter().map(|row| row.key.event_id.to_string()));
            if !stored.is_empty() {
                dead_letters::requeue(&work.tx, &stored).await?;
                answer.count += stored.len() as i64;
                let resource = format!("{} dead letters", stored.len());
                let act = Act { tenant: Some(tenant), ..Act::new("RedriveDeadLetters", resource) };
                work.commit(&self.context, call, &act).await?;
            }
        }
        if answer.count == 0 && !gone.is_empty() {
            return Err(Fault::EventBodyGone { events: gone.into_iter().collect() });
        }
        Ok(answer)
    }
}

/// Which dead letters a call is about.
enum Choice {
    Named(Vec<DeliveryKey>),
    Matching { query: DeadLetterQuery, max: i64 },
}

fn choose(
    delivery_ids: &[String],
    filter: Option<&v1::DeadLetterFilter>,
    max_count: i32,
) -> Result<Choice, Fault> {
    let mut violations = Violations::default();
    let max = i64::from(max_count);
    if !(0..=COUNT_MAX).contains(&max) {
        violations.add("max_count", format!("must be 1 to {COUNT_MAX}, or 0 for {COUNT_DEFAULT}"));
    }
    let choice = match filter {
        Some(_) if !delivery_ids.is_empty() => {
            violations.add("filter", "must not be given beside delivery_ids");
            None
        }
        Some(wire) => {
            let query = validate::filter::dead_letters(&mut violations, wire);
            Some(Choice::Matching { query, max: if max == 0 { COUNT_DEFAULT } else { max } })
        }
        None if delivery_ids.is_empty() => {
            violations.add("delivery_ids", "is required where no filter is given (an empty one means all)");
            None
        }
        None => Some(Choice::Named(parse_ids(&mut violations, delivery_ids))),
    };
    violations.finish()?;
    // Whatever leaves no choice is a violation.
    choice.ok_or_else(|| Fault::field("filter", "is required"))
}

/// The ids, each once, in order: two calls that name the same lock them in the same order.
fn parse_ids(violations: &mut Violations, ids: &[String]) -> Vec<DeliveryKey> {
    if ids.len() > IDS_MAX {
        violations.add("delivery_ids", format!("must hold at most {IDS_MAX} ids"));
    }
    let mut keys = BTreeSet::new();
    for (index, id) in ids.iter().take(IDS_MAX).enumerate() {
        match id.parse::<DeliveryKey>() {
            Ok(key) => {
                keys.insert(key);
            }
            Err(error) => {
                violations.add(format!("delivery_ids[{index}]"), format!("`{}`: {error}", excerpt(id)));
            }
        }
    }
    keys.into_iter().collect()
}

#[tonic::async_trait]
impl DeadLetterService for DeadLetters {
    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<v1::RedriveDeadLettersRequest>,
    ) -> Result<Response<v1::RedriveDeadLettersResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("RedriveDeadLetters", message.delivery_ids.first().map_or("", String::as_str));
        let outcome = self.redrive(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn purge_dead_letters(
        &self,
        request: Request<v1::PurgeDeadLettersRequest>,
    ) -> Result<Response<v1::PurgeDeadLettersResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("PurgeDeadLetters", message.delivery_ids.first().map_or("", String::as_str));
        let outcome = self.purge(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::id::{EndpointId, EventId};

    fn request() -> v1::RedriveDeadLettersRequest {
        v1::RedriveDeadLettersRequest::default()
    }

    fn faults(request: &v1::RedriveDeadLettersRequest) -> Vec<String> {
        match choose(&request.delivery_ids, request.filter.as_ref(), request.max_count) {
            Err(Fault::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn ids_or_a_filter() {
        let id = DeliveryKey { event_id: EventId::new(), endpoint_id: EndpointId::new(), run: 0 }.to_string();
        let ids = vec![id.clone(), id];
        let filter = Some(v1::DeadLetterFilter::default());
        assert_eq!(faults(&request()), ["delivery_ids"]);
        let both =
            v1::RedriveDeadLettersRequest { delivery_ids: ids.clone(), filter: filter.clone(), ..request() };
        assert_eq!(faults(&both), ["filter"]);
        let named = v1::RedriveDeadLettersRequest { delivery_ids: ids, ..request() };
        assert!(matches!(choose(&named.delivery_ids, None, 0), Ok(Choice::Named(keys)) if keys.len() == 1));
        let all = v1::RedriveDeadLettersRequest { filter, ..request() };
        assert!(matches!(
            choose(&[], all.filter.as_ref(), 0),
            Ok(Choice::Matching { max: COUNT_DEFAULT, .. })
        ));
    }

    #[test]
    fn every_fault_at_once() {
        let bad = v1::RedriveDeadLettersRequest {
            delivery_ids: vec!["evt_x.ep_y.0".into(), "nonsense".into()],
            max_count: -1,
            ..request()
        };
        assert_eq!(faults(&bad), ["max_count", "delivery_ids[0]", "delivery_ids[1]"]);
        let many = v1::RedriveDeadLettersRequest { delivery_ids: vec!["x".into(); 1001], ..request() };
        assert_eq!(faults(&many)[0], "delivery_ids");
    }
}
