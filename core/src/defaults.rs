//! Every default of Bowline, in one place; the test below pins each.

use std::time::Duration;

const SECOND: u64 = 1;
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// Waits after the first, second, … failed attempt; ten attempts in all.
pub const RETRY_SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5 * SECOND),
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(30 * MINUTE),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(5 * HOUR),
    Duration::from_secs(10 * HOUR),
    Duration::from_secs(14 * HOUR),
    Duration::from_secs(20 * HOUR),
    Duration::from_secs(24 * HOUR),
];
/// Each wait is shifted by up to this share of itself, at random.
pub const RETRY_JITTER: f64 = 0.2;
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(24 * HOUR);
pub const RETRY_ATTEMPTS_MAX: u32 = 100;

/// For the whole exchange, response body included.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
pub const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_secs(1);
pub const ATTEMPT_TIMEOUT_MAX: Duration = Duration::from_secs(60);
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub const RESPONSE_CAPTURE_BYTES: usize = 16 * 1024;

pub const ENDPOINT_CONCURRENCY: u32 = 16;
/// References a lane holds before it parks.
pub const LANE_CAPACITY: usize = 2048;
/// The same, of an endpoint that answers promptly and is merely behind for a moment: to park costs as much again as
/// to deliver, and then it falls behind in earnest. Three quarters of what a tenant may have in memory alone.
pub const PROMPT_LANE_CAPACITY: usize = 6144;

pub const BREAKER_FAILURES: u32 = 5;
pub const BREAKER_PAUSE_MIN: Duration = Duration::from_secs(5);
pub const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(5 * MINUTE);

pub const DISABLE_AFTER_FAILURES: u32 = 10;
pub const DISABLE_AFTER: Duration = Duration::from_secs(24 * HOUR);

pub const DEDUP_TTL: Duration = Duration::from_secs(24 * HOUR);
pub const RETENTION: Duration = Duration::from_secs(30 * 24 * HOUR);
/// Of the audit log.
pub const AUDIT_RETENTION: Duration = Duration::from_secs(400 * 24 * HOUR);
pub const BODY_LIMIT_BYTES: u64 = 1024 * 1024;
/// The newest payloads of a source that queries see.
pub const QUERY_WINDOW_PAYLOADS: u32 = 1000;
pub const REJECTIONS_KEPT_PER_SOURCE: u32 = 100;
/// A source fails once verification has refused so many requests in a row,
pub const SOURCE_FAILING_REFUSALS: u64 = 10;
/// over so long,
pub const SOURCE_FAILING_AFTER: Duration = Duration::from_secs(MINUTE);
/// and that is told at most so often.
pub const SOURCE_FAILING_QUIET: Duration = Duration::from_secs(HOUR);

/// A chunk is closed at whichever comes first.
pub const CHUNK_EVENTS_MAX: usize = 64;
pub const CHUNK_INLINE_BYTES_MAX: usize = 256 * 1024;

pub const LEASE: Duration = Duration::from_secs(6);
pub const LEASE_RENEWAL: Duration = Duration::from_secs(2);
/// Without a renewal for this long (by the monotonic clock) nothing new starts.
pub const LEASE_CONFIDENCE: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_defaults() {
        let seconds: Vec<u64> = RETRY_SCHEDULE.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]);
        assert!((RETRY_JITTER - 0.2).abs() < f64::EPSILON);
        assert_eq!(RETRY_AFTER_CAP.as_secs(), 86_400);
        assert_eq!((ATTEMPT_TIMEOUT.as_secs(), CONNECT_TIMEOUT.as_secs()), (10, 5));
        assert_eq!((ATTEMPT_TIMEOUT_MIN.as_secs(), ATTEMPT_TIMEOUT_MAX.as_secs()), (1, 60));
        assert_eq!((ENDPOINT_CONCURRENCY, LANE_CAPACITY), (16, 2048));
        assert_eq!((BREAKER_FAILURES, BREAKER_PAUSE_MIN.as_secs(), BREAKER_PAUSE_MAX.as_secs()), (5, 5, 300));
        assert_eq!((DISABLE_AFTER_FAILURES, DISABLE_AFTER.as_secs()), (10, 86_400));
        assert_eq!(RESPONSE_CAPTURE_BYTES, 16_384);
        assert_eq!(
            (DEDUP_TTL.as_secs(), RETENTION.as_secs(), BODY_LIMIT_BYTES),
            (86_400, 2_592_000, 1_048_576)
        );
        assert_eq!(AUDIT_RETENTION.as_secs(), 34_560_000);
        assert_eq!((QUERY_WINDOW_PAYLOADS, REJECTIONS_KEPT_PER_SOURCE), (1000, 100));
        assert_eq!(SOURCE_FAILING_REFUSALS, 10);
        assert_eq!((SOURCE_FAILING_AFTER.as_secs(), SOURCE_FAILING_QUIET.as_secs()), (60, 3600));
        assert_eq!((CHUNK_EVENTS_MAX, CHUNK_INLINE_BYTES_MAX), (64, 262_144));
        assert_eq!((LEASE.as_secs(), LEASE_RENEWAL.as_secs(), LEASE_CONFIDENCE.as_secs()), (6, 2, 4));
    }
}
