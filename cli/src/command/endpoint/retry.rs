//! When a failed delivery is tried again, and when Bowline gives an endpoint up, as flags.

use bowline_proto::v1;
use bowline_proto::v1::retry_policy::Backoff;
use clap::Args;

use crate::command::duration;
use crate::failure::Failure;

/// A retry policy, given in whole or in part.
#[derive(Debug, Default, Args)]
pub(super) struct RetryFlags {
    /// The waits after the first failure, the second, and so on, such as 5s,5m,2h; the last one repeats
    #[arg(
        long,
        visible_alias = "retry-wait",
        value_parser = duration,
        value_delimiter = ',',
        value_name = "DURATION",
        help_heading = "Retry"
    )]
    retry_schedule: Vec<prost_types::Duration>,
    /// Each wait of the schedule, or the fixed one, is shifted by up to this share of itself; 0 to 1, default: 0.2
    #[arg(long, value_name = "SHARE", help_heading = "Retry")]
    retry_jitter: Option<f64>,
    /// Waits that grow, instead of a schedule: random, up to a bound that is multiplied each time
    #[arg(long, conflicts_with_all = ["retry_schedule", "retry_jitter"], help_heading = "Retry")]
    retry_exponential: bool,
    /// With --retry-exponential, the first bound; default: 5s
    #[arg(long, value_parser = duration, value_name = "DURATION", help_heading = "Retry")]
    retry_initial: Option<prost_types::Duration>,
    /// With --retry-exponential, 1 to 10; default: 2
    #[arg(long, value_name = "FACTOR", help_heading = "Retry")]
    retry_factor: Option<f64>,
    /// With --retry-exponential, the largest bound; default: 24h
    #[arg(long, value_parser = duration, value_name = "DURATION", help_heading = "Retry")]
    retry_max: Option<prost_types::Duration>,
    /// The same wait after each failure, such as 30s or 500ms
    #[arg(
        long,
        value_parser = duration,
        conflicts_with_all = ["retry_schedule", "retry_exponential"],
        value_name = "DURATION",
        help_heading = "Retry"
    )]
    retry_fixed: Option<prost_types::Duration>,
    /// What statuses mean here: 404=dead, 5xx=30s (waits so long) or 410=retry; 404,420-429=dead names several; may
    /// be repeated, the first that fits counts. A change replaces all of them
    #[arg(long = "on-status", value_parser = on_status, value_name = "STATUSES=WHAT", help_heading = "Retry")]
    overrides: Vec<v1::StatusOverride>,
    /// Attempts in all; default: one more than the schedule has waits
    #[arg(long, value_name = "N", help_heading = "Retry")]
    max_attempts: Option<u32>,
    /// A delivery that waits longer than this expires; default: 30 days
    #[arg(long, value_parser = duration, value_name = "DURATION", help_heading = "Retry")]
    retry_max_age: Option<prost_types::Duration>,
}

impl RetryFlags {
    /// The policy, laid over the one that is there; `None` where nothing was given.
    ///
    /// # Errors
    /// When a flag belongs to a kind of waiting that is not the endpoint's.
    pub(super) fn over(&self, current: Option<&v1::RetryPolicy>) -> Result<Option<v1::RetryPolicy>, Failure> {
        let exponential = [
            (self.retry_initial.is_some(), "--retry-initial"),
            (self.retry_factor.is_some(), "--retry-factor"),
            (self.retry_max.is_some(), "--retry-max"),
        ];
        let grown = exponential.iter().find(|(given, _)| *given).map(|(_, flag)| *flag);
        let nothing = self.retry_schedule.is_empty()
            && self.retry_jitter.is_none()
            && !self.retry_exponential
            && grown.is_none()
            && self.retry_fixed.is_none()
            && self.overrides.is_empty()
            && self.max_attempts.is_none()
            && self.retry_max_age.is_none();
        if nothing {
            return Ok(None);
        }
        let mut policy = current.cloned().unwrap_or_default();
        let kind_before = policy.backoff.as_ref().map(std::mem::discriminant);
        let waits_before = schedule_length(&policy);
        self.set_backoff(&mut policy, grown)?;
        let other_waits = kind_before != policy.backoff.as_ref().map(std::mem::discriminant)
            || waits_before != schedule_length(&policy);
        match self.max_attempts {
            Some(attempts) => policy.max_attempts = attempts,
            // The number that fitted the old waits says nothing of the new ones: the default again.
            None if other_waits => policy.max_attempts = 0,
            None => {}
        }
        policy.max_age = self.retry_max_age.or(policy.max_age);
        if !self.overrides.is_empty() {
            policy.overrides.clone_from(&self.overrides);
        }
        Ok(Some(policy))
    }

