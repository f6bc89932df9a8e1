//! What went wrong, in words for a person, and the exit code that says it to a script.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::flag_name;
use crate::local::LocalError;
use crate::nearest;

/// Every error of the API lists its fields in a detail; the message would say them a second time.
const FIELDS_REASON: &str = "INVALID_FIELDS";

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something this command needs to know is missing or wrong.
    #[error("{0}")]
    Configuration(String),
    /// The arguments do not say what to do, in a way their parser cannot see.
    #[error("{0}")]
    Usage(String),
    /// The admin API refused.
    #[error("{}", in_words(.0))]
    Api(Box<Status>),
    /// Nobody could be asked.
    #[error(
        "the admin API at {url} is not available: {cause}\n  set --admin-url or BOWLINE_ADMIN_URL if it is elsewhere"
    )]
    Unreachable { url: String, cause: String },
    /// Somebody else answered.
    #[error(
        "{url} does not look like a Bowline admin API: {cause}\n  set --admin-url or BOWLINE_ADMIN_URL; \
         the ports for webhooks and for metrics are others"
    )]
    NotTheApi { url: String, cause: String },
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

    /// Names the URL where no admin API answered at it.
    pub(crate) fn at(self, url: &str) -> Self {
        let Self::Api(status) = self else { return self };
        let url = url.to_owned();
        match answered_by(&status) {
            AnsweredBy::Api => Self::Api(status),
            AnsweredBy::Nobody(cause) => Self::Unreachable { url, cause },
            AnsweredBy::SomebodyElse(cause) => Self::NotTheApi { url, cause },
        }
    }
}

/// Where a status comes from.
enum AnsweredBy {
    Api,
    Nobody(String),
    SomebodyElse(String),
}

/// The client makes a status itself where no gRPC answer came: then it has a source, or its message
/// tells of an HTTP answer without gRPC's trailers.
fn answered_by(status: &Status) -> AnsweredBy {
    const WITHOUT_GRPC: [&str; 2] =
        ["grpc-status header missing", "protocol error: received message with invalid compression flag"];
    if WITHOUT_GRPC.iter().any(|text| status.message().starts_with(text)) {
        return AnsweredBy::SomebodyElse("it answers in HTTP, not in gRPC".to_owned());
    }
    let Some(source) = status.source() else { return AnsweredBy::Api };
    let mut causes = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(source);
    let mut connected = true;
    while let Some(cause) = next {
        let text = cause.to_string();
        // What is not said again is the innermost.
        if !causes.iter().any(|known: &String| known.contains(&text)) {
            causes.push(text);
        }
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        connected &= !matches!(
            kind,
            Some(
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
            )
        );
        next = cause.source();
    }
    let cause = causes.last().cloned().unwrap_or_default();
    let says = |words: &[&str]| causes.iter().any(|cause| words.iter().any(|word| cause.contains(word)));
    if !connected || says(&["connect error", "dns error"]) {
        AnsweredBy::Nobody(cause)
    } else if says(&["http2", "frame"]) {
        AnsweredBy::SomebodyElse("it does not speak HTTP/2".to_owned())
    } else if says(&["closed", "reset", "broken pipe", "end of file"]) {
        AnsweredBy::SomebodyElse(
            "it closed the connection without an answer (or was just stopped)".to_owned(),
        )
    } else {
        AnsweredBy::Nobody(cause)
    }
}

/// A status and its google.rpc details as lines: first what happened, then each field at fault.
fn in_words(status: &Status) -> String {
    let details = status.get_error_details();
    let fields: Vec<String> = violations(&details);
    if let [field] = fields.as_slice() {
        return format!("{}: {field}", name(status.code()));
    }
    if !fields.is_empty() {
        return format!("{}:\n  {}", name(status.code()), fields.join("\n  "));
    }
    let mut text = match status.code() {
        Code::Unauthenticated => format!(
            "the admin API did not accept the key: {} (see BOWLINE_ADMIN_KEY and --admin-key-file)",
            status.message()
        ),
        Code::Unavailable => format!("the admin API is not available: {}", status.message()),
        code => format!("{}: {}", name(code), status.message()),
    };
    // Writing to a String cannot fail.
    let resource = details.resource_info().filter(|info| !status.message().contains(&info.resource_name));
    if let Some(resource) = resource {
        let _ = write!(text, "\n  {} {}", resource.resource_type, resource.resource_name);
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        let _ = write!(text, "\n  try again in {} s", delay.as_secs().max(1));
    }
    if let Some(info) = details.error_info().filter(|info| info.reason != FIELDS_REASON) {
        let _ = write!(text, "\n  reason {}", info.reason);
    }
    text
}

fn violations(details: &ErrorDetails) -> Vec<String> {
    let violations = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations);
    violations
        .map(|violation| {
            let description = match violation.field.as_str() {
                "source.preset" => nearest_preset(&violation.description),
                _ => None,
            };
            let description = description.as_deref().unwrap_or(&violation.description);
            format!("{}: {description}", flag_name::of(&violation.field))
        })
        .collect()
}

/// The API names all of its presets, and there are a hundred; `None` where it says something else.
fn nearest_preset(description: &str) -> Option<String> {
    let (wanted, known) = description.strip_prefix('`')?.split_once("` is not one of ")?;
    let question = nearest::question(wanted, known.split(", "));
    Some(format!("there is no preset `{wanted}`{question} (`bowline preset list` shows all)"))
}

fn name(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument => "invalid argument",
        Code::NotFound => "not found",
        Code::AlreadyExists => "already exists",
        Code::PermissionDenied => "permission denied",
        Code::FailedPrecondition => "not possible",
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

    #[test]
    fn every_field_at_fault_has_its_line() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("endpoint.url", "must start with https:");
        details.add_bad_request_violation("endpoint.timeout", "must be 1 s to 60 s");
        details.set_error_info("INVALID_FIELDS", "bowline", std::collections::HashMap::new());
        let status = Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details);
        assert_eq!(
            Failure::from(status).to_string(),
            "invalid argument:\n  --url: must start with https:\n  --timeout: must be 1 s to 60 s"
        );
    }

    #[test]
    fn one_field_is_said_once_in_one_line() {
        let details = ErrorDetails::with_bad_request_violation("filter.end_time", "must be later");
        let status =
            Status::with_error_details(Code::InvalidArgument, "filter.end_time: must be later", details);
        assert_eq!(Failure::from(status).to_string(), "invalid argument: --until: must be later");
    }

    #[test]
    fn a_preset_that_there_is_not_is_answered_with_the_nearest() {
        let said = |description: &str| {
            let details = ErrorDetails::with_bad_request_violation("source.preset", description);
            Failure::from(Status::with_error_details(Code::InvalidArgument, "", details)).to_string()
        };
        assert_eq!(
            said("`strype` is not one of slack, stripe, github"),
            "invalid argument: --preset: there is no preset `strype`: did you mean stripe? \
             (`bowline preset list` shows all)"
        );
        assert_eq!(said("is too long"), "invalid argument: --preset: is too long");
    }

    /// Some of it passes, some never does: the message says which.
    #[test]
    fn what_cannot_be_done_is_not_said_to_pass() {
        let status = Status::failed_precondition("the endpoint is not secret_revealable");
        assert_eq!(Failure::from(status).to_string(), "not possible: the endpoint is not secret_revealable");
    }

    #[test]
    fn configuration_ends_with_64() {
        assert_eq!(Failure::Configuration(String::new()).exit_code(), ExitCode::from(64));
        assert_eq!(Failure::from(Status::not_found("no")).exit_code(), ExitCode::FAILURE);
    }
}
