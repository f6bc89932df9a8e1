//! What a call has done [apart](bowline_core::apart).

use std::sync::LazyLock;

use bowline_core::apart::Places;
use bowline_core::id::TenantId;

use crate::fault::Fault;

static PLACES: LazyLock<Places> = LazyLock::new(Places::default);

/// Waits for a place first.
pub(crate) async fn apart<T: Send + 'static>(
    tenant: TenantId,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    Ok(PLACES.take(tenant).await?.work(work).await?)
}
