//! Signatures written out by hand from the providers' pages: the tests sign and check with these,
//! and never with the engine under test.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// Headers as the tests pass them about.
pub type Headers = Vec<(String, String)>;

pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

pub fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// Seconds since 1970, shifted.
pub fn unix_now(shift_s: i64) -> i64 {
    chrono::Utc::now().timestamp() + shift_s
}

fn headers<const N: usize>(pairs: [(&str, String); N]) -> Headers {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
pub fn github(secret: &str, delivery: &str, event: &str, body: &[u8]) -> Headers {
    let mac = hex::encode(hmac_sha256(secret.as_bytes(), &[body]));
    headers([
        ("content-type", "application/json".into()),
        ("x-github-event", event.into()),
        ("x-github-delivery", delivery.into()),
        ("x-hub-signature-256", format!("sha256={mac}")),
    ])
}

/// <https://docs.stripe.com/webhooks#verify-manually>
pub fn stripe(secret: &str, timestamp: i64, body: &[u8]) -> Headers {
    let mac = hex::encode(hmac_sha256(secret.as_bytes(), &[timestamp.to_string().as_bytes(), b".", body]));
    headers([
        ("content-type", "application/json; charset=utf-8".into()),
        ("stripe-signature", format!("t={timestamp},v1={mac}")),
    ])
}

/// <https://api.slack.com/authentication/verifying-requests-from-slack>
pub fn slack(secret: &str, timestamp: i64, body: &[u8]) -> Headers {
    let mac =
        hex::encode(hmac_sha256(secret.as_bytes(), &[b"v0:", timestamp.to_string().as_bytes(), b":", body]));
    headers([
        ("content-type", "application/json".into()),
        ("x-slack-request-timestamp", timestamp.to_string()),
        ("x-slack-signature", format!("v0={mac}")),
    ])
}

/// <https://shopify.dev/docs/apps/build/webhooks/subscribe/https>
pub fn shopify(secret: &str, id: &str, topic: &str, body: &[u8]) -> Headers {
    headers([
        ("content-type", "application/json".into()),
        ("x-shopify-topic", topic.into()),
        ("x-shopify-webhook-id", id.into()),
        ("x-shopify-hmac-sha256", STANDARD.encode(hmac_sha256(secret.as_bytes(), &[body]))),
    ])
}

/// The signature header of <https://www.standardwebhooks.com>, without the headers around it.
pub fn standard_signature(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key =
        STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).expect("a whsec_ secret in base64");
    let mac = hmac_sha256(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
    format!("v1,{}", STANDARD.encode(mac))
}

pub fn standard(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Headers {
    headers([
        ("content-type", "application/json".into()),
        ("webhook-id", id.into()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", standard_signature(secret, id, &timestamp.to_string(), body)),
    ])
}

pub fn chimpbase(secret: &str, delivery: &str, event: &str, timestamp: i64, body: &[u8]) -> Headers {
    let mac = hex::encode(hmac_sha256(secret.as_bytes(), &[timestamp.to_string().as_bytes(), b".", body]));
    headers([
        ("content-type", "application/json".into()),
        ("x-chimpbase-signature", format!("sha256={mac}")),
        ("x-chimpbase-timestamp", timestamp.to_string()),
        ("x-chimpbase-delivery-id", delivery.into()),
        ("x-chimpbase-event", event.into()),
    ])
}

pub fn rkt(secret: &str, body: &[u8]) -> Headers {
    headers([
        ("content-type", "application/json".into()),
        ("x-rkt-signature", hex::encode(hmac_sha256(secret.as_bytes(), &[body]))),
    ])
}

pub fn chatbase(secret: &str, body: &[u8]) -> Headers {
    headers([
        ("content-type", "application/json".into()),
        ("x-chatbase-signature", hex::encode(hmac_sha1(secret.as_bytes(), &[body]))),
    ])
}

pub fn connectgain(secret: &str, event: &str, timestamp: &str, body: &[u8]) -> Headers {
    headers([
        ("content-type", "application/json".into()),
        ("x-webhook-event", event.into()),
        ("x-webhook-timestamp", timestamp.into()),
        ("x-webhook-signature", hex::encode(hmac_sha256(secret.as_bytes(), &[body]))),
    ])
}

pub fn chatblocks(secret: &str, key: &str, timestamp: i64, body: &[u8]) -> Headers {
    let mac = hex::encode(hmac_sha256(secret.as_bytes(), &[timestamp.to_string().as_bytes(), b".", body]));
    headers([
        ("content-type", "application/json".into()),
        ("idempotency-key", key.into()),
        ("x-chatblocks-signature", format!("t={timestamp},v1={mac}")),
    ])
}

/// A Standard Webhooks secret that anyone can see is invented.
pub fn test_secret(word: &str) -> String {
    format!("whsec_{}", STANDARD.encode(format!("bowline-test-key-for-{word:-<32}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_providers_own_examples() {
        // GitHub's page on validating deliveries.
        let github = github("It's a Secret to Everybody", "d", "push", b"Hello, World!");
        assert_eq!(github[3].1, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
        // The Standard Webhooks specification, "Signature scheme".
        let signature = standard_signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
