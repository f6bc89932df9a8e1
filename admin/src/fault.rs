//! Everything an admin call can fail with, and the one function that says it in gRPC.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use bowline_core::apart::Stopping;
use bowline_core::journal::JournalError;
use bowline_core::query::QueryError;
use bowline_core::secrets::SecretError;
use bowline_core::store;
use bowline_core::store::resources::WriteError;
use bowline_core::watch::Full;
use bowline_proto::ERROR_DOMAIN;
use bowline_proto::v1::ErrorReason;
use deadpool_postgres::tokio_postgres::error::SqlState;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A field that is not as it must be: `field` is its path in the request, `problem` what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldFault {
    pub(crate) field: String,
    pub(crate) problem: String,
}

/// Kinds of resources, as errors and the audit log name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tenant,
    Source,
    Endpoint,
    Event,
    Delivery,
    DeadLetter,
    Operation,
    Binding,
    Preset,
    Rejection,
    ApiKey,
    EventType,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Source => "source",
            Self::Endpoint => "endpoint",
            Self::Event => "event",
            Self::Delivery => "delivery",
            Self::DeadLetter => "dead_letter",
            Self::Operation => "operation",
            Self::Binding => "binding",
            Self::Preset => "preset",
            Self::Rejection => "rejection",
            Self::ApiKey => "api_key",
            Self::EventType => "event_type",
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{}", describe_fields(.0))]
    Invalid(Vec<FieldFault>),
    #[error(
        "page_token is not one of this method, or belongs to another filter or tenant: start at the first page"
    )]
    PageToken,
    #[error("no key: send `authorization: Bearer bwl_...`")]
    KeyMissing,
    #[error("the key is unknown, revoked or expired")]
    KeyInvalid,
    #[error("the role `{role}` may not call {method}")]
    RoleInsufficient { role: &'static str, method: &'static str },
    #[error("the key is of one tenant: it may not ask for all_tenants")]
    KeyOfOneTenant,
    #[error("there is no {} `{name}`", .kind.as_str())]
    NotFound { kind: Kind, name: String },
    #[error("another {} of this tenant is named `{name}`", .kind.as_str())]
    NameTaken { kind: Kind, name: String },
    #[error("another source of this deployment has the path `{path}`")]
    PathTaken { path: String },
    #[error("request_id was used within 24 h for other content: use a new one")]
    RequestIdReused,
    #[error("idempotency_key was used within 24 h for another event: use a new one")]
    IdempotencyKeyReused,
    #[error("the {} `{id}` has changed since it was read: read it again", .kind.as_str())]
    EtagMismatch { kind: Kind, id: String },
    #[error("too many calls change the same thing at once: try again")]
    Conflict,
    #[error("the body is no longer stored of: {}", .events.join(", "))]
    EventBodyGone { events: Vec<String> },
    #[error("the delivery `{id}` {why}")]
    DeliveryState { id: String, why: &'static str },
    #[error("the tenant `{id}` still has sources or endpoints: delete them first")]
    TenantNotEmpty { id: String },
    #[error("the operation `{id}` has ended already")]
    OperationEnded { id: String },
    #[error("the endpoint `{id}` is not secret_revealable: rotate its secret instead")]
    SecretNotRevealable { id: String },
    #[error("no dispatcher took the test within {} s: is one running?", .0.as_secs())]
    TestNotTaken(Duration),
    #[error("the {} `{id}` uses no secret: {hint}", .kind.as_str())]
    NoSecretUsed { kind: Kind, id: String, hint: &'static str },
    #[error("the tenant has {max} resources of the kind {} already, which is the limit", .kind.as_str())]
    LimitReached { kind: Kind, max: i64 },
    #[error("the answer took longer than {} s", .0.as_secs())]
    Timeout(Duration),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("Postgres cannot be reached just now: try again")]
    StoreAway,
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the rejection {id} was not accepted: {why}")]
    RejectionRefused { id: String, why: String },
    #[error(
        "answers that were asked for and not read take as much memory as they may: read or close them, and try again"
    )]
    AnswersUnread,
    #[error("this replica has no connection to Postgres free: try again, or at another one")]
    Crowded,
    #[error(
        "this replica does as many calls of the tenant at once as it may: have fewer under way, or ask another"
    )]
    LineFull,
    #[error("this replica serves as many watches as it may: try again, or at another one")]
    WatchesFull,
    #[error(
        "the tenant has {0} such watches at this replica, which is the limit: end one, or watch at another"
    )]
    TenantWatchesFull(usize),
    #[error("nothing of the answer was taken for {} s: read faster, and ask again, to go on with a watch by its last cursor", .0.as_secs())]
    Unread(Duration),
    #[error(transparent)]
    Query(QueryError),
    #[error("what follows the cursor is no longer kept, or is of another database: begin anew")]
    CursorExpired,
    #[error("this replica stops: go on at another one, with the last cursor")]
    Stopping,
    /// Stored data that this version cannot read.
    #[error("stored data is not readable: {0}")]
    Unreadable(String),
}

