//! The one clock of a run: seconds since 1970, comparable with what Postgres writes down.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in seconds.
pub fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
