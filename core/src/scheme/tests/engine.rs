//! What the engine accepts, refuses and says about it.

use chrono::Utc;
use http::{HeaderMap, HeaderName};

use super::{Sent, at, keys, scheme};
use crate::preset;
use crate::scheme::{
    Algorithm, CompiledScheme, KeyError, Scheme, SchemeError, SignError, SignInput, StatusHint, VerifyError,
};
use crate::secrets::Secret;

const NOW: i64 = 1_767_312_000;

/// Shaped like Stripe's, under a name of its own.
const LISTED: &str = "
    algorithm = 'hmac-sha256'
    content = '{timestamp}.{body}'
    signature = { sources = ['header:x-sig'], layout = { item_sep = ',', kv_sep = '=', signature_key = 'v1', timestamp_key = 't' } }
    timestamp = { unit = 's' }
";

fn sign(scheme: &CompiledScheme, secrets: &[&str], body: &str) -> Sent {
    let keys = keys(scheme, secrets);
    let input = SignInput {
        id: "msg_1",
        timestamp: at(NOW),
        method: "POST",
        url: "https://hooks.example.com/in?x=1",
        headers: &HeaderMap::new(),
        body: body.as_bytes(),
    };
    let mut sent = Sent { path: "/in?x=1".into(), body: body.into(), ..Sent::default() };
    for (name, value) in scheme.sign(&input, &keys).unwrap() {
        sent.headers.append(name, value);
    }
    sent
}

