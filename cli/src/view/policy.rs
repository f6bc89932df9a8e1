//! The policies of an endpoint as they are shown.

use std::fmt;

use bowline_proto::v1;
use bowline_proto::v1::retry_policy::Backoff;
use serde::Serialize;

use super::span;

/// When a failed delivery is tried again.
#[derive(Debug, Serialize)]
pub struct RetryView {
    pub max_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential: Option<ExponentialView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<FixedView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<OverrideView>,
    pub max_age: String,
}

#[derive(Debug, Serialize)]
pub struct ScheduleView {
    pub waits: Vec<String>,
    pub jitter: f64,
}

#[derive(Debug, Serialize)]
pub struct FixedView {
    pub wait: String,
    pub jitter: f64,
}

#[derive(Debug, Serialize)]
pub struct OverrideView {
    pub statuses: Vec<String>,
    /// `dead`, `retry`, or the wait before it is tried again.
    pub then: String,
}

impl From<v1::StatusOverride> for OverrideView {
    fn from(own: v1::StatusOverride) -> Self {
        let then = match (own.action(), &own.wait) {
            (_, Some(wait)) => span(Some(wait)),
            (v1::StatusAction::Dead, None) => "dead".to_owned(),
            (_, None) => "retry".to_owned(),
        };
        Self { statuses: own.statuses, then }
    }
}

#[derive(Debug, Serialize)]
pub struct ExponentialView {
    pub initial: String,
    pub factor: f64,
    pub max: String,
}

impl From<v1::RetryPolicy> for RetryView {
    fn from(policy: v1::RetryPolicy) -> Self {
        let mut fixed = None;
        let (schedule, exponential) = match policy.backoff {
            Some(Backoff::Schedule(schedule)) => {
                let waits = schedule.waits.iter().map(|wait| span(Some(wait))).collect();
                (Some(ScheduleView { waits, jitter: schedule.jitter.unwrap_or_default() }), None)
            }
            Some(Backoff::Exponential(exponential)) => {
                let (initial, max) = (span(exponential.initial.as_ref()), span(exponential.max.as_ref()));
                (None, Some(ExponentialView { initial, factor: exponential.factor, max }))
            }
            Some(Backoff::Fixed(own)) => {
                let jitter = own.jitter.unwrap_or_default();
                fixed = Some(FixedView { wait: span(own.wait.as_ref()), jitter });
                (None, None)
            }
            None => (None, None),
        };
        let max_age = span(policy.max_age.as_ref());
        let overrides = policy.overrides.into_iter().map(Into::into).collect();
        Self { max_attempts: policy.max_attempts, schedule, exponential, fixed, overrides, max_age }
    }
}

impl fmt::Display for RetryView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} attempts", self.max_attempts)?;
        if let Some(schedule) = &self.schedule {
            write!(f, ", after {}; jitter {}", schedule.waits.join(", "), schedule.jitter)?;
        }
        if let Some(exponential) = &self.exponential {
            let ExponentialView { initial, factor, max } = exponential;
            write!(f, ", after {initial} times {factor} each time, up to {max}")?;
        }
        if let Some(FixedView { wait, jitter }) = &self.fixed {
            write!(f, ", after {wait} each time; jitter {jitter}")?;
        }
        for OverrideView { statuses, then } in &self.overrides {
            write!(f, "; {}={then}", statuses.join(","))?;
        }
        if !self.max_age.is_empty() {
            write!(f, "; expires after {}", self.max_age)?;
        }
        Ok(())
    }
}

/// When Bowline disables an endpoint by itself.
#[derive(Debug, Serialize)]
pub struct DisableView {
    pub after_failures: u32,
    pub after: String,
}

impl From<v1::DisablePolicy> for DisableView {
    fn from(policy: v1::DisablePolicy) -> Self {
        Self { after_failures: policy.after_failures, after: span(policy.after.as_ref()) }
    }
}

impl fmt::Display for DisableView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.after_failures, self.after.as_str()) {
            (0, _) => f.write_str("never"),
            (failures, "" | "0s") => write!(f, "{failures} failures in a row"),
            (failures, after) => write!(f, "{failures} failures in a row over {after}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    #[test]
    fn policies_read_as_sentences() {
        let waits = vec![seconds(5), seconds(300)];
        let backoff = Some(Backoff::Schedule(v1::ScheduleBackoff { waits, jitter: Some(0.2) }));
        let policy = v1::RetryPolicy {
            max_attempts: 3,
            backoff,
            max_age: Some(seconds(86_400)),
            overrides: Vec::new(),
        };
        assert_eq!(
            RetryView::from(policy).to_string(),
            "3 attempts, after 5s, 5m; jitter 0.2; expires after 1day"
        );
        let own = v1::StatusOverride {
            statuses: vec!["404".into(), "410".into()],
            action: v1::StatusAction::Dead.into(),
            wait: None,
        };
        let backoff = Some(Backoff::Fixed(v1::FixedBackoff { wait: Some(seconds(30)), jitter: Some(0.0) }));
        let policy = v1::RetryPolicy { max_attempts: 3, backoff, max_age: None, overrides: vec![own] };
        assert_eq!(
            RetryView::from(policy).to_string(),
            "3 attempts, after 30s each time; jitter 0; 404,410=dead"
        );
        let disable = |after_failures, after| {
            DisableView::from(v1::DisablePolicy { after_failures, after: Some(seconds(after)) }).to_string()
        };
        assert_eq!(disable(10, 86_400), "10 failures in a row over 1day");
        assert_eq!((disable(10, 0).as_str(), disable(0, 9).as_str()), ("10 failures in a row", "never"));
    }
}