impl Fault {
    /// One bad field.
    pub(crate) fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldFault { field: field.into(), problem: problem.into() }])
    }

    pub(crate) fn not_found(kind: Kind, name: impl Into<String>) -> Self {
        Self::NotFound { kind, name: name.into() }
    }

    /// Of Postgres, not of what was asked.
    pub(crate) fn is_of_the_store(&self) -> bool {
        matches!(self, Self::StoreAway | Self::Store(_) | Self::Unreadable(_))
    }

    /// Of a write of the resource that was to have this name.
    pub(crate) fn of_write(error: WriteError, kind: Kind, name: &str) -> Self {
        match error {
            WriteError::NameTaken => Self::NameTaken { kind, name: name.to_owned() },
            WriteError::Store(error) => error.into(),
        }
    }
}

impl From<Full> for Fault {
    fn from(full: Full) -> Self {
        match full {
            Full::Process => Self::WatchesFull,
            Full::Tenant(max) => Self::TenantWatchesFull(max),
        }
    }
}

impl From<Stopping> for Fault {
    fn from(_: Stopping) -> Self {
        Self::Stopping
    }
}

impl From<QueryError> for Fault {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Store(error) => error.into(),
            error => Self::Query(error),
        }
    }
}

fn describe_fields(faults: &[FieldFault]) -> String {
    const SHOWN_MAX: usize = 20;
    let mut text: Vec<String> =
        faults.iter().take(SHOWN_MAX).map(|fault| format!("{}: {}", fault.field, fault.problem)).collect();
    if faults.len() > SHOWN_MAX {
        text.push(format!("and {} more", faults.len() - SHOWN_MAX));
    }
    text.join("; ")
}

/// An error goes out as trailing metadata, of which many clients take 8 KiB: its message, and once more beside the fields,
/// encoded as base64.
const MESSAGE_BYTES_MAX: usize = 768;
const VIOLATIONS_BYTES_MAX: usize = 2560;
const VIOLATION_BYTES_MAX: usize = 512;
const EVENTS_NAMED_MAX: usize = 30;

fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    const MORE: &str = "...";
    if text.len() <= bytes_max {
        return text.into();
    }
    let end = (0..=bytes_max - MORE.len()).rev().find(|at| text.is_char_boundary(*at));
    format!("{}{MORE}", &text[..end.unwrap_or(0)]).into()
}

/// As many as there is room for, from the first on.
fn add_violations(details: &mut ErrorDetails, faults: &[FieldFault]) {
    let mut left = VIOLATIONS_BYTES_MAX;
    for fault in faults {
        let (field, problem) =
            (cut(&fault.field, VIOLATION_BYTES_MAX), cut(&fault.problem, VIOLATION_BYTES_MAX));
        let Some(rest) = left.checked_sub(field.len() + problem.len()) else { return };
        left = rest;
        details.add_bad_request_violation(field, problem);
    }
}

/// How long a client should wait before it tries again when Postgres is away.
const STORE_RETRY_AFTER: Duration = Duration::from_secs(2);

