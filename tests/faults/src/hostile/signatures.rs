//! Requests that are right but for what proves who sent them.

use bowline_tests::sign::{self, Headers};
use rand::RngExt;
use rand::rngs::StdRng;

use super::Target;

/// A request with its headers and body as they go onto the wire.
#[derive(Debug)]
pub struct Forged {
    pub kind: &'static str,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// Beyond every preset's tolerance.
const STALE_S: i64 = 100_000;
/// The presets that refuse a signature of long ago; Stripe's has no bound on what is to come.
const TIMED: &[&str] = &["stripe", "slack", "standard"];
const BOUND_AHEAD: &[&str] = &["slack", "standard"];

/// What `target`'s provider would send.
pub fn signed(target: &Target, secret: &str, shift_s: i64, number: u64, body: &[u8]) -> Headers {
    let (at, id) = (sign::unix_now(shift_s), format!("hostile-{number}"));
    match target.preset {
        "github" => sign::github(secret, &id, "push", body),
        "stripe" => sign::stripe(secret, at, body),
        "slack" => sign::slack(secret, at, body),
        "shopify" => sign::shopify(secret, &id, "orders/create", body),
        "standard" => sign::standard(secret, &id, at, body),
        "chimpbase" => sign::chimpbase(secret, &id, "order.created", at, body),
        "rkt" => sign::rkt(secret, body),
        "chatbase" => sign::chatbase(secret, body),
        "connectgain" => sign::connectgain(secret, "order.created", &at.to_string(), body),
        _ => sign::chatblocks(secret, &id, at, body),
    }
}

pub fn body(number: u64, random: &mut StdRng) -> Vec<u8> {
    let pad = "x".repeat(random.random_range(0..400));
    format!(r#"{{"id":"hostile-{number}","type":"order.created","n":{number},"pad":"{pad}"}}"#).into_bytes()
}

/// Wrong in one of many ways.
pub fn forge(target: &Target, number: u64, random: &mut StdRng) -> Forged {
    let mut body = body(number, random);
    let other_secret = sign::test_secret("another");
    let way = random.random_range(0..14_u32);
    let headers = match way {
        0 => signed(target, &other_secret, 0, number, &body),
        1 if TIMED.contains(&target.preset) => signed(target, &target.secret, -STALE_S, number, &body),
        2 if BOUND_AHEAD.contains(&target.preset) => signed(target, &target.secret, STALE_S, number, &body),
        3 => signed(target, &target.secret, 0, number, b""),
        _ => signed(target, &target.secret, 0, number, &body),
    };
    let mut headers: Vec<(String, Vec<u8>)> =
        headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    // Stripe, Slack and others: the last header is the signature, or the only one that proves anything.
    let proof = headers.iter().position(|(name, _)| is_proof(name)).unwrap_or(headers.len() - 1);
    let value = &mut headers[proof].1;
    let kind = match way {
        0 => "signature: another's secret",
        1 if TIMED.contains(&target.preset) => "signature: of long ago",
        2 if BOUND_AHEAD.contains(&target.preset) => "signature: of times to come",
        3 => "signature: of an empty body",
        4 => {
            headers.remove(proof);
            "signature: missing"
        }
        5 => {
            value.clear();
            "signature: empty"
        }
        6 => {
            value.truncate(value.len() / 2);
            "signature: cut short"
        }
        7 => {
            flip(value);
            "signature: one character off"
        }
        8 => {
            *value = vec![0xff, 0xfe, b'a', 0x80];
            "signature: not text"
        }
        9 => {
            *value = vec![b'a'; random.random_range(1_000..30_000)];
            "signature: endless"
        }
        10 => {
            *value = b"sha1=da39a3ee5e6b4b0d3255bfef95601890afd80709".to_vec();
            "signature: another algorithm"
        }
        11 => {
            *value = b"t=,v1=,v1=;,;=".to_vec();
            "signature: no such form"
        }
        12 => {
            body.truncate(body.len() - 1);
            "signature: body cut short"
        }
        _ => {
            let at = random.random_range(0..body.len());
            body[at] ^= 1;
            "signature: body changed"
        }
    };
    Forged { kind, headers, body }
}

fn is_proof(name: &str) -> bool {
    name.contains("signature") || name.contains("hmac")
}

/// Changes a character that counts: the fourth from the end is one in hex and in base64.
fn flip(value: &mut [u8]) {
    let at = value.len() - 4;
    value[at] = if value[at] == b'a' { b'b' } else { b'a' };
}
