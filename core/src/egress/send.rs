//! What went wrong with a request, told apart by what can be done about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use hyper_util::client::legacy;

use super::connect::{ConnectError, ConnectFault, Timings};
use super::policy::EgressError;
use super::proxy::ProxyError;

/// Kept of an error's own words.
const MESSAGE_BYTES_MAX: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SendErrorKind {
    /// The guard refused: no retry can help.
    EgressRefused,
    /// The name has no address, or none in time.
    Dns,
    /// Nobody listens, no route, reset before anything was sent.
    Connect,
    /// The connection is not to be trusted, or is not TLS at all.
    Tls,
    /// Not done in time, connecting included.
    Timeout,
    /// What came back is not HTTP, or ended before its headers did.
    Protocol,
    /// The headers came, the body broke off.
    Body,
    /// The forward proxy of this deployment fails, for whatever is sent: says nothing of the receiver.
    Proxy,
    /// The forward proxy will not connect to this receiver: whoever runs it has to allow that.
    ProxyRefused,
}

impl SendErrorKind {
    /// As the attempts table has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EgressRefused => "egress_refused",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Body => "body",
            Self::Proxy => "proxy",
            Self::ProxyRefused => "proxy_refused",
        }
    }
}

impl fmt::Display for SendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request got no complete answer. The message never holds the URL, which may hold a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EgressSendError {
    pub kind: SendErrorKind,
    /// For people; at most 512 bytes.
    pub message: String,
    /// What the guard said, when it was the guard.
    pub refusal: Option<EgressError>,
    /// Of the steps to a connection, as far as they came.
    pub timings: Box<Timings>,
}

impl From<EgressError> for EgressSendError {
    fn from(refusal: EgressError) -> Self {
        Self {
            kind: SendErrorKind::EgressRefused,
            message: clip(refusal.to_string()),
            refusal: Some(refusal),
            timings: Box::default(),
        }
    }
}

impl From<&ConnectFault> for EgressSendError {
    fn from(fault: &ConnectFault) -> Self {
        let kind = match &fault.error {
            ConnectError::Refused(refusal) => {
                return Self { timings: Box::new(fault.timings), ..refusal.clone().into() };
            }
            ConnectError::Resolve(_) => SendErrorKind::Dns,
            ConnectError::NoHost | ConnectError::Tcp(_) | ConnectError::Proxy(ProxyError::Receiver(_)) => {
                SendErrorKind::Connect
            }
            ConnectError::Proxy(error) if error.is_of_all() => SendErrorKind::Proxy,
            ConnectError::Proxy(_) => SendErrorKind::ProxyRefused,
            ConnectError::Tls(_) => SendErrorKind::Tls,
            ConnectError::Timeout { .. } => SendErrorKind::Timeout,
        };
        Self { timings: Box::new(fault.timings), ..Self::new(kind, fault.to_string()) }
    }
}

impl EgressSendError {
    pub(super) fn new(kind: SendErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: clip(message.into()), refusal: None, timings: Box::default() }
    }

    /// Of a request that has no answer.
    pub(super) fn of_client(error: &legacy::Error) -> Self {
        match find::<ConnectFault>(&causes(error)) {
            Some(fault) => fault.into(),
            None => Self::of_connection(error, SendErrorKind::Protocol),
        }
    }

    /// Of a connection that ended too soon.
    pub(super) fn of_connection(error: &(dyn StdError + 'static), otherwise: SendErrorKind) -> Self {
        let causes = causes(error);
        // A receiver may refuse our certificate, or the lack of one, once the connection is made.
        let kind = if find::<rustls::Error>(&causes).is_some() { SendErrorKind::Tls } else { otherwise };
        Self::new(kind, message(&causes))
    }
}

/// Whether the receiver's HTTP/2 layer has said that it did nothing with the request (RFC 9113, 8.7). What
/// our own side refuses, such as headers beyond the bound, looks alike and is none of that.
pub(super) fn is_unprocessed(error: &legacy::Error) -> bool {
    find::<h2::Error>(&causes(error)).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        let leaving = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (refused || leaving)
    })
}

type Cause<'a> = &'a (dyn StdError + 'static);

/// The error and all below it. An [`io::Error`] leaves the error it wraps out of its own chain.
fn causes<'a>(error: Cause<'a>) -> Vec<Cause<'a>> {
    const DEPTH_MAX: usize = 32;
    let mut found: Vec<Cause<'a>> = Vec::new();
    let mut next: Option<Cause<'a>> = Some(error);
    while let Some(cause) = next {
        if found.len() >= DEPTH_MAX {
            break;
        }
        found.push(cause);
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    found
}

fn find<'a, E: StdError + 'static>(causes: &[Cause<'a>]) -> Option<&'a E> {
    causes.iter().find_map(|cause| cause.downcast_ref::<E>())
}

/// The words of all causes in order, leaving out what a cause repeats of the one above it.
fn message(causes: &[Cause<'_>]) -> String {
    let mut out = String::new();
    for cause in causes {
        let words = cause.to_string();
        if out.ends_with(&words) {
            continue;
        }
        if !out.is_empty() {
            out.push_str(": ");
        }
        out.push_str(&words);
    }
    clip(out)
}

fn clip(mut text: String) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    // Ends at the latest at 0, which is always a boundary.
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
