//! Scheme files: what is read is written and read again as the same, and what is refused says where.

use bowline_core::scheme::{CompiledScheme, InboundRequest, Scheme, SignInput};
use bowline_core::secrets::Secret;
use chrono::{DateTime, Utc};
use http::HeaderMap;

pub const SEEDS: &[&[u8]] = &[
    b"algorithm = 'hmac-sha256'\ncontent = '{timestamp}.{body}'\n[signature]\nsources = ['header:x-sig']\nprefix = 'sha256='\n[timestamp]\nsources = ['header:x-ts']\nunit = 's'\ntolerance_past_s = 300\ntolerance_future_s = 'unlimited'\n",
    b"algorithm = 'hmac-sha256'\ncontent = '{id}.{timestamp}.{body}'\nevent_id = ['header:webhook-id', 'json:/id']\n[signature]\nsources = ['header:x-sig']\nencoding = 'base64'\nlayout = { item_sep = ' ', kv_sep = ',', signature_key = 'v1' }\n[timestamp]\nsources = ['header:webhook-timestamp']\nunit = 's'\n[key]\ndecode = 'base64'\nif_prefix = ['whsec_']\nstrip_prefix = ['whsec_']\n[[key.also]]\nalgorithm = 'ed25519'\npart = 'private'\nsignature_key = 'v1a'\ndecode = 'base64'\n",
    b"algorithm = 'token'\n[signature]\nsources = ['header:authorization', 'query:token']\nprefix = 'Bearer '\n",
    b"algorithm = 'basic'\n[signature]\nsources = ['header:authorization']\n[require_headers]\nx-kind = 'a'\n",
    b"algorithm = 'sha256'\ncontent = '{secret}{url_unescaped}{body_sha256_hex}{form:a}'\nurl_unescape = ':/?'\nurl_variants = ['without_port']\n[signature]\nsources = ['form:signature', 'query:s']\nhex_case_insensitive = true\n",
    b"algorithm = 'jwt'\n[signature]\nsources = ['header:authorization']\nprefix = 'Bearer '\n[jwt]\nalgorithms = ['HS256', 'RS256']\nissuer = 'x'\nbody_hash = { claim = 'hash', encoding = 'hex' }\n",
    b"{\"algorithm\":\"hmac-sha1\",\"content\":\"{method}{path_query}{header:x-a}{body}\",\"signature\":{\"sources\":[\"header:x-sig\"],\"layout\":{\"item_sep_any\":\", \",\"kv_sep\":\"=\",\"signature_key\":\"*\",\"timestamp_key\":\"t\"}},\"timestamp\":{\"unit\":\"ms\"},\"require_equal\":[{\"source\":\"query:h\",\"equals\":\"{body_sha256_hex}\"}]}",
    b"algorithm = 'rsa-sha256'\ncontent = '{body}'\nbody_bound = true\n[signature]\nsources = ['header:x-sig']\nencoding = 'base64url-nopad'\n[key]\ndecode = 'pem'\n",
];

pub const WORDS: &[&str] = &[
    "algorithm",
    "content",
    "signature",
    "sources",
    "layout",
    "item_sep",
    "item_sep_any",
    "kv_sep",
    "signature_key",
    "timestamp_key",
    "timestamp_index",
    "write_sep",
    "bare_ok",
    "timestamp",
    "unit",
    "tolerance_past_s",
    "'unlimited'",
    "key",
    "decode",
    "also",
    "strip_prefix",
    "id_sep",
    "derive",
    "normalize",
    "content_also",
    "url_variants",
    "url_unescape = ':'",
    "{url_unescaped}",
    "algorithm_by",
    "signed_headers",
    "json_fields",
    "jwt",
    "key_source",
    "event_id",
    "key_id",
    "require_headers",
    "require_equal",
    "body_bound = false",
    "signed = false",
    "prefix",
    "encoding",
    "{body}",
    "{timestamp}",
    "{id}",
    "{secret}",
    "{header:x}",
    "{query:x}",
    "{json:/a}",
    "{form:a}",
    "{signed_headers}",
    "{json_fields}",
    "{{",
    "}}",
    "{",
    "header:",
    "json:/",
    "hmac-sha256",
    "ed25519",
    "token",
    "fetch-back",
    "[[",
    "]]",
    "\n[",
    "= 1\n",
    "= true\n",
    "= ''\n",
    "= []\n",
    "= -1\n",
    "= 99999999999\n",
    "\u{0}",
    "\u{1f980}",
];

