//! The faults by name: what each touches, how long it lasts, and whether it may cause duplicates.

use std::fmt;
use std::ops::RangeInclusive;

use crate::replica::faketime;
use crate::site::Means;

/// What a fault touches: faults are mixed only where they touch different parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Ingest,
    Dispatcher,
    Redis,
    Postgres,
    Clients,
    Receivers,
    Clock,
}

macro_rules! faults {
    ($($fault:ident = $name:literal, $part:ident, $hold:expr;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault { $($fault,)* }

        /// All of them, in the order of the table.
        pub const FAULTS: &[Fault] = &[$(Fault::$fault,)*];

        impl Fault {
            pub fn name(self) -> &'static str {
                match self { $(Self::$fault => $name,)* }
            }

            pub fn part(self) -> Part {
                match self { $(Self::$fault => Part::$part,)* }
            }

            /// For how many seconds it lasts.
            pub fn hold_s(self) -> RangeInclusive<u32> {
                match self { $(Self::$fault => $hold,)* }
            }
        }
    };
}

faults! {
    IngestKill = "ingest.kill", Ingest, 1..=4;
    IngestTerm = "ingest.term", Ingest, 1..=4;
    IngestStop = "ingest.stop", Ingest, 8..=10;
    DispatcherKill = "dispatcher.kill", Dispatcher, 2..=9;
    DispatcherTerm = "dispatcher.term", Dispatcher, 1..=4;
    DispatcherStop = "dispatcher.stop", Dispatcher, 9..=13;
    RedisKill = "redis.kill", Redis, 2..=7;
    RedisFlush = "redis.flush", Redis, 1..=3;
    RedisRestart = "redis.restart", Redis, 1..=3;
    RedisPause = "redis.pause", Redis, 3..=9;
    RedisMemory = "redis.memory", Redis, 3..=8;
    PostgresRestart = "postgres.restart", Postgres, 1..=5;
    PostgresKill = "postgres.kill", Postgres, 1..=9;
    PostgresPause = "postgres.pause", Postgres, 2..=10;
    PostgresConnections = "postgres.connections", Postgres, 3..=9;
    PostgresSlow = "postgres.slow", Postgres, 4..=8;
    PostgresFull = "postgres.full", Postgres, 4..=9;
    NetPostgresCut = "net.postgres.cut", Postgres, 2..=10;
    NetPostgresSlow = "net.postgres.slow", Postgres, 4..=8;
    NetPostgresHalf = "net.postgres.half", Postgres, 2..=12;
    NetRedisCut = "net.redis.cut", Redis, 2..=7;
    NetRedisSlow = "net.redis.slow", Redis, 3..=7;
    NetRedisHalf = "net.redis.half", Redis, 3..=9;
    NetReceiverCut = "net.receiver.cut", Receivers, 2..=7;
    NetReceiverSlow = "net.receiver.slow", Receivers, 3..=7;
    NetReceiverHalf = "net.receiver.half", Receivers, 3..=7;
    NetClientCut = "net.client.cut", Clients, 2..=6;
    NetClientSlow = "net.client.slow", Clients, 3..=6;
    NetClientHalf = "net.client.half", Clients, 3..=8;
    ClockIngest = "clock.ingest", Clock, 4..=9;
    ClockDispatcher = "clock.dispatcher", Clock, 4..=9;
    ReceiverHang = "receiver.hang", Receivers, 4..=8;
    ReceiverLie = "receiver.lie", Receivers, 3..=8;
    ReceiverDead = "receiver.dead", Receivers, 3..=8;
}

impl Fault {
    pub fn named(name: &str) -> Option<Self> {
        FAULTS.iter().copied().find(|fault| fault.name() == name)
    }

    /// Why it cannot be made to happen here, if it cannot.
    pub fn skipped(self, means: Means) -> Option<String> {
        match self {
            Self::PostgresFull if !means.may_mount => Some(
                "no small filesystem: needs root and a mount namespace of its own, which tests/faults/run makes"
                    .to_owned(),
            ),
            Self::ClockIngest | Self::ClockDispatcher if faketime().is_none() => {
                Some("libfaketime is not installed (Debian: apt install faketime)".to_owned())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A moment at which requests that were out may be sent once more (invariant 3).
#[derive(Debug, Clone)]
pub struct Disturbance {
    pub what: String,
    pub from_s: f64,
    /// Requests that arrived until then may have been out.
    pub until_s: f64,
    /// A process was stopped, and went on.
    pub stops: bool,
}

impl Disturbance {
    /// Whether it explains that a request, which arrived at `first_s` and was recorded at
    /// `recorded_s`, came again at `again_s`: it was out, and unrecorded, at the time.
    pub fn explains(&self, first_s: f64, recorded_s: Option<f64>, again_s: f64) -> bool {
        // `recorded_at` is when the transaction began, and that may have been held up.
        const TRANSACTION_S: f64 = 1.0;
        first_s <= self.until_s
            && self.from_s <= again_s
            && recorded_s.is_none_or(|recorded| recorded >= self.from_s - TRANSACTION_S)
    }

    /// Whether it came between the beginning of an attempt and its record. A process that is stopped
    /// there sends the rest of its request when it goes on, whoever has taken over meanwhile.
    pub fn found_under_way(&self, begun_s: f64, recorded_s: f64) -> bool {
        self.stops && begun_s <= self.until_s && recorded_s >= self.from_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_found_by_its_name() {
        for fault in FAULTS {
            assert_eq!(Fault::named(fault.name()), Some(*fault));
        }
        assert_eq!(Fault::named("flood"), None);
    }

    #[test]
    fn only_what_was_out_at_the_time_is_explained() {
        let crash = Disturbance { what: "crash".into(), from_s: 100.0, until_s: 100.3, stops: false };
        assert!(crash.explains(99.9, None, 109.0), "out, never recorded");
        assert!(crash.explains(99.9, Some(109.1), 109.0), "recorded by who took over");
        assert!(!crash.explains(99.9, Some(98.0), 109.0), "recorded long before");
        assert!(!crash.explains(105.0, None, 109.0), "sent after the crash");
        assert!(!crash.explains(90.0, None, 95.0), "repeated before the crash");
        assert!(!crash.found_under_way(99.9, 109.0), "nothing goes on after a crash");
        let stop = Disturbance { stops: true, ..crash };
        assert!(stop.found_under_way(99.9, 109.0), "stopped in the middle");
        assert!(!stop.found_under_way(99.0, 99.9) && !stop.found_under_way(105.0, 109.0));
    }
}