/// The domain's faults in gRPC: code, message and google.rpc details. The cause of an internal
/// error goes to the log under the call's id, never to the client.
pub(crate) fn to_status(fault: &Fault, call_id: &str) -> Status {
    let (code, reason) = classify(fault);
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.as_reason(), ERROR_DOMAIN, HashMap::<String, String>::new());
    details.set_request_info(call_id, "");
    let mut message = cut(&fault.to_string(), MESSAGE_BYTES_MAX).into_owned();
    match fault {
        Fault::Invalid(fields) => add_violations(&mut details, fields),
        Fault::PageToken => {
            details.add_bad_request_violation("page_token", message.as_str());
        }
        Fault::NotFound { kind, name } | Fault::NameTaken { kind, name } => {
            details.set_resource_info(kind.as_str(), name.as_str(), "", message.as_str());
        }
        Fault::EtagMismatch { kind, id } | Fault::NoSecretUsed { kind, id, .. } => {
            details.set_resource_info(kind.as_str(), id.as_str(), "", message.as_str());
        }
        Fault::DeliveryState { id, .. } => {
            details.set_resource_info("delivery", id.as_str(), "", message.as_str());
        }
        Fault::TenantNotEmpty { id } => {
            details.set_resource_info("tenant", id.as_str(), "", message.as_str());
        }
        Fault::OperationEnded { id } => {
            details.set_resource_info("operation", id.as_str(), "", message.as_str());
        }
        Fault::SecretNotRevealable { id } => {
            details.set_resource_info("endpoint", id.as_str(), "", message.as_str());
        }
        Fault::PathTaken { path } => {
            details.set_resource_info("source", path.as_str(), "", message.as_str());
        }
        Fault::EventBodyGone { events } => {
            for event in events.iter().take(EVENTS_NAMED_MAX) {
                details.add_precondition_failure_violation(
                    reason.as_reason(),
                    event.as_str(),
                    "no longer stored",
                );
            }
        }
        Fault::Journal(
            JournalError::Overloaded { retry_after } | JournalError::Unavailable { retry_after },
        ) => {
            details.set_retry_info(Some(*retry_after));
        }
        _ => {}
    }
    match code {
        Code::Internal => {
            tracing::error!(call_id, error = %fault, "admin call failed by a fault of Bowline");
            message = format!("a fault of Bowline; its log has the cause under call_id {call_id}");
        }
        Code::Unavailable if !matches!(fault, Fault::Journal(_) | Fault::Stopping) => {
            tracing::warn!(call_id, error = %fault, "admin call failed: Postgres is away");
            message = Fault::StoreAway.to_string();
            details.set_retry_info(Some(STORE_RETRY_AFTER));
        }
        Code::InvalidArgument if matches!(fault, Fault::Store(_)) => {
            "a field holds a NUL character, which cannot be stored".clone_into(&mut message);
        }
        Code::Aborted if matches!(fault, Fault::Store(_)) => {
            message = Fault::Conflict.to_string();
            details.set_retry_info(Some(Duration::from_millis(100)));
        }
        Code::ResourceExhausted if !matches!(fault, Fault::Journal(_)) => {
            if matches!(fault, Fault::Store(_)) {
                message = Fault::Crowded.to_string();
            }
            details.set_retry_info(Some(STORE_RETRY_AFTER));
        }
        _ => {}
    }
    Status::with_error_details(code, message, details)
}

/// The name of the code alone, for the audit log.
pub(crate) fn outcome(fault: &Fault) -> &'static str {
    outcome_of(classify(fault).0)
}

