//! One file a noun: what its subcommands take, ask the admin API, and show.

pub mod api_key;
pub mod audit;
pub mod binding;
pub mod by_hand;
pub mod dead_letter;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod event_type;
mod mask;
pub mod migrate;
pub(crate) mod name;
pub mod paging;
pub mod payload;
pub mod preset;
pub mod publish;
pub mod rejection;
pub mod source;
pub mod tenant;
pub mod trigger;
pub mod verify;
pub mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::failure::Failure;

/// Below a secret that will not be shown again.
pub(crate) const SHOWN_ONCE: &str = "(the secret is shown this once)";

/// `1m30s` and the like.
fn duration(text: &str) -> Result<prost_types::Duration, String> {
    let duration: Duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; expected a duration such as 10s, 5m or 2h"))?;
    duration.try_into().map_err(|_| "too long".to_owned())
}

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// The line below a new secret, where there is one.
fn shown_once(secret: &str) -> String {
    if secret.is_empty() { String::new() } else { SHOWN_ONCE.to_owned() }
}

/// What an answer must hold.
fn there<T>(answered: Option<T>, what: &str) -> Result<T, Failure> {
    answered.ok_or_else(|| Failure::Answer(format!("the answer holds no {what}")))
}

/// `a=1, b=2`
fn pairs(map: &BTreeMap<String, String>, between: &str) -> String {
    map.iter().map(|(key, value)| format!("{key}{between}{value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_apart() {
        assert_eq!(duration("1m 30s").unwrap(), prost_types::Duration { seconds: 90, nanos: 0 });
        assert!(duration("ten").unwrap_err().contains("such as 10s"));
        assert_eq!(key_value("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(key_value("a").is_err());
        assert_eq!(header("X-A: b:c").unwrap(), ("X-A".to_owned(), "b:c".to_owned()));
        assert!(header("X-A").is_err());
    }
}
