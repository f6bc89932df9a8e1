//! How many resources a tenant may have. A guard against runaway scripts, so a count of a few
//! seconds ago is good enough: counting a hundred thousand rows at each create is not.

use std::time::Duration;

use bowline_core::id::TenantId;
use moka::future::Cache;

use crate::fault::{Fault, Kind};

const COUNT_AGE_MAX: Duration = Duration::from_secs(10);
const TENANTS_MAX: u64 = 10_000;

pub(crate) struct Quota {
    kind: Kind,
    max: i64,
    counts: Cache<TenantId, i64>,
}

impl Quota {
    pub(crate) fn new(kind: Kind, max: i64) -> Self {
        let counts = Cache::builder().max_capacity(TENANTS_MAX).time_to_live(COUNT_AGE_MAX).build();
        Self { kind, max, counts }
    }

    /// Refuses a tenant that has its full number; `count` is asked only where no recent count is known.
    pub(crate) async fn check<E>(
        &self,
        tenant: TenantId,
        count: impl Future<Output = Result<i64, E>>,
    ) -> Result<(), Fault>
    where
        Fault: From<E>,
    {
        let known = if let Some(known) = self.counts.get(&tenant).await {
            known
        } else {
            let counted = count.await?;
            self.counts.insert(tenant, counted).await;
            counted
        };
        if known < self.max { Ok(()) } else { Err(Fault::LimitReached { kind: self.kind, max: self.max }) }
    }
}
