//! What is shown of an endpoint beside itself: its secrets, and how it has fared.

use std::time::Duration;

use bowline_core::id::EndpointId;
use bowline_core::secrets::Purpose;
use bowline_core::store::events::IdRange;
use bowline_core::store::stats::{self, EndpointStats};
use bowline_core::store::{endpoints, stored_secrets};
use bowline_proto::v1;
use chrono::Utc;

use super::{Endpoints, found, signing_now};
use crate::call::Call;
use crate::change::{Act, begin_work};
use crate::convert::{duration, timestamp};
use crate::fault::{Fault, Kind};
use crate::signing;
use crate::validate::{self, Range, Violations};

const WINDOW_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const WINDOW: Range = Range {
    min: Duration::from_secs(60),
    max: Duration::from_secs(30 * 24 * 3600),
    text: "1 min to 30 days",
};

impl Endpoints {
    /// The audit row is committed before anything is shown (invariant 8).
    pub(super) async fn reveal(
        &self,
        call: &Call,
        request: v1::RevealEndpointSecretRequest,
    ) -> Result<v1::RevealEndpointSecretResponse, Fault> {
        let context = &*self.context;
        let id: EndpointId = validate::id("id", &request.id)?;
        let mut client = context.client().await?;
        let work = begin_work(&mut client).await?;
        let endpoint = found(endpoints::find(&work.tx, call.scope(), id).await?, id)?;
        if !endpoint.spec.secret_revealable {
            return Err(Fault::SecretNotRevealable { id: id.to_string() });
        }
        let stored = signing_now(stored_secrets::of_owner(&work.tx, id.0).await?);
        if stored.is_empty() {
            let hint = "it has none to show";
            return Err(Fault::NoSecretUsed { kind: Kind::Endpoint, id: id.to_string(), hint });
        }
        let act =
            Act { tenant: Some(endpoint.tenant_id), ..Act::new("RevealEndpointSecret", id.to_string()) };
        work.commit(context, call, &act).await?;
        let mut secrets = Vec::new();
        for version in &stored {
            let secret = context.vault.open(version, Purpose::Reveal)?;
            secrets.push(v1::RevealedSecret {
                id: version.id.to_string(),
                secret: signing::shown(Some(&secret)),
                expire_time: version.expires_at.map(timestamp),
            });
        }
        Ok(v1::RevealEndpointSecretResponse { secrets })
    }

    pub(super) async fn stats(
        &self,
        call: &Call,
        request: v1::GetEndpointStatsRequest,
    ) -> Result<v1::GetEndpointStatsResponse, Fault> {
        let id: EndpointId = validate::id("id", &request.id)?;
        let mut violations = Violations::default();
        let window = request
            .window
            .as_ref()
            .and_then(|window| validate::duration(&mut violations, "window", window, WINDOW))
            .unwrap_or(WINDOW_DEFAULT);
        violations.finish()?;
        let client = self.context.client().await?;
        found(endpoints::find(&client, call.scope(), id).await?, id)?;
        let range = IdRange::between(Some(Utc::now() - window), None);
        let counted = stats::of_endpoint(&client, id, range).await?;
        Ok(v1::GetEndpointStatsResponse { stats: Some(present(&counted)) })
    }
}

fn present(stats: &EndpointStats) -> v1::EndpointStats {
    v1::EndpointStats {
        delivered_count: stats.delivered,
        failed_count: stats.failed,
        dead_count: stats.dead,
        median_duration: stats.median.map(duration),
        p95_duration: stats.p95.map(duration),
        last_success_time: stats.last_success.map(timestamp),
        last_failure_time: stats.last_failure.map(timestamp),
        truncated: stats.truncated,
        waiting_count: stats.waiting,
        due_since_time: stats.due_since.map(timestamp),
        dead_letter_count: stats.dead_letters,
        consecutive_failures: stats.consecutive_failures,
        failing_since_time: stats.failing_since.map(timestamp),
    }
}
