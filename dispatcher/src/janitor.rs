//! The janitor: takes away what is older than the retention. Every dispatcher would; the one that holds the
//! lock does, and when it ends, however it ends, another goes on where it stopped.
//!
//! It works in small batches and rests for several times as long as each took: what is old can wait, and the
//! hot path cannot.

use std::time::Duration;

use bowline_core::bootstrap::config::RetentionConfig;
use bowline_core::crash;
use bowline_core::store::Error;
use bowline_core::store::retention::retire::{Retired, Stage};
use bowline_core::store::retention::sweep::{self, Sweep};
use bowline_core::store::retention::{Session, expire};
use chrono::Utc;
use tokio::time::Instant;
use uuid::Uuid;

/// How often one that is not the janitor asks whether it can be.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// A batch is followed by a rest of so many times its own length.
const REST: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(2);
/// Walking all deduplication keys comes once in so many rounds.
const KEYS_EVERY: u64 = 60;

#[derive(Debug)]
pub(crate) struct Janitor {
    pub(crate) direct_url: String,
    pub(crate) retention: RetentionConfig,
}

impl Janitor {
    /// Waits for the lock, then works until its session ends.
    pub(crate) async fn work(self) -> Result<(), Error> {
        let held = metrics::gauge!("bowline_dispatcher_janitor_held");
        held.set(0);
        let mut session = Session::open(&self.direct_url).await?;
        while !session.try_lock().await? {
            tokio::time::sleep(ASK_AGAIN.min(self.retention.janitor_period)).await;
        }
        held.set(1);
        tracing::info!("this dispatcher is the janitor");
        let ended = self.keep_house(&mut session).await;
        held.set(0);
        ended
    }

    async fn keep_house(&self, session: &mut Session) -> Result<(), Error> {
        for number in 0.. {
            let began = Instant::now();
            self.round(session).await?;
            if number % KEYS_EVERY == 0 {
                let ended = self.keys(session).await;
                judge(session, "dedup_keys", ended).await?;
            }
            metrics::histogram!("bowline_dispatcher_janitor_round_seconds")
                .record(began.elapsed().as_secs_f64());
            tokio::time::sleep_until(began + self.retention.janitor_period).await;
        }
        Ok(())
    }

    /// Everything once. A task that fails does not keep the others from their work.
    async fn round(&self, session: &mut Session) -> Result<(), Error> {
        let ended = self.expire(session).await;
        judge(session, "expire", ended).await?;
        let ended = self.retire(session).await;
        judge(session, "retire", ended).await?;
        let ended = self.tenants(session).await;
        judge(session, "tenants", ended).await?;
        let ended = self.kept(session).await;
        judge(session, "kept", ended).await?;
        for sweep in Sweep::ALL {
            let swept = self.sweep(session, sweep).await;
            judge(session, sweep.table(), swept).await?;
        }
        Ok(())
    }

    async fn expire(&self, session: &mut Session) -> Result<(), Error> {
        let retention = self.retention.events;
        let age = session.shortest_age(retention).await?;
        let mut after = None;
        loop {
            let began = Instant::now();
            let expire::Walk { expired, next } = session.expire(age, retention, after).await?;
            swept("queue", expired);
            after = next;
            if after.is_none() {
                return Ok(());
            }
            rest(began).await;
        }
    }

    /// Days that are over are taken off their tables, and dropped later.
    async fn retire(&self, session: &Session) -> Result<(), Error> {
        for (name, parent, day) in session.partitions_before(Utc::now() - self.retention.events).await? {
            let begun = session.begin_retirement(&name, parent, day).await;
            if let Some(copied) = unless_in_use(&name, begun)? {
                tracing::info!(partition = name, copied, "a day is past its retention");
                crash::point("janitor_after_rename");
            }
        }
        for retired in session.retired().await? {
            unless_in_use(&retired.name, self.carry_on(session, &retired).await)?;
        }
        Ok(())
    }

