//! When a failed delivery is tried again, as a caller wants it.

use std::time::Duration;

use bowline_core::defaults;
use bowline_core::endpoint::{Backoff, RetryPolicy, StatusAction, StatusOverride};
use bowline_proto::v1;
use bowline_proto::v1::retry_policy::Backoff as WireBackoff;

use super::{Range, Violations, excerpt};

const WAITS_MAX: usize = 99;
const OVERRIDES_MAX: usize = 16;
const FACTOR_DEFAULT: f64 = 2.0;

const DAY: u64 = 24 * 3600;
const WAIT: Range = Range { min: Duration::ZERO, max: Duration::from_secs(7 * DAY), text: "0 s to 7 days" };
const INITIAL: Range =
    Range { min: Duration::from_millis(100), max: Duration::from_secs(DAY), text: "100 ms to 24 h" };
const MAX_AGE: Range =
    Range { min: Duration::from_secs(60), max: Duration::from_secs(30 * DAY), text: "1 min to 30 days" };

pub(super) fn check(violations: &mut Violations, retry: &v1::RetryPolicy) -> RetryPolicy {
    if retry.max_attempts > defaults::RETRY_ATTEMPTS_MAX {
        violations.add(
            "endpoint.retry.max_attempts",
            format!("must be 1 to {}, or 0 for the default", defaults::RETRY_ATTEMPTS_MAX),
        );
    }
    let backoff = match &retry.backoff {
        None => RetryPolicy::default().backoff,
        Some(WireBackoff::Schedule(schedule)) => check_schedule(violations, schedule),
        Some(WireBackoff::Exponential(exponential)) => check_exponential(violations, exponential),
        Some(WireBackoff::Fixed(fixed)) => check_fixed(violations, fixed),
    };
    let max_attempts = match (retry.max_attempts, &backoff) {
        (0, Backoff::Schedule { waits, .. }) => waits.len() as u32 + 1,
        (0, Backoff::Exponential { .. } | Backoff::Fixed { .. }) => RetryPolicy::default().max_attempts,
        (given, _) => given,
    };
    let max_age = retry
        .max_age
        .as_ref()
        .and_then(|age| super::duration(violations, "endpoint.retry.max_age", age, MAX_AGE));
    RetryPolicy { max_attempts, backoff, max_age, overrides: check_overrides(violations, &retry.overrides) }
}

fn check_schedule(violations: &mut Violations, schedule: &v1::ScheduleBackoff) -> Backoff {
    let field = "endpoint.retry.schedule";
    if !(1..=WAITS_MAX).contains(&schedule.waits.len()) {
        violations.add(format!("{field}.waits"), format!("must hold 1 to {WAITS_MAX} waits"));
    }
    let jitter = check_jitter(violations, field, schedule.jitter);
    let waits = schedule
        .waits
        .iter()
        .take(WAITS_MAX)
        .enumerate()
        .filter_map(|(index, wait)| {
            super::duration(violations, &format!("{field}.waits[{index}]"), wait, WAIT)
        })
        .collect();
    Backoff::Schedule { waits, jitter }
}

fn check_exponential(violations: &mut Violations, wire: &v1::ExponentialBackoff) -> Backoff {
    let field = "endpoint.retry.exponential";
    let initial = match &wire.initial {
        None => defaults::RETRY_SCHEDULE[0],
        Some(initial) => {
            super::duration(violations, &format!("{field}.initial"), initial, INITIAL).unwrap_or_default()
        }
    };
    let max = match &wire.max {
        None => Duration::from_secs(DAY),
        Some(max) => super::duration(violations, &format!("{field}.max"), max, WAIT).unwrap_or(WAIT.max),
    };
    if max < initial {
        violations.add(format!("{field}.max"), "must not be less than initial");
    }
    let factor = if wire.factor == 0.0 { FACTOR_DEFAULT } else { wire.factor };
    if !(1.0..=10.0).contains(&factor) {
        violations.add(format!("{field}.factor"), "must be 1 to 10, or 0 for 2");
    }
    Backoff::Exponential { initial, factor, max }
}