/// A code as gRPC writes it.
pub(crate) fn outcome_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn classify(fault: &Fault) -> (Code, ErrorReason) {
    match fault {
        Fault::Invalid(_) => (Code::InvalidArgument, ErrorReason::InvalidFields),
        Fault::CursorExpired => (Code::OutOfRange, ErrorReason::CursorExpired),
        Fault::PageToken => (Code::InvalidArgument, ErrorReason::PageTokenInvalid),
        Fault::KeyMissing => (Code::Unauthenticated, ErrorReason::KeyMissing),
        Fault::KeyInvalid => (Code::Unauthenticated, ErrorReason::KeyInvalid),
        Fault::RoleInsufficient { .. } | Fault::KeyOfOneTenant => {
            (Code::PermissionDenied, ErrorReason::RoleInsufficient)
        }
        Fault::NotFound { .. } => (Code::NotFound, ErrorReason::ResourceNotFound),
        Fault::NameTaken { .. } => (Code::AlreadyExists, ErrorReason::NameTaken),
        Fault::PathTaken { .. } => (Code::AlreadyExists, ErrorReason::PathTaken),
        Fault::RequestIdReused => (Code::AlreadyExists, ErrorReason::RequestIdReused),
        Fault::IdempotencyKeyReused | Fault::Journal(JournalError::KeyReused) => {
            (Code::AlreadyExists, ErrorReason::IdempotencyKeyReused)
        }
        Fault::EtagMismatch { .. } => (Code::Aborted, ErrorReason::EtagMismatch),
        Fault::Conflict => (Code::Aborted, ErrorReason::Conflict),
        Fault::EventBodyGone { .. } => (Code::FailedPrecondition, ErrorReason::EventBodyGone),
        Fault::RejectionRefused { .. } => (Code::FailedPrecondition, ErrorReason::RejectionRefused),
        Fault::NoSecretUsed { .. } => (Code::FailedPrecondition, ErrorReason::NoSecretUsed),
        Fault::DeliveryState { .. } => (Code::FailedPrecondition, ErrorReason::DeliveryState),
        Fault::TenantNotEmpty { .. } => (Code::FailedPrecondition, ErrorReason::TenantNotEmpty),
        Fault::OperationEnded { .. } => (Code::FailedPrecondition, ErrorReason::OperationEnded),
        Fault::SecretNotRevealable { .. } => (Code::FailedPrecondition, ErrorReason::SecretNotRevealable),
        Fault::TestNotTaken(_) => (Code::DeadlineExceeded, ErrorReason::TestNotTaken),
        Fault::LimitReached { .. } => (Code::FailedPrecondition, ErrorReason::LimitReached),
        Fault::Timeout(_) => (Code::DeadlineExceeded, ErrorReason::Timeout),
        Fault::Query(error) => classify_query(error),
        Fault::Journal(JournalError::Overloaded { .. })
        | Fault::WatchesFull
        | Fault::AnswersUnread
        | Fault::Crowded
        | Fault::LineFull
        | Fault::TenantWatchesFull(_)
        | Fault::Unread(_) => (Code::ResourceExhausted, ErrorReason::Overloaded),
        Fault::Journal(JournalError::Unavailable { .. }) => {
            (Code::Unavailable, ErrorReason::StoreUnavailable)
        }
        Fault::Journal(JournalError::Poison { .. }) => (Code::InvalidArgument, ErrorReason::EventUnstorable),
        Fault::StoreAway => (Code::Unavailable, ErrorReason::StoreUnavailable),
        Fault::Stopping => (Code::Unavailable, ErrorReason::ReplicaStopping),
        Fault::Store(error) => classify_store(error),
        Fault::Journal(JournalError::Stale) | Fault::Secret(_) | Fault::Unreadable(_) => {
            (Code::Internal, ErrorReason::Internal)
        }
    }
}

fn classify_query(error: &QueryError) -> (Code, ErrorReason) {
    match error {
        QueryError::Store(error) => classify_store(error),
        QueryError::Unfinished { .. } | QueryError::ProjectionTooLong => {
            (Code::DeadlineExceeded, ErrorReason::Timeout)
        }
        QueryError::Busy => (Code::ResourceExhausted, ErrorReason::Overloaded),
    }
}

fn classify_store(error: &store::Error) -> (Code, ErrorReason) {
    match error.code().map(SqlState::code) {
        // Serialization failure, deadlock, lock not available in time.
        Some("40001" | "40P01" | "55P03") => (Code::Aborted, ErrorReason::Conflict),
        // Text that JSON may hold and Postgres may not, of a field that nobody looked at for it.
        Some("22021" | "22P05") => (Code::InvalidArgument, ErrorReason::InvalidFields),
        // Statement timeout.
        Some("57014") => (Code::DeadlineExceeded, ErrorReason::Timeout),
        _ if error.is_crowded() => (Code::ResourceExhausted, ErrorReason::Overloaded),
        _ if error.is_unavailable() => (Code::Unavailable, ErrorReason::StoreUnavailable),
        _ => (Code::Internal, ErrorReason::Internal),
    }
}

#[cfg(test)]
mod tests;
