//! Headers and bodies that are nearly those of a signed request: only what the secret signed is accepted.
//!
//! An input is the number of a preset, and then what is done to the request that its provider would have
//! sent.

use std::sync::LazyLock;

use bowline_core::preset;
use bowline_core::scheme::{Algorithm, CompiledScheme, InboundRequest, Key, SignInput};
use bowline_core::secrets::Secret;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::generate::Choices;

pub const SEEDS: &[&[u8]] = &[
    b"\x00",
    b"\x01\x00\x00\x10t=1767312000,v1=",
    b"\x02\x01\x00\x08v0=,v2=,",
    b"\x03\x02\x00\x05\x03\x00\x09",
    b"\x04\x04\x00\x03\x05\x02{}",
    b"\x05\x06\x00\x04v1,=\x06\x00\x01 ",
    b"\x06\x07\x01\x01\x07\x00\x20",
    b"\x07\x01\x00\x40sha256=0000000000000000000000000000000000000000000000000000000000000000",
    b"\x08\x00\x00\x28eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.AAAA",
    b"\x20\x00\x00\x09Basic dTp\x01\x00\x08Bearer x",
];

pub const WORDS: &[&str] = &[
    "t=",
    "v1=",
    "v1,",
    "v1a,",
    "v0=",
    "s=",
    "sha1=",
    "sha256=",
    ", ",
    ",",
    ";",
    "=",
    "==",
    " ",
    "\t",
    "Basic ",
    "Bearer ",
    "1767312000",
    "-1",
    "00",
    "zz",
    "\u{e9}",
    "alg",
    "none",
    "eyJhbGciOiJub25lIn0.",
    "\0",
    "\r\n",
    "*",
];

const NOW: i64 = 1_767_312_000;
const ID: &str = "msg_1";
const BODY: &[u8] = br#"{"id":"evt-7","type":"order.paid","total":12.5}"#;
/// Read as text, hex, base64, a Standard Webhooks secret, a user and a password, and a PKCS#8 key.
const SECRETS: [&str; 5] = [
    "626f776c696e652d66757a7a2d6b65792d6e6f742d612d736563726574212121",
    "Ym93bGluZS1mdXp6LWtleS1ub3QtYS1zZWNyZXQhISE=",
    "whsec_Ym93bGluZS1mdXp6LWtleS1ub3QtYS1zZWNyZXQhISE=",
    "bowline-fuzz-user:bowline-fuzz-password",
    include_str!("../../../core/src/scheme/testdata/p256-private.pem"),
];
/// Whatever looks like a signature or a secret in a header is at least so long.
const SIGNATURE_BYTES_MIN: usize = 20;

/// A preset that signs, and what it makes of [`BODY`].
struct Case {
    name: &'static str,
    scheme: &'static CompiledScheme,
    keys: Vec<Key>,
    secret: &'static str,
    signed: HeaderMap,
    /// The texts without which nothing may be accepted, in lower case where the scheme has no case.
    signatures: Vec<String>,
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| preset::all().filter_map(Case::of).collect());

impl Case {
    fn of(preset: &'static preset::Preset) -> Option<Self> {
        let scheme = preset.scheme()?;
        let secrets = if scheme.algorithm() == Algorithm::Basic { &SECRETS[3..4] } else { &SECRETS[..] };
        let (secret, key) =
            secrets.iter().find_map(|secret| Some((*secret, scheme.key(&Secret::new(*secret)).ok()?)))?;
        let keys = vec![key];
        let input = SignInput {
            id: ID,
            timestamp: now(),
            method: "POST",
            url: "https://hooks.example.com/in",
            headers: &HeaderMap::new(),
            body: BODY,
        };
        let signed = HeaderMap::from_iter(scheme.sign(&input, &keys).ok()?);
        // Some say which headers they signed.
        let is_name = |part: &String| signed.contains_key(part.as_str());
        let signatures: Vec<String> =
            signed.values().flat_map(long_parts).filter(|part| !is_name(part)).collect();
        // Those that cannot verify what they sign here want more of a request than this one has.
        let case = Self { name: preset.name(), scheme, keys, secret, signed, signatures };
        (!case.signatures.is_empty() && case.accepts(&case.signed, BODY).is_ok()).then_some(case)
    }

    fn accepts(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let request =
            InboundRequest::new("POST", "/in", headers, body).with_public_url("https://hooks.example.com");
        let verdict = self.scheme.verify(&request, &self.keys, now());
        verdict.map(|_| ()).map_err(|fault| format!("{fault} {fault:?}"))
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

/// Runs of characters that signatures and tokens are made of, without regard to case.
fn long_parts(value: &HeaderValue) -> Vec<String> {
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let parts = text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/_-".contains(c)));
    parts.filter(|part| part.len() >= SIGNATURE_BYTES_MIN).map(ToOwned::to_owned).collect()
}

/// How many presets are tried.
pub fn cases() -> usize {
    CASES.len()
}

/// # Panics
/// When a request is accepted that the secret did not sign, or a refusal tells what it should not.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let case = &CASES[choices.byte() % CASES.len()];
    let (headers, body) = forge(case, &mut choices);
    match case.accepts(&headers, &body) {
        Ok(()) => {
            let given: Vec<String> = headers.values().flat_map(long_parts).collect();
            let is_signed = case.signatures.iter().any(|own| given.iter().any(|given| given.contains(own)));
            assert!(is_signed, "{}: accepted without its signature: {headers:?}", case.name);
            let is_bound = !case.scheme.binds_every_byte() || body == BODY;
            assert!(is_bound, "{}: accepted with another body: {body:?}", case.name);
        }
        Err(fault) => {
            assert!(!fault.contains(case.secret), "{}: tells the secret: {fault}", case.name);
            let told = case.signatures.iter().find(|own| fault.to_ascii_lowercase().contains(*own));
            // A secret that is sent is what was given, if anything is told at all.
            assert!(told.is_none(), "{}: tells what was expected: {fault}", case.name);
        }
    }
}

/// The signed request after all that the input does to it.
fn forge(case: &Case, choices: &mut Choices<'_>) -> (HeaderMap, Vec<u8>) {
    let names: Vec<&HeaderName> = case.signed.keys().collect();
    let (mut headers, mut body) = (case.signed.clone(), BODY.to_vec());
    while !choices.is_empty() {
        let what = choices.byte() % 8;
        let name = names[choices.byte() % names.len()];
        let piece = choices.piece();
        let right = case.signed[name].as_bytes();
        let value = match what {
            0 => piece.to_vec(),
            1 => {
                headers.append(name, HeaderValue::from_bytes(piece).unwrap_or(HeaderValue::from_static("")));
                continue;
            }
            2 => {
                headers.remove(name);
                continue;
            }
            3 => changed(right, piece),
            4 => right[..piece.len().min(right.len())].to_vec(),
            5 => {
                body = if piece.is_empty() { Vec::new() } else { changed(&body, piece) };
                continue;
            }
            6 => [piece, right].concat(),
            _ => [right, piece].concat(),
        };
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.insert(name, value);
        }
    }
    (headers, body)
}

/// The bytes of `from` at the places that `by` names are other ones.
fn changed(from: &[u8], by: &[u8]) -> Vec<u8> {
    let mut bytes = from.to_vec();
    for pair in by.chunks_exact(2) {
        let at = usize::from(pair[0]) % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= pair[1] & 0x7f;
        }
    }
    bytes
}
