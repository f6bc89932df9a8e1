//! RFC 7617, towards receivers, proxies and token servers alike.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// `Basic ...` of a user name and a password with a colon between.
pub(crate) fn basic(pair: &str) -> HeaderValue {
    // Base64 is always a header value.
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
        .unwrap_or_else(|_| unreachable!("base64 is printable"));
    value.set_sensitive(true);
    value
}
