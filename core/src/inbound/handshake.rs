//! Handshakes: which requests are one. What is a handshake, and its answer, is data of the preset.

use crate::preset::{HandshakeAnswer, HandshakeSecrets};
use crate::scheme::InboundRequest;
use crate::snapshot::LiveSource;

/// One that comes before any secret is shared: answered unverified, and nothing is kept of it.
pub(super) fn unverified(
    live: &LiveSource,
    request: &InboundRequest<'_>,
    secrets: &HandshakeSecrets<'_>,
) -> Option<HandshakeAnswer> {
    let answer = live.preset.handshake_with(request, secrets, false)?;
    // Who already shares a secret is not given another one by a stranger.
    (answer.store_secret.is_none() || !live.has_secret()).then_some(answer)
}

/// One that is answered only once the signature is known to be right.
pub(super) fn verified(
    live: &LiveSource,
    request: &InboundRequest<'_>,
    secrets: &HandshakeSecrets<'_>,
) -> Option<HandshakeAnswer> {
    live.preset.handshake_with(request, secrets, true)
}