/// The fields of a description, by which a fault is named.
const FIELDS: [&str; 17] = [
    "algorithm",
    "algorithm_by",
    "body_bound",
    "content",
    "content_also",
    "event_id",
    "json_fields",
    "jwt",
    "key",
    "key_id",
    "key_source",
    "require_equal",
    "require_headers",
    "signature",
    "signed_headers",
    "timestamp",
    "url_unescape",
];

/// Secrets of every form that one may have.
const SECRETS: [&str; 4] = [
    "626f776c696e652d66757a7a2d6b65792d6e6f742d612d736563726574212121",
    "Ym93bGluZS1mdXp6LWtleS1ub3QtYS1zZWNyZXQhISE=",
    "whsec_Ym93bGluZS1mdXp6LWtleS1ub3QtYS1zZWNyZXQhISE=",
    "bowline-fuzz-user:bowline-fuzz-password",
];

/// # Panics
/// When a file that is read is another one once written, a refusal names no place, or a scheme accepts what
/// nobody signed.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(scheme) = read(text) else { return };
    let toml = toml::to_string(&scheme).expect("a description is written");
    assert_eq!(toml::from_str::<Scheme>(&toml).as_ref(), Ok(&scheme), "as TOML: {toml}");
    let json = serde_json::to_string(&scheme).expect("a description is written");
    assert_eq!(serde_json::from_str::<Scheme>(&json).expect("JSON of our own"), scheme, "as JSON: {json}");
    match scheme.compile() {
        Ok(compiled) => check_compiled(&compiled),
        Err(refused) => {
            assert!(!refused.faults.is_empty());
            for fault in &refused.faults {
                let root = fault.field.split(['.', '[']).next().unwrap_or_default();
                assert!(FIELDS.contains(&root), "`{}` is no field: {}", fault.field, fault.problem);
                assert!(!fault.problem.is_empty(), "{}: and?", fault.field);
            }
        }
    }
}

fn read(text: &str) -> Option<Scheme> {
    if text.starts_with('{') {
        return match serde_json::from_str(text) {
            Ok(scheme) => Some(scheme),
            Err(error) => {
                assert!(error.line() > 0, "no place: {error}");
                None
            }
        };
    }
    match toml::from_str(text) {
        Ok(scheme) => Some(scheme),
        Err(error) => {
            // What is missing at the top has no place but the whole file.
            let is_placed =
                error.to_string().contains("line ") || error.message().starts_with("missing field");
            assert!(is_placed, "no place: {error}");
            None
        }
    }
}

/// Nothing passes that nobody signed; what the scheme signs itself, it has signed.
fn check_compiled(scheme: &CompiledScheme) {
    let now = DateTime::<Utc>::from_timestamp(1_767_312_000, 0).expect("a time");
    let empty = HeaderMap::new();
    for key in SECRETS.iter().filter_map(|secret| scheme.key(&Secret::new(*secret)).ok()) {
        let keys = [key];
        let bare = InboundRequest::new("POST", "/in?a=1", &empty, b"{\"a\":1}");
        assert!(scheme.verify(&bare, &keys, now).is_err(), "accepted without a signature: {scheme:?}");
        let input = SignInput {
            id: "msg_1",
            timestamp: now,
            method: "POST",
            url: "https://hooks.example.com/in?a=1",
            headers: &empty,
            body: b"{\"a\":1}",
        };
        let Ok(signed) = scheme.sign(&input, &keys) else { continue };
        let headers = HeaderMap::from_iter(signed);
        let other = Secret::new("776f776c696e652d66757a7a2d6b65792d6e6f742d612d736563726574212121");
        let request = InboundRequest::new("POST", "/in?a=1", &headers, b"{\"a\":1}");
        if scheme.algorithm().is_hmac()
            && let Ok(other) = scheme.key(&other)
        {
            assert!(
                scheme.verify(&request, &[other], now).is_err(),
                "accepted under another key: {scheme:?}"
            );
        }
        if scheme.algorithm().is_hmac() && scheme.binds_every_byte() {
            let forged = InboundRequest::new("POST", "/in?a=1", &headers, b"{\"a\":2}");
            assert!(scheme.verify(&forged, &keys, now).is_err(), "accepted another body: {scheme:?}");
        }
    }
}
