//! What the CLI shows of each noun: the fields of `--output json` (they stay) and the columns of tables.

mod auth;
mod binding;
mod delivery;
mod event;
mod event_type;
mod payload;
mod policy;
mod preset;
mod rejection;
mod resource;

pub use auth::{AuthView, TlsView};
pub use binding::BindingView;
pub use delivery::{AttemptView, DeadLetterView, DeliveryTold, DeliveryView};
pub use event::{EventTold, EventView, HeaderView};
pub use event_type::EventTypeView;
pub use payload::PayloadView;
pub use policy::{DisableView, RetryView};
pub use preset::PresetView;
pub use rejection::RejectionView;
pub use resource::{EndpointView, SecretView, SourceView};

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// RFC 3339 in UTC with milliseconds; empty where there is no time.
pub(crate) fn time(timestamp: Option<&prost_types::Timestamp>) -> String {
    timestamp
        .and_then(|time| DateTime::<Utc>::from_timestamp(time.seconds, time.nanos.max(0) as u32))
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
        .unwrap_or_default()
}

/// `1m 30s`; empty where there is none.
pub(crate) fn span(duration: Option<&prost_types::Duration>) -> String {
    duration
        .and_then(|duration| Duration::try_from(*duration).ok())
        .map(|duration| humantime::format_duration(duration).to_string())
        .unwrap_or_default()
}

/// `delivered` of `DELIVERY_STATE_DELIVERED`; empty for the value that says "not given".
pub(crate) fn word(full_name: &str, prefix: &str) -> String {
    match full_name.strip_prefix(prefix).unwrap_or(full_name) {
        "UNSPECIFIED" => String::new(),
        name => name.to_lowercase(),
    }
}

/// A double as JSON: whole ones without a point, and a text for what JSON does not have.
pub(crate) fn number(number: f64) -> serde_json::Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return (number as i64).into();
    }
    match serde_json::Number::from_f64(number) {
        Some(number) => serde_json::Value::Number(number),
        None => number.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_words() {
        let timestamp = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 };
        assert_eq!(time(Some(&timestamp)), "2023-11-14T22:13:20.005Z");
        assert_eq!(time(None), "");
        assert_eq!(span(Some(&prost_types::Duration { seconds: 90, nanos: 0 })), "1m 30s");
        assert_eq!(word("DELIVERY_STATE_DEAD", "DELIVERY_STATE_"), "dead");
        assert_eq!(word("DELIVERY_STATE_UNSPECIFIED", "DELIVERY_STATE_"), "");
        assert_eq!([42.0, 0.5, f64::NAN].map(|it| number(it).to_string()), ["42", "0.5", "\"NaN\""]);
    }
}