fn faults(toml: &str) -> Vec<String> {
    let SchemeError { faults } = toml::from_str::<Scheme>(toml).unwrap().compile().unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn each_failed_check_has_its_name_and_status() {
    let scheme = scheme(LISTED);
    let active = keys(&scheme, &["bowline-test"]);
    let zeros = "00".repeat(32);
    let with = |value: String| Sent::new(&[("x-sig", &value)], "{}");
    for (sent, code, status, says) in [
        (Sent::new(&[], ""), "missing_header", StatusHint::BadRequest, "the header `x-sig` is missing"),
        (with(String::new()), "malformed_header", StatusHint::BadRequest, "empty"),
        (with("junk".into()), "malformed_header", StatusHint::BadRequest, "no signature under `v1`"),
        (with(format!("t={NOW},v0={zeros}")), "malformed_header", StatusHint::BadRequest, "no signature"),
        (with(format!("t={NOW},v1=zz")), "malformed_header", StatusHint::BadRequest, "not hex"),
        (with(format!("v1={zeros}")), "malformed_header", StatusHint::BadRequest, "no timestamp under `t`"),
        (with(format!("t=0{NOW},v1={zeros}")), "malformed_header", StatusHint::BadRequest, "unix seconds"),
        (
            with(format!("t={},v1={zeros}", NOW - 400)),
            "timestamp_too_old",
            StatusHint::Unauthorized,
            "400 s, allowed are 300 s",
        ),
        (
            with(format!("t={},v1={zeros}", NOW + 90)),
            "timestamp_in_future",
            StatusHint::Unauthorized,
            "90 s ahead, allowed are 60 s",
        ),
        (
            with(format!("t={NOW},v1={zeros},v1=00")),
            "signature_mismatch",
            StatusHint::Unauthorized,
            "(2 given; active secrets tried: 1)",
        ),
        (with("a".repeat(20_000)), "malformed_header", StatusHint::BadRequest, "longer than 16384 bytes"),
        (with("v1=00,".repeat(20)), "malformed_header", StatusHint::BadRequest, "more than 16 signatures"),
    ] {
        let fault = sent.verify(&scheme, &active, NOW).unwrap_err();
        assert_eq!((fault.code(), fault.status_hint()), (code, status), "{fault}");
        assert!(fault.to_string().contains(says), "{fault}");
    }
    let fault = with(zeros).verify(&scheme, &[], NOW).unwrap_err();
    assert_eq!((fault.code(), fault.status_hint()), ("no_usable_secret", StatusHint::Unavailable));
}

#[test]
fn several_secrets_sign_side_by_side_where_the_layout_has_room() {
    let scheme = scheme(LISTED);
    let sent = sign(&scheme, &["new", "old"], "{}");
    assert_eq!(sent.headers["x-sig"].to_str().unwrap().matches("v1=").count(), 2);
    for secret in ["new", "old"] {
        sent.verify(&scheme, &keys(&scheme, &[secret]), NOW).unwrap();
    }
    assert_eq!(sent.verify(&scheme, &keys(&scheme, &["other", "old"]), NOW).unwrap().key_index, 1);

    let github = preset::find("github").unwrap().scheme().unwrap();
    let sent = sign(github, &["new", "old"], "{}");
    sent.verify(github, &keys(github, &["new"]), NOW).unwrap();
    assert!(sent.verify(github, &keys(github, &["old"]), NOW).is_err(), "one signature: the newest signs");
}

#[test]
fn standard_speaks_both_of_its_algorithms() {
    let standard = preset::find("standard").unwrap().scheme().unwrap();
    let symmetric = standard.generate_secret();
    assert!(symmetric.secret.expose_str().unwrap().starts_with("whsec_") && symmetric.public.is_none());
    let pair = standard.generate_secret_for(Algorithm::Ed25519).unwrap();
    let (private, public) = (pair.secret.expose_str().unwrap(), pair.public.unwrap());
    assert!(private.starts_with("whsk_") && public.starts_with("whpk_"));
    let both = [symmetric.secret.expose_str().unwrap(), private];

    let sent = sign(standard, &both, "{}");
    let header = sent.headers["webhook-signature"].to_str().unwrap().to_owned();
    assert!(header.starts_with("v1,") && header.contains(" v1a,"), "{header}");
    for secret in [both[0], private, &public] {
        sent.verify(standard, &keys(standard, &[secret]), NOW).unwrap();
    }
    // A public key signs nothing.
    let public = keys(standard, &[&public]);
    let input = SignInput {
        id: "1",
        timestamp: Utc::now(),
        method: "POST",
        url: "",
        headers: &HeaderMap::new(),
        body: b"",
    };
    assert_eq!(standard.sign(&input, &public), Err(SignError::NoSigningKey));
    // A signature of one algorithm is none of the other.
    let relabeled = header.replace("v1a,", "v1,");
    let mut forged = sent.clone();
    forged.headers.insert("webhook-signature", relabeled.parse().unwrap());
    assert!(forged.verify(standard, &public, NOW).is_err());
}

#[test]
fn secrets_that_are_no_keys_are_named_without_being_shown() {
    let standard = preset::find("standard").unwrap().scheme().unwrap();
    let fault = |secret: &str| standard.key(&Secret::new(secret)).unwrap_err();
    assert_eq!(fault(""), KeyError::Empty);
    assert_eq!(fault("whsec_"), KeyError::Empty);
    assert_eq!(fault("whsec_hush!"), KeyError::Encoding("base64"));
    assert_eq!(fault("whpk_aHVzaA=="), KeyError::Length { got: 4, wanted: "32" });
    assert_eq!(fault("whsk_aHVzaA=="), KeyError::Length { got: 4, wanted: "32 or 64" });
    for secret in ["whsec_hush!", "whpk_aHVzaA=="] {
        assert!(!fault(secret).to_string().contains("hush"));
    }
    let key = standard.key(&Secret::new("whsec_aHVzaC1odXNo")).unwrap();
    assert_eq!(format!("{key:?}"), "Key(redacted)");
}

#[test]
fn a_token_travels_in_a_header_or_the_query() {
    let bearer = scheme("algorithm='token'\nsignature={sources=['header:authorization'],prefix='Bearer '}");
    let active = keys(&bearer, &["bowline-test-token"]);
    let with = |value: &str| Sent::new(&[("authorization", value)], "").verify(&bearer, &active, NOW);
    assert!(with("Bearer bowline-test-token").is_ok());
    assert!(with("bearer bowline-test-token").is_ok());
    assert_eq!(with("Bearer other").unwrap_err().code(), "wrong_token");
    assert_eq!(with("Basic eA==").unwrap_err().code(), "malformed_header");
    let missing = Sent::new(&[], "").verify(&bearer, &active, NOW).unwrap_err();
    assert_eq!((missing.code(), missing.status_hint()), ("missing_header", StatusHint::Unauthorized));
    assert_eq!(bearer.www_authenticate(), Some("Bearer realm=\"webhooks\""));
    let sent = sign(&bearer, &["bowline-test-token"], "");
    assert!(sent.headers["authorization"].is_sensitive());
    sent.verify(&bearer, &active, NOW).unwrap();

    let query = scheme("algorithm='token'\nsignature={sources=['query:token']}");
    let active = keys(&query, &["a b"]);
    let sent = Sent { path: "/in?token=a%20b".into(), ..Sent::default() };
    sent.verify(&query, &active, NOW).unwrap();
    let fault = Sent { path: "/in".into(), ..Sent::default() }.verify(&query, &active, NOW).unwrap_err();
    assert_eq!(fault.code(), "missing_field");
    assert_eq!(query.www_authenticate(), None);
}

#[test]
fn basic_credentials() {
    let basic = scheme("algorithm='basic'\nsignature={sources=['header:authorization']}");
    let active = keys(&basic, &["hook:s3:cret"]);
    let sent = sign(&basic, &["hook:s3:cret"], "");
    sent.verify(&basic, &active, NOW).unwrap();
    let with = |value: &str| Sent::new(&[("authorization", value)], "").verify(&basic, &active, NOW);
    assert_eq!(with("Basic aG9vazp4").unwrap_err().code(), "wrong_password");
    assert_eq!(with("Basic !").unwrap_err().code(), "malformed_header");
    assert!(basic.www_authenticate().unwrap().starts_with("Basic"));
    assert_eq!(basic.key(&Secret::new("nocolon")).unwrap_err(), KeyError::Basic);
}

#[test]
fn the_url_and_the_method_can_be_signed() {
    let scheme = scheme(
        "algorithm='hmac-sha512'\ncontent='{method}{url}{body}{timestamp}'\n\
         signature={sources=['header:x-sig'],encoding='base64url-nopad'}\n\
         timestamp={sources=['header:x-ts'],unit='ms'}\nrequire_headers={x-version='3'}",
    );
    let sent = sign(&scheme, &["k"], "{}");
    let active = keys(&scheme, &["k"]);
    let verified = sent.verify(&scheme, &active, NOW).unwrap();
    assert_eq!(verified.timestamp, Some(at(NOW)));
    let moved = Sent { path: "/in?x=2".into(), ..sent.clone() };
    assert_eq!(moved.verify(&scheme, &active, NOW).unwrap_err().code(), "signature_mismatch");
    let mut other = sent;
    other.headers.insert("x-version", "2".parse().unwrap());
    let fault = other.verify(&scheme, &active, NOW).unwrap_err();
    assert_eq!(fault, VerifyError::UnexpectedHeader { name: "x-version".into() });
}

#[test]
fn every_fault_of_a_description_is_named_at_once() {
    let named = faults(
        "algorithm='hmac-sha256'\ncontent='{id}{nope}'\nsignature={sources=[],prefix='a',layout={kv_sep='='}}\n\
         timestamp={unit='s',tolerance_past_s=9999999}\nrequire_headers={'a b'='c'}",
    );
    for part in [
        "content:",
        "signature.sources:",
        "signature.prefix:",
        "signature.layout.item_sep:",
        "timestamp.sources:",
        "timestamp.tolerance_past_s:",
        "require_headers:",
    ] {
        assert!(named.iter().any(|fault| fault.starts_with(part)), "{part} in {named:?}");
    }
    for (toml, part) in [
        ("algorithm='hmac-sha256'\ncontent='{method}'\nsignature={sources=['header:s']}", "body_bound"),
        ("algorithm='hmac-sha256'\ncontent='{id}{body}'\nsignature={sources=['header:s']}", "event_id"),
        (
            "algorithm='hmac-sha256'\ncontent='{body}'\nbody_bound=false\nsignature={sources=['header:s']}",
            "body_bound",
        ),
        (
            "algorithm='hmac-sha256'\ncontent='{body}'\nsignature={sources=['header:s']}\n\
          timestamp={sources=['header:t'],unit='s'}",
            "signed = false",
        ),
        (
            "algorithm='hmac-sha256'\ncontent='{timestamp}{body}'\nsignature={sources=['header:s']}",
            "timestamp",
        ),
        ("algorithm='hmac-sha256'\nsignature={sources=['header:s']}", "say what is signed"),
        (
            "algorithm='hmac-sha256'\ncontent='{body}'\ncontent_also=['{method}']\nsignature={sources=['header:s']}",
            "content_also",
        ),
        (
            "algorithm='hmac-sha256'\ncontent='{form:a}{body}'\nbody_bound=false\nsignature={sources=['header:s']}",
            "body_bound = false is wrong",
        ),
        (
            "algorithm='hmac-sha256'\ncontent='{header:t}{body}'\ncontent_also=['{body}']\n\
             signature={sources=['header:s']}\ntimestamp={sources=['header:t'],unit='s'}",
            "content_also",
        ),
        (
            "algorithm='hmac-sha256'\ncontent='{url_unescaped}{body}'\nsignature={sources=['header:s']}",
            "url_unescape",
        ),
        (
            "algorithm='hmac-sha256'\ncontent='{url}{body}'\nurl_unescape=':'\nsignature={sources=['header:s']}",
            "url_unescape",
        ),
        ("algorithm='token'\ncontent='{body}'\nsignature={sources=['header:s']}", "nothing is signed"),
        (
            "algorithm='hmac-sha1'\ncontent='{body}'\nsignature={sources=['header:s']}\nkey={if_prefix=['']}",
            "empty prefix",
        ),
        (
            "algorithm='hmac-sha1'\ncontent='{body}'\nsignature={sources=['header:s'],encoding='base64',hex_case_insensitive=true}",
            "hex only",
        ),
    ] {
        let named = faults(toml);
        assert!(named.len() == 1 && named[0].contains(part), "{part} in {named:?}");
    }
}

#[test]
fn unknown_words_are_refused_and_what_is_written_reads_back() {
    for toml in [
        "algorithm='hmac-md4'\nsignature={sources=['header:s']}",
        "algorithm='hmac-sha256'\nsignature={sources=['header:s']}\ntypo=1",
        "algorithm='hmac-sha256'\nsignature={sources=['cookie:s']}",
        "algorithm='hmac-sha256'\nsignature={sources=['header:s']}\ntimestamp={unit='s',tolerance_past_s='none'}",
    ] {
        assert!(toml::from_str::<Scheme>(toml).is_err(), "{toml}");
    }
    for preset in preset::all() {
        let Some(scheme) = &preset.description().scheme else { continue };
        let json = serde_json::to_string(scheme).unwrap();
        assert_eq!(&serde_json::from_str::<Scheme>(&json).unwrap(), scheme);
        assert_eq!(&toml::from_str::<Scheme>(&toml::to_string(scheme).unwrap()).unwrap(), scheme);
    }
}

#[test]
fn the_headers_a_scheme_owns() {
    let own = |name: &str| -> Vec<HeaderName> {
        let scheme = preset::find(name).unwrap().scheme().unwrap();
        scheme.own_headers().into_iter().cloned().collect()
    };
    assert_eq!(own("standard"), ["webhook-signature", "webhook-timestamp", "webhook-id"]);
    assert_eq!(own("rkt"), ["x-rkt-signature"]);
}
