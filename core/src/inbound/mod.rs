//! A request to a source, judged: the event it is, or the check it fails. Nothing here waits.
//!
//! 1. [`Judge`] walks the checks in their order: handshake, required headers, signature, body, key.
//! 2. [`Refusal`] says why a request is not taken, and what its sender is told.
//! 3. [`KeptRequest`] is what stays of a refused one: no secret, and word of what was left out.

mod expression;
mod handshake;
mod judge;
mod kept;
mod refusal;

pub use judge::{Judge, Received, Verdict, refuse_verification};
pub use kept::{BODY_KEPT_BYTES_MAX, HEADERS_KEPT_BYTES_MAX, KeptRequest};
pub use refusal::{RETRY_LATER, RETRY_SOON, Refusal, method_not_allowed, refuse_journal};