fn check_jitter(violations: &mut Violations, field: &str, jitter: Option<f64>) -> f64 {
    let jitter = jitter.unwrap_or(defaults::RETRY_JITTER);
    if !(0.0..=1.0).contains(&jitter) {
        violations.add(format!("{field}.jitter"), "must be 0 to 1");
    }
    jitter
}

fn check_fixed(violations: &mut Violations, fixed: &v1::FixedBackoff) -> Backoff {
    let field = "endpoint.retry.fixed";
    let jitter = check_jitter(violations, field, fixed.jitter);
    let wait = if let Some(wait) = &fixed.wait {
        super::duration(violations, &format!("{field}.wait"), wait, WAIT)
    } else {
        violations.add(format!("{field}.wait"), "is required");
        None
    };
    Backoff::Fixed { wait: wait.unwrap_or_default(), jitter }
}

fn check_overrides(violations: &mut Violations, overrides: &[v1::StatusOverride]) -> Vec<StatusOverride> {
    let field = "endpoint.retry.overrides";
    if overrides.len() > OVERRIDES_MAX {
        violations.add(field, format!("must hold at most {OVERRIDES_MAX} entries"));
        return Vec::new();
    }
    overrides
        .iter()
        .enumerate()
        .filter_map(|(index, wire)| check_override(violations, &format!("{field}[{index}]"), wire))
        .collect()
}

fn check_override(
    violations: &mut Violations,
    field: &str,
    wire: &v1::StatusOverride,
) -> Option<StatusOverride> {
    if !(1..=OVERRIDES_MAX).contains(&wire.statuses.len()) {
        violations.add(format!("{field}.statuses"), format!("must hold 1 to {OVERRIDES_MAX} statuses"));
    }
    let wait = wire.wait.as_ref();
    let wait = wait.and_then(|wait| super::duration(violations, &format!("{field}.wait"), wait, WAIT));
    let then = match wire.action() {
        v1::StatusAction::Retry => Some(StatusAction::Retry { wait }),
        v1::StatusAction::Dead if wire.wait.is_some() => {
            violations.add(format!("{field}.wait"), "must be absent: nothing is waited for");
            None
        }
        v1::StatusAction::Dead => Some(StatusAction::Dead),
        v1::StatusAction::Unspecified => {
            violations.add(format!("{field}.action"), "must be RETRY or DEAD");
            None
        }
    };
    let mut statuses = Vec::new();
    for (index, text) in wire.statuses.iter().take(OVERRIDES_MAX).enumerate() {
        match span(text) {
            Some(span) => statuses.push(span),
            None => violations.add(
                format!("{field}.statuses[{index}]"),
                format!("`{}` is no status from 300 on, as 404, 4xx or 500-504", excerpt(text)),
            ),
        }
    }
    Some(StatusOverride { statuses, then: then? })
}