    fn set_backoff(&self, policy: &mut v1::RetryPolicy, grown: Option<&str>) -> Result<(), Failure> {
        if !self.retry_schedule.is_empty() {
            let jitter = match &policy.backoff {
                Some(Backoff::Schedule(schedule)) => schedule.jitter,
                _ => None,
            };
            let waits = self.retry_schedule.clone();
            policy.backoff = Some(Backoff::Schedule(v1::ScheduleBackoff { waits, jitter }));
        } else if let Some(wait) = self.retry_fixed {
            let jitter = match &policy.backoff {
                Some(Backoff::Fixed(fixed)) => fixed.jitter,
                _ => None,
            };
            policy.backoff = Some(Backoff::Fixed(v1::FixedBackoff { wait: Some(wait), jitter }));
        } else if self.retry_exponential && !matches!(policy.backoff, Some(Backoff::Exponential(_))) {
            policy.backoff = Some(Backoff::Exponential(v1::ExponentialBackoff::default()));
        }
        match (&mut policy.backoff, grown, self.retry_jitter) {
            (Some(Backoff::Exponential(exponential)), _, None) => {
                exponential.initial = self.retry_initial.or(exponential.initial);
                exponential.factor = self.retry_factor.unwrap_or(exponential.factor);
                exponential.max = self.retry_max.or(exponential.max);
                Ok(())
            }
            (Some(Backoff::Schedule(schedule)), None, jitter) => {
                schedule.jitter = jitter.or(schedule.jitter);
                Ok(())
            }
            (Some(Backoff::Fixed(fixed)), None, jitter) => {
                fixed.jitter = jitter.or(fixed.jitter);
                Ok(())
            }
            (None, None, None) => Ok(()),
            (_, Some(flag), _) => Err(Failure::Usage(format!("{flag} needs --retry-exponential"))),
            (_, None, Some(_)) => {
                Err(Failure::Usage("--retry-jitter needs --retry-schedule or --retry-fixed".to_owned()))
            }
        }
    }
}

/// `404,5xx=dead`
fn on_status(text: &str) -> Result<v1::StatusOverride, String> {
    let (statuses, what) =
        text.split_once('=').ok_or("expected STATUSES=WHAT, such as 404=dead or 5xx=30s")?;
    let (action, wait) = match what {
        "dead" => (v1::StatusAction::Dead, None),
        "retry" => (v1::StatusAction::Retry, None),
        wait => {
            let wait = duration(wait)
                .map_err(|_| format!("`{wait}` is neither dead, retry nor a wait such as 30s"))?;
            (v1::StatusAction::Retry, Some(wait))
        }
    };
    let statuses = statuses.split(',').map(|status| status.trim().to_owned()).collect();
    Ok(v1::StatusOverride { statuses, action: action.into(), wait })
}

fn schedule_length(policy: &v1::RetryPolicy) -> Option<usize> {
    match &policy.backoff {
        Some(Backoff::Schedule(schedule)) => Some(schedule.waits.len()),
        _ => None,
    }
}

/// When Bowline disables the endpoint by itself.
#[derive(Debug, Default, Args)]
pub(super) struct DisableFlags {
    /// Disable it after so many failed attempts in a row; 0: never
    #[arg(long, value_name = "N", help_heading = "Disabling")]
    disable_after_failures: Option<u32>,
    /// ... and only once it has been failing for this long
    #[arg(long, value_parser = duration, value_name = "DURATION", help_heading = "Disabling")]
    disable_after: Option<prost_types::Duration>,
}

