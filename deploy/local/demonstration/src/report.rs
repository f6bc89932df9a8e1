//! One plain line a check, with the time it took; the end says whether all was as it should be.

use std::time::{Duration, Instant};

/// Counts what went well and what did not.
#[derive(Debug, Default)]
pub(crate) struct Report {
    checks: u32,
    failures: u32,
}

impl Report {
    /// A heading over the lines that follow.
    #[expect(clippy::unused_self, reason = "what is printed belongs to a report")]
    pub(crate) fn heading(&self, text: &str) {
        println!("\n{text}");
    }

    /// A line for what was just done, timed from `since`.
    pub(crate) fn check(&mut self, since: Instant, outcome: anyhow::Result<String>) -> bool {
        self.timed(since.elapsed(), outcome)
    }

    /// A line with a time that was measured elsewhere.
    pub(crate) fn timed(&mut self, took: Duration, outcome: anyhow::Result<String>) -> bool {
        self.checks += 1;
        let took_ms = took.as_secs_f64() * 1_000.0;
        match outcome {
            Ok(text) => println!("  ok     {took_ms:>9.1} ms  {text}"),
            Err(error) => {
                self.failures += 1;
                println!("  FAILED {took_ms:>9.1} ms  {error:#}");
                return false;
            }
        }
        true
    }

    /// The last line; whether everything was as it should be.
    pub(crate) fn end(&self, took: Duration) -> bool {
        let seconds = took.as_secs_f64();
        if self.failures == 0 {
            println!("\nThe demonstration: all {} checks hold, in {seconds:.1} s.", self.checks);
        } else {
            println!(
                "\nThe demonstration: {} of {} checks FAILED, in {seconds:.1} s.",
                self.failures, self.checks
            );
        }
        self.failures == 0
    }
}
