//! Signatures by hand, from each provider's page. Nothing of Bowline's scheme engine is used here:
//! a receiver that checked with the sender's own code would prove nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

/// Both Standard Webhooks and Chimpbase allow five minutes.
const TOLERANCE_S: u64 = 300;

pub(crate) type Headers = Vec<(&'static str, String)>;

/// What a receiver was promised, and how it checks it.
#[derive(Debug, Clone)]
pub(crate) enum Receives {
    /// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
    Standard { secret: String },
    /// `X-Chimpbase-Signature: sha256=<hex>` over `{timestamp}.{body}`.
    Chimpbase { secret: String },
}

impl Receives {
    /// Whether a request is signed as it should be; else what is wrong.
    pub(crate) fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        match self {
            Self::Standard { secret } => {
                let (id, timestamp) = (header(headers, "webhook-id")?, header(headers, "webhook-timestamp")?);
                fresh(timestamp)?;
                let key = STANDARD
                    .decode(secret.trim_start_matches("whsec_"))
                    .map_err(|error| format!("the secret is not base64: {error}"))?;
                let mac = hmac(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
                let given = header(headers, "webhook-signature")?;
                let valid = given
                    .split(' ')
                    .filter_map(|entry| entry.strip_prefix("v1,"))
                    .filter_map(|text| STANDARD.decode(text).ok())
                    .any(|signature| mac.clone().verify_slice(&signature).is_ok());
                valid.then_some(()).ok_or_else(|| "webhook-signature does not match".to_owned())
            }
            Self::Chimpbase { secret } => {
                let timestamp = header(headers, "x-chimpbase-timestamp")?;
                fresh(timestamp)?;
                let mac = hmac(secret.as_bytes(), &[timestamp.as_bytes(), b".", body]);
                let given = header(headers, "x-chimpbase-signature")?;
                let signature = given.strip_prefix("sha256=").and_then(|text| hex::decode(text).ok());
                signature
                    .is_some_and(|signature| mac.verify_slice(&signature).is_ok())
                    .then_some(())
                    .ok_or_else(|| "x-chimpbase-signature does not match".to_owned())
            }
        }
    }
}

/// As GitHub signs:
/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
pub(crate) fn github(secret: &str, event: &str, delivery: &str, body: &[u8]) -> Headers {
    vec![
        ("content-type", "application/json".to_owned()),
        ("user-agent", "GitHub-Hookshot/demonstration".to_owned()),
        ("x-github-event", event.to_owned()),
        ("x-github-delivery", delivery.to_owned()),
        ("x-hub-signature-256", format!("sha256={}", hex_tag(secret.as_bytes(), &[body]))),
    ]
}

/// As Stripe signs: <https://docs.stripe.com/webhooks#verify-manually>
pub(crate) fn stripe(secret: &str, timestamp: u64, body: &[u8]) -> Headers {
    let text = timestamp.to_string();
    let tag = hex_tag(secret.as_bytes(), &[text.as_bytes(), b".", body]);
    vec![
        ("content-type", "application/json; charset=utf-8".to_owned()),
        ("stripe-signature", format!("t={text},v1={tag}")),
    ]
}

/// As the Standard Webhooks specification signs.
pub(crate) fn standard(secret: &str, id: &str, timestamp: u64, body: &[u8]) -> anyhow::Result<Headers> {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_"))?;
    let text = timestamp.to_string();
    let mac = hmac(&key, &[id.as_bytes(), b".", text.as_bytes(), b".", body]);
    Ok(vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", text),
        ("webhook-signature", format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))),
    ])
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn hex_tag(key: &[u8], parts: &[&[u8]]) -> String {
    hex::encode(hmac(key, parts).finalize().into_bytes())
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // HMAC takes a key of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("any length will do"));
    for part in parts {
        mac.update(part);
    }
    mac
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, String> {
    headers
        .get(name)
        .ok_or_else(|| format!("{name} is missing"))?
        .to_str()
        .map_err(|_| format!("{name} is not text"))
}

fn fresh(timestamp: &str) -> Result<(), String> {
    let at: u64 =
        timestamp.parse().map_err(|_| format!("the timestamp {timestamp:?} is not unix seconds"))?;
    if unix_now().abs_diff(at) > TOLERANCE_S {
        return Err(format!("the timestamp {at} is more than {TOLERANCE_S} s off"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's page: secret, payload and signature.
    #[test]
    fn github_signs_as_its_page_says() {
        let headers = github("It's a Secret to Everybody", "push", "1", b"Hello, World!");
        let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(headers[4].1, expected);
    }

    #[test]
    fn a_receiver_notices_each_changed_part() {
        let secret = format!("whsec_{}", STANDARD.encode("bowline-test-key"));
        let receives = Receives::Standard { secret: secret.clone() };
        let signed = standard(&secret, "msg_1", unix_now(), b"{}").unwrap();
        let headers = |change: Option<(&str, &str)>| -> HeaderMap {
            signed
                .iter()
                .map(|(name, value)| {
                    let value =
                        change.filter(|(changed, _)| changed == name).map_or(value.as_str(), |(_, to)| to);
                    (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())
                })
                .collect()
        };
        assert_eq!(receives.check(&headers(None), b"{}"), Ok(()));
        assert!(receives.check(&headers(None), b"{ }").is_err());
        assert!(receives.check(&headers(Some(("webhook-id", "msg_2"))), b"{}").is_err());
        assert!(receives.check(&headers(Some(("webhook-timestamp", "1"))), b"{}").is_err());
        assert!(receives.check(&HeaderMap::new(), b"{}").is_err());
    }
}
