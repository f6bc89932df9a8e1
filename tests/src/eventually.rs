//! Waiting for a condition, with a bound.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Long enough for two busy cores; a test that needs it has failed anyway.
pub const BOUND: Duration = Duration::from_secs(60);
/// How often a condition is asked.
const PACE: Duration = Duration::from_millis(20);

/// Asks until `condition` gives `Ok`, and fails with its last `Err` after `bound`.
///
/// # Panics
/// When the bound has passed: that is the failure being reported.
#[track_caller]
pub fn eventually<T, E: Debug>(
    bound: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        loop {
            match condition().await {
                Ok(value) => return value,
                Err(last) if start.elapsed() > bound => {
                    panic!("{place}: not within {} s: {last:?}", bound.as_secs())
                }
                Err(_) => tokio::time::sleep(PACE).await,
            }
        }
    }
}

/// A condition for [`eventually`]: `Ok` when it holds, else what was seen.
///
/// # Errors
/// What was seen, when the condition does not hold.
pub fn holds<T: Debug>(condition: bool, seen: T) -> Result<T, T> {
    if condition { Ok(seen) } else { Err(seen) }
}
