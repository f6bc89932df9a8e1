//! What went wrong, in words for a person, and the exit code that says it to a script.

use std::fmt::Write as _;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::local::LocalError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something this command needs to know is missing or wrong.
    #[error("{0}")]
    Configuration(String),
    /// The arguments do not say what to do, in a way their parser cannot see.
    #[error("{0}")]
    Usage(String),
    /// The admin API refused, or was not there.
    #[error("{}", in_words(.0))]
    Api(Box<Status>),
    /// The service did not answer as it should have.
    #[error("{0}")]
    Answer(String),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Api(Box::new(status))
    }
}

impl Failure {
    /// 64 for configuration, 2 for usage (as clap answers), 1 for the rest.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(64),
            Self::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// A status and its google.rpc details as lines: first what happened, then each field at fault.
fn in_words(status: &Status) -> String {
    let mut text = match status.code() {
        Code::Unauthenticated => format!(
            "the admin API did not accept the key: {} (see --admin-key and BOWLINE_ADMIN_KEY)",
            status.message()
        ),
        Code::Unavailable => format!("the admin API is not available: {}", status.message()),
        code => format!("{}: {}", name(code), status.message()),
    };
    let details = status.get_error_details();
    for violation in details.bad_request().into_iter().flat_map(|bad| &bad.field_violations) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {}: {}", violation.field, violation.description);
    }
    if let Some(resource) = details.resource_info() {
        let _ = write!(text, "\n  {} {}", resource.resource_type, resource.resource_name);
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        let _ = write!(text, "\n  try again in {} s", delay.as_secs().max(1));
    }
    if let Some(info) = details.error_info() {
        let _ = write!(text, "\n  reason {}", info.reason);
    }
    text
}

fn name(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument => "invalid argument",
        Code::NotFound => "not found",
        Code::AlreadyExists => "already exists",
        Code::PermissionDenied => "permission denied",
        Code::FailedPrecondition => "not possible just now",
        Code::Aborted => "changed meanwhile",
        Code::ResourceExhausted => "over a limit",
        Code::DeadlineExceeded => "took too long",
        Code::Unimplemented => "this server does not know the call (is it an older version?)",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn every_field_at_fault_has_its_line() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("endpoint.url", "must start with https:");
        details.add_bad_request_violation("endpoint.timeout", "must be 1 s to 60 s");
        details.set_error_info("INVALID_FIELDS", "bowline", std::collections::HashMap::new());
        let status = Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details);
        assert_eq!(
            Failure::from(status).to_string(),
            "invalid argument: 2 fields are wrong\n  endpoint.url: must start with https:\n  \
             endpoint.timeout: must be 1 s to 60 s\n  reason INVALID_FIELDS"
        );
    }

    #[test]
    fn configuration_ends_with_64() {
        assert_eq!(Failure::Configuration(String::new()).exit_code(), ExitCode::from(64));
        assert_eq!(Failure::from(Status::not_found("no")).exit_code(), ExitCode::FAILURE);
    }
}
