//! Tests of endpoints that somebody waits for: taken past everything that holds up other deliveries,
//! and sent past the lanes.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::store::{self, chunks, queue};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::claim::Claims;
use crate::job::{Age, Job, NewJob};
use crate::record::Entry;

/// Somebody waits for the answer.
const SCAN: Duration = Duration::from_millis(100);
/// Tests one dispatcher has out at a time.
const AT_A_TIME: usize = 64;
/// Nobody waits for a test any more that nobody took for so long.
const STALE_AFTER: Duration = Duration::from_secs(30);
/// Room in memory is waited for this long.
const PATIENCE: Duration = Duration::from_secs(1);
/// After an error the next look is this far.
const PAUSE: Duration = Duration::from_secs(1);

impl Claims {
    /// Takes tests and sends each.
    pub(crate) async fn tests(self: Arc<Self>) -> Result<(), store::Error> {
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        loop {
            let began = Instant::now();
            let pause = match self.take_tests(&places).await {
                Ok(()) => SCAN,
                Err(error) => {
                    tracing::warn!(%error, "tests were not taken");
                    PAUSE
                }
            };
            tokio::time::sleep_until(began + pause).await;
        }
    }

    async fn take_tests(&self, places: &Arc<Semaphore>) -> Result<(), store::Error> {
        let free = places.available_permits();
        if !self.replica.may_start() || free == 0 {
            return Ok(());
        }
        let life = self.replica.id();
        let client = self.pool.get().await?;
        for test in queue::claim_tests(&client, life, STALE_AFTER, free as i64).await? {
            self.matcher.snapshot.catch_up(test.config_version).await?;
            let event = chunks::load(&client, &[test.key.event_id]).await?.pop();
            let load = match event {
                Some(event) => {
                    let held = self.matcher.hold(event, PATIENCE).await;
                    self.matcher.load(test.tenant_id, held.as_ref(), PATIENCE).await
                }
                None => None,
            };
            let Some(load) = load else {
                self.recorder.send(Entry::Release { key: test.key, life, due_in: Duration::ZERO }).await;
                continue;
            };
            let job = Job::new(NewJob {
                key: test.key,
                tenant_id: test.tenant_id,
                load: Some(load),
                chunk: None,
                life,
                attempt: 0,
                used: 0,
                age: Age::OfEvent,
                test: true,
            });
            let lanes = Arc::clone(&self.lanes);
            // There are as many as are free.
            let Ok(place) = Arc::clone(places).try_acquire_owned() else { continue };
            self.lanes.tasks.spawn(async move {
                lanes.test(job).await;
                drop(place);
            });
        }
        Ok(())
    }
}
