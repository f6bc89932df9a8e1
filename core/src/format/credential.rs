//! Which headers hold a credential, told by the name alone.
//!
//! The values of such headers are sealed where an endpoint sends them along, and never stand in the log of
//! its deliveries. A name taken for a credential by mistake costs its owner a look at the value; one that
//! is missed costs a secret. So the list is long, and looks for parts of names.

use http::HeaderName;

/// Parts by which a name says that the value is a credential.
const PARTS: [&[u8]; 16] = [
    b"access-key",
    b"access_key",
    b"api-key",
    b"api_key",
    b"auth",
    b"bearer",
    b"cookie",
    b"credential",
    b"jwt",
    b"passphrase",
    b"passwd",
    b"password",
    b"private",
    b"secret",
    b"session",
    b"token",
];
/// A name that ends so, such as `x-functions-key` or `apikey`.
const END: &str = "key";
/// They sound like it, and hold none: what a server asks for, and what a sender calls a request.
const NONE: [&str; 5] =
    ["idempotency-key", "proxy-authenticate", "sec-websocket-key", "www-authenticate", "x-idempotency-key"];
/// What a server lets pages of others do (CORS): `access-control-allow-credentials` is a yes or no.
const NONE_BEGIN: &str = "access-control-";

/// Whether a header of this name holds a credential: `authorization`, `cookie`, `x-api-key`, and whatever
/// else speaks of a token, a secret, a password, a session or a private key.
pub fn is_credential(name: &HeaderName) -> bool {
    let name = name.as_str();
    let begins = |rest: &[u8]| PARTS.iter().any(|part| rest.starts_with(part));
    let found = name.ends_with(END) || (0..name.len()).any(|at| begins(&name.as_bytes()[at..]));
    found && !NONE.contains(&name) && !name.starts_with(NONE_BEGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::all;

    fn says(name: &str) -> bool {
        is_credential(&name.parse().unwrap())
    }

    #[test]
    fn names_that_say_credential() {
        for name in [
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "Set-Cookie",
            "X-Api-Key",
            "apikey",
            "X_API_KEY_2",
            "X-Auth",
            "X-Gitlab-Token",
            "X-Client-Secret",
            "X-Password",
            "X-Passwd",
            "X-Passphrase",
            "X-Session-Id",
            "X-Private",
            "X-Access-Key-Id",
            "X-Functions-Key",
            "Ocp-Apim-Subscription-Key",
            "X-Amz-Security-Token",
            "X-Credentials",
            "X-Jwt-Assertion",
            "X-Bearer",
        ] {
            assert!(says(name), "{name}");
        }
    }

    #[test]
    fn others_stay_readable() {
        for name in [
            "Content-Type",
            "X-Team",
            "Idempotency-Key",
            "X-Idempotency-Key",
            "WWW-Authenticate",
            "Proxy-Authenticate",
            "Access-Control-Allow-Credentials",
            "X-Request-Id",
            "X-Hub-Signature-256",
            "Webhook-Signature",
            "Retry-After",
            "Traceparent",
            "X-Keyword",
        ] {
            assert!(!says(name), "{name}");
        }
    }

    #[test]
    fn what_a_format_writes_itself_is_never_a_credential() {
        for format in all() {
            let own = format.own.iter().map(|(name, _)| name).chain(format.scheme().own_headers());
            for name in own {
                assert!(!is_credential(name), "{}: {name}", format.name());
            }
        }
    }
}
