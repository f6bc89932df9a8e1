//! Lines: one a tenant, of which only the first few go on, however long it is. So a tenant that asks for much waits
//! behind itself.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Stopping;
use crate::id::TenantId;

/// Tenants whose lines are remembered, and for how long after their last turn.
const LINES_MAX: u64 = 10_000;
const LINE_KEPT: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub struct Lines {
    lines: Cache<TenantId, Arc<Semaphore>>,
    of_tenant: usize,
}

impl Lines {
    /// So many of each line go on at a time.
    pub fn new(of_tenant: usize) -> Self {
        let lines = Cache::builder().max_capacity(LINES_MAX).time_to_idle(LINE_KEPT).build();
        Self { lines, of_tenant: of_tenant.max(1) }
    }

    #[cfg(test)]
    pub(super) fn of_tenant(&self) -> usize {
        self.of_tenant
    }

    pub async fn turn(&self, tenant: TenantId) -> Result<OwnedSemaphorePermit, Stopping> {
        let line = self.lines.get_with(tenant, || Arc::new(Semaphore::new(self.of_tenant)));
        line.acquire_owned().await.map_err(|_| Stopping)
    }
}