impl DisableFlags {
    /// The policy, laid over the one that is there; `None` where nothing was given.
    ///
    /// # Errors
    /// When a new policy has a time and no count.
    pub(super) fn over(
        &self,
        current: Option<&v1::DisablePolicy>,
    ) -> Result<Option<v1::DisablePolicy>, Failure> {
        let current = match (self.disable_after_failures, self.disable_after, current) {
            (None, None, _) => return Ok(None),
            (None, Some(_), None) => {
                return Err(Failure::Usage("--disable-after needs --disable-after-failures".to_owned()));
            }
            (_, _, current) => current.copied().unwrap_or_default(),
        };
        Ok(Some(v1::DisablePolicy {
            after_failures: self.disable_after_failures.unwrap_or(current.after_failures),
            after: self.disable_after.or(current.after),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    fn scheduled(waits: &[i64], jitter: Option<f64>, max_attempts: u32) -> v1::RetryPolicy {
        let waits = waits.iter().copied().map(seconds).collect();
        let backoff = Some(Backoff::Schedule(v1::ScheduleBackoff { waits, jitter }));
        v1::RetryPolicy { max_attempts, backoff, ..v1::RetryPolicy::default() }
    }

    #[test]
    fn nothing_given_leaves_the_policy_alone() {
        assert_eq!(RetryFlags::default().over(Some(&scheduled(&[1], None, 2))).unwrap(), None);
        assert_eq!(DisableFlags::default().over(None).unwrap(), None);
    }

    #[test]
    fn a_part_changes_only_that_part() {
        let current = scheduled(&[1, 2], Some(0.5), 3);
        let jitter = RetryFlags { retry_jitter: Some(0.0), ..RetryFlags::default() };
        assert_eq!(jitter.over(Some(&current)).unwrap(), Some(scheduled(&[1, 2], Some(0.0), 3)));
        let waits = RetryFlags { retry_schedule: vec![seconds(9)], ..RetryFlags::default() };
        assert_eq!(waits.over(Some(&current)).unwrap(), Some(scheduled(&[9], Some(0.5), 0)));
        let attempts = RetryFlags { max_attempts: Some(7), ..RetryFlags::default() };
        assert_eq!(attempts.over(Some(&current)).unwrap(), Some(scheduled(&[1, 2], Some(0.5), 7)));
        assert_eq!(
            attempts.over(None).unwrap(),
            Some(v1::RetryPolicy { max_attempts: 7, ..v1::RetryPolicy::default() })
        );
    }

    #[test]
    fn one_kind_of_waiting_gives_way_to_the_other() {
        let flags = RetryFlags {
            retry_exponential: true,
            retry_initial: Some(seconds(1)),
            retry_factor: Some(3.0),
            ..RetryFlags::default()
        };
        let policy = flags.over(Some(&scheduled(&[1], None, 2))).unwrap().unwrap();
        let expected = v1::ExponentialBackoff { initial: Some(seconds(1)), factor: 3.0, max: None };
        assert_eq!((policy.backoff, policy.max_attempts), (Some(Backoff::Exponential(expected)), 0));
    }

    #[test]
    fn a_fixed_wait_and_what_statuses_mean() {
        let flags = RetryFlags {
            retry_fixed: Some(seconds(9)),
            overrides: vec![on_status("404,5xx=dead").unwrap(), on_status("410=30s").unwrap()],
            ..RetryFlags::default()
        };
        let policy = flags.over(Some(&scheduled(&[1], Some(0.1), 2))).unwrap().unwrap();
        let fixed = v1::FixedBackoff { wait: Some(seconds(9)), jitter: None };
        assert_eq!((policy.backoff, policy.max_attempts), (Some(Backoff::Fixed(fixed)), 0));
        assert_eq!(policy.overrides[0].statuses, ["404", "5xx"]);
        assert_eq!(policy.overrides[1].wait, Some(seconds(30)));
        assert!(on_status("404").is_err() && on_status("404=perhaps").is_err());
    }

    #[test]
    fn a_flag_of_the_other_kind_is_refused() {
        let jitter = RetryFlags { retry_jitter: Some(0.1), ..RetryFlags::default() };
        assert!(jitter.over(None).unwrap_err().to_string().contains("--retry-schedule"));
        let factor = RetryFlags { retry_factor: Some(2.0), ..RetryFlags::default() };
        for current in [None, Some(scheduled(&[1], None, 2))] {
            let refused = factor.over(current.as_ref()).unwrap_err().to_string();
            assert!(refused.contains("--retry-factor needs"), "{refused}");
        }
        let after = DisableFlags { disable_after: Some(seconds(1)), disable_after_failures: None };
        assert!(after.over(None).is_err());
        let current = v1::DisablePolicy { after_failures: 4, after: None };
        assert_eq!(
            after.over(Some(&current)).unwrap(),
            Some(v1::DisablePolicy { after_failures: 4, after: Some(seconds(1)) })
        );
    }
}
