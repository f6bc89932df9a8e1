//! Why a request is not taken, in the words of HTTP.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use crate::journal::JournalError;
use crate::preset::Preset;

/// For failures that no one knows the length of.
pub const RETRY_LATER: Duration = Duration::from_secs(5);
/// For load, which passes quickly.
pub const RETRY_SOON: Duration = Duration::from_secs(1);

/// Why a request is not taken, and what its sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// A stable name of the check that failed.
    pub code: &'static str,
    pub message: Cow<'static, str>,
    pub retry_after: Option<Duration>,
    pub www_authenticate: Option<&'static str>,
    pub allow: Option<String>,
    /// The connection is of no more use: a part of the request is still on its way.
    pub close: bool,
    /// The sender could not show who it is; a preset may word this one.
    pub is_of_verification: bool,
}

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
            www_authenticate: None,
            allow: None,
            close: false,
            is_of_verification: false,
        }
    }

    /// The fault is on our side, and the same request may be taken later.
    pub fn unavailable(
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
        retry_after: Duration,
    ) -> Self {
        let mut refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        refusal.retry_after = Some(retry_after);
        refusal
    }

    /// Whether what the sender still sends is taken for a moment, so that the answer reaches it. One that
    /// sends too slowly is not waited for again.
    pub fn is_worth_draining(&self) -> bool {
        !self.close || self.status == StatusCode::PAYLOAD_TOO_LARGE
    }

    /// Kept are those that someone has to mend; the others pass by themselves.
    pub fn is_to_be_kept(&self) -> bool {
        let of_the_sender = [
            StatusCode::BAD_REQUEST,
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::PAYLOAD_TOO_LARGE,
        ];
        of_the_sender.contains(&self.status)
            || self.is_of_verification
            || matches!(self.code, "no_usable_secret" | "no_scheme")
    }
}

/// What the journal says, in the words of HTTP.
pub fn refuse_journal(error: JournalError) -> Refusal {
    match error {
        JournalError::Overloaded { retry_after } => {
            Refusal::unavailable("overloaded", "too much is in flight; send it again later", retry_after)
        }
        JournalError::Unavailable { retry_after } => Refusal::unavailable(
            "unavailable",
            "the event cannot be stored now; send it again later",
            retry_after,
        ),
        // The caller verifies again; this is what is left when that has no end.
        JournalError::Stale => Refusal::unavailable(
            "source_changing",
            "the source changes faster than requests are verified; send it again later",
            RETRY_LATER,
        ),
        JournalError::Poison { message } => Refusal::new(
            StatusCode::BAD_REQUEST,
            "unstorable",
            format!("the event cannot be stored: {message}"),
        ),
        JournalError::KeyReused => Refusal::new(
            StatusCode::BAD_REQUEST,
            "dedup_key_reused",
            "the deduplication key was used for another event before",
        ),
    }
}

/// Also for a method that only handshakes have, on a request that is none.
pub fn method_not_allowed(preset: &Preset) -> Refusal {
    let mut allowed = vec!["POST"];
    for method in preset.handshake_methods() {
        if !allowed.contains(&method) {
            allowed.push(method);
        }
    }
    let mut refusal =
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "webhooks are sent with POST");
    refusal.allow = Some(allowed.join(", "));
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journals_answers_as_statuses() {
        let wait = Duration::from_secs(3);
        for (error, status, retry_after) in [
            (JournalError::Overloaded { retry_after: wait }, 503, Some(wait)),
            (JournalError::Unavailable { retry_after: wait }, 503, Some(wait)),
            (JournalError::Stale, 503, Some(RETRY_LATER)),
            (JournalError::Poison { message: "a NUL".into() }, 400, None),
            (JournalError::KeyReused, 400, None),
        ] {
            let refusal = refuse_journal(error);
            assert_eq!((refusal.status.as_u16(), refusal.retry_after), (status, retry_after), "{refusal:?}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_not_kept() {
        let of = |status| Refusal::new(status, "some_code", "why");
        for status in [400, 401, 403, 405, 413] {
            assert!(of(StatusCode::from_u16(status).unwrap()).is_to_be_kept(), "{status}");
        }
        for status in [404, 408, 429, 503] {
            assert!(!of(StatusCode::from_u16(status).unwrap()).is_to_be_kept(), "{status}");
        }
        assert!(Refusal::unavailable("no_usable_secret", "none", RETRY_LATER).is_to_be_kept());
    }
}