    async fn carry_on(&self, session: &Session, retired: &Retired) -> Result<(), Error> {
        let counted = |step| {
            metrics::counter!("bowline_dispatcher_janitor_partitions_total", "step" => step).increment(1);
        };
        match retired.stage() {
            Stage::Attached | Stage::Pending => {
                session.detach(retired).await?;
                counted("detached");
                crash::point("janitor_after_detach");
                let copied = session.copy_detached(retired).await?;
                tracing::info!(partition = retired.name, copied, "partition detached");
            }
            Stage::Detached => {
                let copied = session.copy_detached(retired).await?;
                tracing::info!(partition = retired.name, copied, "partition detached");
            }
            Stage::Copied { ago } if ago >= self.retention.dropped_after => {
                session.copy_detached(retired).await?;
                crash::point("janitor_before_drop");
                session.drop_retired(retired).await?;
                counted("dropped");
                tracing::info!(partition = retired.name, "partition dropped");
            }
            Stage::Copied { .. } => {}
            Stage::Gone => session.drop_retired(retired).await?,
        }
        Ok(())
    }

    async fn tenants(&self, session: &mut Session) -> Result<(), Error> {
        for (tenant, retention) in session.tenant_retentions().await? {
            if retention >= self.retention.events {
                continue;
            }
            let cutoff = Utc::now() - retention;
            let mut after = Some(Uuid::nil());
            while let Some(from) = after {
                let began = Instant::now();
                let (rows, next) = session.sweep_tenant(tenant, cutoff, from).await?;
                swept("events", rows);
                after = next;
                rest(began).await;
            }
        }
        Ok(())
    }

    async fn kept(&self, session: &mut Session) -> Result<(), Error> {
        let mut after = Some(Uuid::nil());
        while let Some(from) = after {
            let began = Instant::now();
            let (rows, next) = session.sweep_kept(from).await?;
            swept("events_kept", rows);
            after = next;
            rest(began).await;
        }
        Ok(())
    }

    async fn keys(&self, session: &Session) -> Result<(), Error> {
        let mut page = Some(0);
        while let Some(from) = page {
            let began = Instant::now();
            let (rows, next) = session.sweep_keys(from).await?;
            swept("dedup_keys", rows);
            page = next;
            rest(began).await;
        }
        Ok(())
    }

    async fn sweep(&self, session: &Session, sweep: Sweep) -> Result<(), Error> {
        let age = if sweep == Sweep::AuditLog { self.retention.audit } else { self.retention.events };
        loop {
            let began = Instant::now();
            let rows = session.sweep(sweep, Utc::now() - age).await?;
            swept(sweep.table(), rows);
            crash::point("janitor_after_sweep");
            if rows < sweep::BATCH as u64 {
                return Ok(());
            }
            rest(began).await;
        }
    }
}

/// Goes on after a failure that is one task's own, and only while this session is the janitor's.
async fn judge(session: &Session, task: &'static str, ended: Result<(), Error>) -> Result<(), Error> {
    if let Err(error) = ended {
        metrics::counter!("bowline_dispatcher_janitor_failures_total", "task" => task).increment(1);
        if session.is_closed() {
            return Err(error);
        }
        tracing::warn!(task, %error, "the janitor could not do a task");
    }
    if session.holds().await? { Ok(()) } else { Err(Error::NotTheJanitor) }
}

/// Somebody reads it, or a transaction from before is still open: the next round comes again.
fn unless_in_use<T>(partition: &str, ended: Result<T, Error>) -> Result<Option<T>, Error> {
    match ended {
        Err(error) if error.is_lock_timeout() => {
            tracing::info!(partition, %error, "a partition is in use: later");
            Ok(None)
        }
        other => other.map(Some),
    }
}

fn swept(table: &'static str, rows: u64) {
    if rows > 0 {
        metrics::counter!("bowline_dispatcher_janitor_rows_total", "table" => table).increment(rows);
        tracing::debug!(table, rows, "rows swept");
    }
}

async fn rest(began: Instant) {
    tokio::time::sleep((began.elapsed() * REST).min(REST_MAX)).await;
}
