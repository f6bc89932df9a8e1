//! Etags: who gives back the one that was read changes nothing that somebody else has changed since.

use std::fmt::Display;

use crate::fault::{Fault, Kind};

/// Every write raises the version of its row.
pub(crate) fn of(config_version: i64) -> String {
    format!("v{config_version}")
}

/// Whether a resource is still as the caller has read it; who gives no etag takes it as it is.
pub(crate) fn check(given: &str, config_version: i64, kind: Kind, id: impl Display) -> Result<(), Fault> {
    if given.is_empty() || given == of(config_version) {
        Ok(())
    } else {
        Err(Fault::EtagMismatch { kind, id: id.to_string() })
    }
}
