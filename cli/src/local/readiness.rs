//! Waits until a server that was just started answers, or says why it does not.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::folder::Folder;
use super::process::{Process, in_words};
use super::{LocalError, READY_WITHIN};

/// How often a server is asked while it starts.
pub(super) const POLL: Duration = Duration::from_millis(25);
const PROBE_WITHIN: Duration = Duration::from_secs(5);

/// A server that has been started, and where it says what goes wrong.
pub(super) struct Starting<'a> {
    pub(super) program: &'static str,
    pub(super) folder: &'a Folder,
    pub(super) log: &'static str,
}

impl Starting<'_> {
    /// The process, once `probe` finds it answering; killed if it never does.
    pub(super) async fn answered<F>(
        &self,
        mut process: Process,
        probe: impl Fn() -> F,
    ) -> Result<Process, LocalError>
    where
        F: Future<Output = Result<(), String>>,
    {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = process.ended() {
                return Err(LocalError::Ended {
                    program: self.program,
                    status: in_words(status),
                    last_words: self.last_words(),
                });
            }
            let cause = match timeout(PROBE_WITHIN, probe()).await {
                Ok(Ok(())) => return Ok(process),
                Ok(Err(cause)) => cause,
                Err(_) => "it accepted a connection and said nothing".to_owned(),
            };
            if Instant::now() > deadline {
                process.kill().await?;
                return Err(LocalError::Silent {
                    program: self.program,
                    within_s: READY_WITHIN.as_secs(),
                    cause,
                    last_words: self.last_words(),
                });
            }
            sleep(POLL).await;
        }
    }

    fn last_words(&self) -> String {
        self.folder.last_words(self.log)
    }
}
