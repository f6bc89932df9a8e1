//! Token buckets that all replicas draw from, a few tokens at a time.

use std::time::Duration;

use super::{StreamError, Streams};

/// By the clock of Redis, which is one for all. What is left is in whole and broken tokens.
const SCRIPT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1]) or burst, tonumber(kept[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate / 1000)
local given = math.min(wanted, math.floor(tokens))
tokens = tokens - given
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.3f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return {given, math.ceil(math.max(0, 1 - tokens) / rate * 1000000)}";

/// What a bucket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub tokens: u32,
    /// Until it has another one; nothing while it has.
    pub wait: Duration,
}

impl Streams {
    /// Takes up to `wanted` tokens out of the bucket of this name, which fills by `rate_per_s` up to
    /// `burst`; one that nobody has asked for is full.
    pub async fn lease(
        &self,
        name: &str,
        (rate_per_s, burst): (f64, f64),
        wanted: u32,
    ) -> Result<Lease, StreamError> {
        let mut command = redis::cmd("EVAL");
        command.arg(SCRIPT).arg(1).arg(format!("{}:rate:{name}", self.shared.prefix));
        command.arg(rate_per_s).arg(burst).arg(wanted);
        let (tokens, wait_us): (u32, u64) = self.command(&command).await?;
        Ok(Lease { tokens, wait: Duration::from_micros(wait_us) })
    }
}
