//! What is done with many dead letters: a redrive that goes on after its call, and forgetting them.

use std::time::Instant;

use bowline_core::delivery::DeliveryKey;
use bowline_core::id::TenantId;
use bowline_core::operation::{self, ESTIMATE_MAX, Redrive, Work};
use bowline_core::store::dead_letters::{self, DeadLetterQuery};
use bowline_proto::v1;

use super::{BATCH, Choice, DeadLetters, REDRIVE_TIME_MAX, choose};
use crate::call::Call;
use crate::change::{Act, Repeat, begin_work};
use crate::fault::{Fault, Kind};
use crate::operation_service;
use crate::present;
use crate::validate::{self, Violations};

impl DeadLetters {
    pub(super) async fn redrive_as_operation(
        &self,
        call: &Call,
        tenant: TenantId,
        request: v1::RedriveDeadLettersRequest,
    ) -> Result<v1::RedriveDeadLettersResponse, Fault> {
        let mut violations = Violations::default();
        let Some(wire) = request.filter.as_ref().filter(|_| request.delivery_ids.is_empty()) else {
            violations.add("filter", "is required for an operation, and no delivery_ids beside it");
            return violations.finish().map(|()| v1::RedriveDeadLettersResponse::default());
        };
        validate::request_id(&mut violations, &request.request_id);
        let rate = operation_service::rate(&mut violations, request.rate_per_second);
        let query = validate::filter::dead_letters(&mut violations, wire);
        let time = |time: &Option<_>| validate::timestamp(&mut Violations::default(), "", time.as_ref());
        let (start, end) = (time(&wire.start_time), time(&wire.end_time));
        if request.max_count < 0 {
            violations.add("max_count", "must not be negative");
        }
        violations.finish()?;
        let client = self.context.client().await?;
        let counted = dead_letters::count(&client, tenant, &query, ESTIMATE_MAX).await?;
        drop(client);
        let max = (request.max_count > 0).then(|| i64::from(request.max_count));
        let estimate = counted.stored.min(max.unwrap_or(i64::MAX));
        if request.dry_run {
            return Ok(v1::RedriveDeadLettersResponse {
                count: estimate,
                body_gone_count: counted.gone,
                ..v1::RedriveDeadLettersResponse::default()
            });
        }
        let asked = operation::Request { work: Work::Redrive(redrive(query, start, end)), max, estimate };
        let repeated = v1::RedriveDeadLettersRequest { request_id: String::new(), ..request.clone() };
        let repeat = Repeat::new(tenant, "RedriveDeadLetters", &request.request_id, &repeated);
        let act = Act {
            tenant: Some(tenant),
            request_id: request.request_id.clone(),
            ..Act::new("RedriveDeadLetters", "")
        };
        let begun = operation_service::begin(&self.context, call, &repeat, asked, rate, act).await?;
        Ok(v1::RedriveDeadLettersResponse {
            count: 0,
            body_gone_count: counted.gone,
            more: false,
            operation: Some(present::operation(&begun)),
        })
    }

    pub(super) async fn purge(
        &self,
        call: &Call,
        request: v1::PurgeDeadLettersRequest,
    ) -> Result<v1::PurgeDeadLettersResponse, Fault> {
        let tenant = call.tenant(&self.context, &request.tenant_id).await?;
        match choose(&request.delivery_ids, request.filter.as_ref(), request.max_count)? {
            Choice::Named(keys) => self.purge_named(call, tenant, &keys, request.dry_run).await,
            Choice::Matching { query, max } if request.dry_run => {
                let client = self.context.client().await?;
                let count = dead_letters::count_for_purge(&client, tenant, &query, max + 1).await?;
                Ok(v1::PurgeDeadLettersResponse { count: count.min(max), more: count > max })
            }
            Choice::Matching { query, max } => self.purge_matching(call, tenant, &query, max).await,
        }
    }

    /// All of them or none, in one transaction.
    async fn purge_named(
        &self,
        call: &Call,
        tenant: TenantId,
        keys: &[DeliveryKey],
        dry_run: bool,
    ) -> Result<v1::PurgeDeadLettersResponse, Fault> {
        let mut client = self.context.client().await?;
        let work = begin_work(&mut client).await?;
        let found = dead_letters::lock_named_for_purge(&work.tx, tenant, keys).await?;
        if let Some(missing) = keys.iter().find(|key| !found.iter().any(|row| row.key == **key)) {
            return Err(Fault::not_found(Kind::DeadLetter, missing.to_string()));
        }
        let count = found.len() as i64;
        if !dry_run {
            dead_letters::purge(&work.tx, &found).await?;
            let resource = if let [only] = keys { only.to_string() } else { format!("{count} dead letters") };
            let act = Act { tenant: Some(tenant), ..Act::new("PurgeDeadLetters", resource) };
            work.commit(&self.context, call, &act).await?;
        }
        Ok(v1::PurgeDeadLettersResponse { count, more: false })
    }

    /// Batch by batch, oldest event first, each in a transaction of its own.
    async fn purge_matching(
        &self,
        call: &Call,
        tenant: TenantId,
        query: &DeadLetterQuery,
        max: i64,
    ) -> Result<v1::PurgeDeadLettersResponse, Fault> {
        let begun = Instant::now();
        let mut count = 0;
        loop {
            let mut client = self.context.client().await?;
            let work = begin_work(&mut client).await?;
            let limit = BATCH.min(max - count).max(1);
            let found = dead_letters::lock_for_purge(&work.tx, tenant, query, limit).await?;
            if found.is_empty() {
                return Ok(v1::PurgeDeadLettersResponse { count, more: false });
            }
            if count >= max || begun.elapsed() >= REDRIVE_TIME_MAX {
                return Ok(v1::PurgeDeadLettersResponse { count, more: true });
            }
            dead_letters::purge(&work.tx, &found).await?;
            count += found.len() as i64;
            let resource = format!("{} dead letters", found.len());
            let act = Act { tenant: Some(tenant), ..Act::new("PurgeDeadLetters", resource) };
            work.commit(&self.context, call, &act).await?;
        }
    }
}

fn redrive(
    query: DeadLetterQuery,
    start: Option<chrono::DateTime<chrono::Utc>>,
    end: Option<chrono::DateTime<chrono::Utc>>,
) -> Redrive {
    Redrive {
        endpoint_id: query.endpoint_id,
        event_id: query.event_id,
        event_type: query.event_type,
        channel: query.channel,
        reason: query.reason,
        start,
        end,
    }
}
