//! When a request is a handshake. What is one, and its answer, is data of the preset.

use bowline_core::preset::{HandshakeAnswer, Preset};
use bowline_core::scheme::InboundRequest;

/// One that comes before any secret is shared: answered unverified, and nothing is kept of it.
pub(crate) fn unverified(preset: &Preset, request: &InboundRequest<'_>) -> Option<HandshakeAnswer> {
    preset.handshake(request, &[], false)
}

/// One that is answered only once the signature is known to be right.
pub(crate) fn verified(preset: &Preset, request: &InboundRequest<'_>) -> Option<HandshakeAnswer> {
    preset.handshake(request, &[], true)
}

/// Whether the request would be such a handshake, if its signature is right.
pub(crate) fn awaits_verification(preset: &Preset, request: &InboundRequest<'_>) -> bool {
    verified(preset, request).is_some()
}

#[cfg(test)]
mod tests {
    use bowline_core::preset;
    use http::HeaderMap;

    use super::*;

    #[test]
    fn slack_hears_its_challenge() {
        let slack = preset::find("slack").unwrap();
        let headers = HeaderMap::new();
        let ask = |body: &str| {
            let request = InboundRequest::new("POST", "/", &headers, body.as_bytes());
            unverified(slack, &request).or_else(|| verified(slack, &request)).map(|answer| answer.body)
        };
        assert_eq!(ask(r#"{"type":"url_verification","challenge":"c1"}"#).as_deref(), Some("c1"));
        assert_eq!(ask(r#"{"type":"event_callback","challenge":"c1"}"#), None);
        assert_eq!(ask("no json"), None);
    }
}
