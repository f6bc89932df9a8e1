//! A server that runs, whichever it is.

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::process::{Process, Stopped, in_words};
use super::readiness::POLL;
use super::{LocalError, READY_WITHIN, STOP_WITHIN};

/// What stays the same over a server's restarts.
pub trait Site {
    /// Its folder is its keeper's from here on.
    fn leave_to_keeper(&mut self);

    /// Starts the server and waits until it answers.
    fn launch(&self, port: u16) -> impl Future<Output = Result<Process, LocalError>> + Send;
}

/// Dropped, it stops too: its keeper sees to it.
#[derive(Debug)]
pub struct Server<S: Site> {
    pub(super) process: Process,
    pub(super) site: S,
    pub(super) port: u16,
}

impl<S: Site> Server<S> {
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until the server ends by itself, and says how.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub async fn ended(&mut self) -> Result<String, LocalError> {
        self.process.wait().await.map(in_words)
    }

    /// Asks it to stop: sessions are cut, what is committed is kept. Killed if it takes too long.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn stop(&mut self) -> Result<Stopped, LocalError> {
        self.process.stop(STOP_WITHIN).await
    }

    /// SIGKILL, as a machine that loses power would have it (but for the kernel's own buffers).
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn kill(&mut self) -> Result<(), LocalError> {
        self.process.kill().await
    }

    /// Stops it where it runs, and starts it again on the same port, with whatever it keeps.
    ///
    /// # Errors
    /// When it does not come back within [`READY_WITHIN`].
    pub async fn restart(&mut self) -> Result<(), LocalError> {
        self.stop().await?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match self.site.launch(self.port).await {
                Ok(process) => {
                    self.process = process;
                    return Ok(());
                }
                // After SIGKILL the old sessions hold on for a moment; a port is a matter of luck.
                Err(LocalError::Ended { .. }) if Instant::now() < deadline => sleep(POLL * 10).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// SIGSTOP: connections stay open and nothing answers. Sessions of Postgres that are at work go on; new ones
    /// are not served.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn pause(&mut self) -> Result<(), LocalError> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// # Errors
    /// When it cannot be signalled.
    pub fn resume(&mut self) -> Result<(), LocalError> {
        self.process.signal(Signal::SIGCONT)
    }
}

impl<S: Site> Drop for Server<S> {
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.site.leave_to_keeper();
        }
    }
}