/// `404`, `4xx`, `500-504`.
fn span(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|status| digits && (300..=599).contains(status))
    };
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (3..=5).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(retry: &v1::RetryPolicy) -> Vec<String> {
        super::super::faults(|it| check(it, retry))
    }

    fn draft(retry: &v1::RetryPolicy) -> RetryPolicy {
        let mut violations = Violations::default();
        let draft = check(&mut violations, retry);
        violations.finish().unwrap();
        draft
    }

    fn seconds(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    #[test]
    fn retries() {
        let retry = |retry| retry;
        let schedule = |waits: Vec<i64>, jitter| v1::RetryPolicy {
            backoff: Some(WireBackoff::Schedule(v1::ScheduleBackoff {
                waits: waits.into_iter().map(seconds).collect(),
                jitter,
            })),
            ..v1::RetryPolicy::default()
        };
        let policy = draft(&retry(schedule(vec![0, 1], Some(0.0))));
        assert_eq!(policy.max_attempts, 3);
        assert_eq!(
            policy.backoff,
            Backoff::Schedule { waits: vec![Duration::ZERO, Duration::from_secs(1)], jitter: 0.0 }
        );
        assert_eq!(faults(&retry(schedule(vec![], None))), ["endpoint.retry.schedule.waits"]);
        assert_eq!(faults(&retry(schedule(vec![1, -1], None))), ["endpoint.retry.schedule.waits[1]"]);
        assert_eq!(faults(&retry(schedule(vec![1], Some(f64::NAN)))), ["endpoint.retry.schedule.jitter"]);
        let exponential = |initial, factor, max| {
            retry(v1::RetryPolicy {
                backoff: Some(WireBackoff::Exponential(v1::ExponentialBackoff {
                    initial: Some(seconds(initial)),
                    factor,
                    max: Some(seconds(max)),
                })),
                ..v1::RetryPolicy::default()
            })
        };
        assert_eq!(draft(&exponential(1, 0.0, 60)).max_attempts, 10);
        assert_eq!(faults(&exponential(60, 2.0, 1)), ["endpoint.retry.exponential.max"]);
        assert_eq!(faults(&exponential(1, 0.5, 60)), ["endpoint.retry.exponential.factor"]);
        let too_many =
            v1::RetryPolicy { max_attempts: 101, max_age: Some(seconds(1)), ..v1::RetryPolicy::default() };
        assert_eq!(faults(&retry(too_many)), ["endpoint.retry.max_attempts", "endpoint.retry.max_age"]);
    }

    #[test]
    fn a_fixed_wait_is_said() {
        let fixed = |wait: Option<prost_types::Duration>, jitter| v1::RetryPolicy {
            backoff: Some(WireBackoff::Fixed(v1::FixedBackoff { wait, jitter })),
            ..v1::RetryPolicy::default()
        };
        let half = prost_types::Duration { seconds: 0, nanos: 500_000_000 };
        let policy = draft(&fixed(Some(half), Some(0.0)));
        assert_eq!(policy.backoff, Backoff::Fixed { wait: Duration::from_millis(500), jitter: 0.0 });
        assert_eq!(policy.max_attempts, 10);
        assert_eq!(
            faults(&fixed(None, Some(2.0))),
            ["endpoint.retry.fixed.jitter", "endpoint.retry.fixed.wait"]
        );
    }

    #[test]
    fn overrides_name_statuses() {
        let own = |statuses: &[&str], action: v1::StatusAction, wait| v1::RetryPolicy {
            overrides: vec![v1::StatusOverride {
                statuses: statuses.iter().map(|text| (*text).to_owned()).collect(),
                action: action.into(),
                wait,
            }],
            ..v1::RetryPolicy::default()
        };
        let policy = draft(&own(&["404", "5xx", "420-429"], v1::StatusAction::Retry, Some(seconds(3))));
        assert_eq!(
            policy.overrides,
            [StatusOverride {
                statuses: vec![(404, 404), (500, 599), (420, 429)],
                then: StatusAction::Retry { wait: Some(Duration::from_secs(3)) },
            }]
        );
        let field = "endpoint.retry.overrides[0]";
        for bad in ["200", "2xx", "299-301", "6xx", "600", "504-500", "", "xx", "+40", "40x", "4xx-5xx"] {
            let fault = format!("{field}.statuses[0]");
            assert_eq!(faults(&own(&[bad], v1::StatusAction::Dead, None)), [fault], "{bad}");
        }
        assert_eq!(faults(&own(&[], v1::StatusAction::Dead, None)), [format!("{field}.statuses")]);
        assert_eq!(faults(&own(&["4xx"], v1::StatusAction::Unspecified, None)), [format!("{field}.action")]);
        assert_eq!(
            faults(&own(&["4xx"], v1::StatusAction::Dead, Some(seconds(1)))),
            [format!("{field}.wait")]
        );
    }
}
