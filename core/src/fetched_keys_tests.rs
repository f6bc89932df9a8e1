//! Keys fetched over real sockets, and the requests they verify.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::egress::EgressPolicy;
use crate::scheme::{InboundRequest, Scheme};

/// Answers every request with what `answer` makes of it, and counts them.
async fn provider(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, answer) = (Arc::clone(&asked), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut request = vec![0; 8192];
                let mut len = 0;
                // Head and body of these small requests; the body is JSON and ends with a brace.
                loop {
                    let read = stream.read(&mut request[len..]).await.unwrap();
                    len += read;
                    let text = String::from_utf8_lossy(&request[..len]);
                    let whole = text.starts_with("GET") && text.ends_with("\r\n\r\n") || text.ends_with('}');
                    if read == 0 || whole {
                        break;
                    }
                }
                let body = answer(&String::from_utf8_lossy(&request[..len]));
                let _ = stream.write_all(body.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (format!("http://{address}"), asked)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn fetched_keys() -> FetchedKeys {
    crate::bootstrap::install_tls_provider();
    FetchedKeys::new(EgressGuard::new(EgressPolicy::loopback(), Duration::from_secs(2)))
}

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn web_key(id: &str) -> String {
    let x = URL_SAFE_NO_PAD.encode(signer().verifying_key().as_bytes());
    format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}"#)
}

fn token(id: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode("{}"));
    let signature = signer().sign(signed.as_bytes()).to_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn scheme(key_source: &str) -> CompiledScheme {
    let text = format!(
        "algorithm = 'jwt'\nbody_bound = false\nsignature = {{ sources = ['header:x-token'] }}\n\
         jwt = {{ algorithms = ['EdDSA'] }}\n[key_source]\n{key_source}"
    );
    toml::from_str::<Scheme>(&text).unwrap().compile().unwrap()
}

/// As intake does it: fetch what is asked for, then verify.
async fn verify(
    fetched: &FetchedKeys,
    scheme: &CompiledScheme,
    own: &[Key],
    token: &str,
) -> Result<(), VerifyError> {
    let headers = HeaderMap::from_iter([("x-token".parse().unwrap(), HeaderValue::from_str(token).unwrap())]);
    let request = InboundRequest::new("POST", "/in", &headers, b"");
    let now = DateTime::UNIX_EPOCH;
    let keys = match scheme.key_fetch(&request, own)? {
        Some(fetch) => fetched.keys(scheme, &fetch, now).await?,
        None => own.to_vec(),
    };
    scheme.verify(&request, &keys, now).map(drop)
}

#[tokio::test]
async fn a_set_of_keys_is_fetched_once() {
    let (url, asked) = provider(|_| ok(&format!(r#"{{"keys":[{}]}}"#, web_key("a")))).await;
    let (fetched, scheme) = (fetched_keys(), scheme(&format!("kind = 'jwks'\nurl = '{url}/keys'")));
    let token_a = token("a");
    let one = || verify(&fetched, &scheme, &[], &token_a);
    let (one, two) = tokio::join!(one(), one());
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert_eq!(asked.load(Ordering::SeqCst), 1, "both waited for one fetch");
    let other = verify(&fetched, &scheme, &[], &token("b")).await.unwrap_err();
    assert_eq!(other.code(), "signature_mismatch");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "a key that is not in a fresh set is not looked for again");
    assert_eq!(verify(&fetched, &scheme, &[], "no.token").await.unwrap_err().code(), "invalid_token");
}

#[tokio::test]
async fn a_pinned_key_needs_no_fetch() {
    let (url, asked) = provider(|_| ok("{}")).await;
    let scheme = scheme(&format!("kind = 'jwks'\nurl = '{url}/keys'"));
    let pinned = [scheme.key(&Secret::from(web_key("a"))).unwrap()];
    assert_eq!(verify(&fetched_keys(), &scheme, &pinned, &token("a")).await, Ok(()));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn one_key_is_asked_for_by_its_id_and_with_the_secret() {
    let (url, asked) = provider(|request| {
        assert!(request.starts_with("POST /key "), "{request}");
        let body: serde_json::Value =
            serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body, serde_json::json!({"client_id": "me", "secret": "hush", "key_id": "a"}));
        ok(&format!(r#"{{"key":{}}}"#, web_key("a")))
    })
    .await;
    let scheme = scheme(&format!(
        "kind = 'key-by-id'\nurl = '{url}/key'\nat = '/key'\n\
         body = {{ client_id = 'me', secret = '{{secret}}', key_id = '{{kid}}' }}"
    ));
    let secret = [scheme.key(&Secret::from("hush")).unwrap()];
    let fetched = fetched_keys();
    assert_eq!(verify(&fetched, &scheme, &secret, &token("a")).await, Ok(()));
    assert_eq!(verify(&fetched, &scheme, &secret, &token("a")).await, Ok(()));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let none = verify(&fetched, &scheme, &[], &token("a")).await.unwrap_err();
    assert_eq!(none, VerifyError::NoUsableSecret);
}

#[tokio::test]
async fn a_provider_that_is_away_is_not_asked_by_every_request() {
    let (url, asked) = provider(|_| status("503 Service Unavailable")).await;
    let (fetched, scheme) = (fetched_keys(), scheme(&format!("kind = 'jwks'\nurl = '{url}/keys'")));
    for _ in 0..3 {
        let fault = verify(&fetched, &scheme, &[], &token("a")).await.unwrap_err();
        assert_eq!(
            fault.to_string(),
            "the provider's keys could not be fetched: the answer has the status 503"
        );
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_has_a_limit_and_the_guard_is_in_the_way() {
    let (url, _) = provider(|_| ok(&" ".repeat(ANSWER_BYTES_MAX + 1))).await;
    let scheme = scheme(&format!("kind = 'jwks'\nurl = '{url}/keys'"));
    let fault = verify(&fetched_keys(), &scheme, &[], &token("a")).await.unwrap_err();
    assert!(fault.to_string().contains("more than 262144 bytes"), "{fault}");
    let strict = FetchedKeys::new(EgressGuard::new(EgressPolicy::default(), Duration::from_secs(2)));
    let fault = verify(&strict, &scheme, &[], &token("a")).await.unwrap_err();
    assert!(fault.to_string().contains("`http:` URLs are refused"), "{fault}");
}

#[tokio::test]
async fn a_provider_confirms_what_it_knows() {
    let (url, asked) = provider(|request| {
        assert!(request.contains("authorization: Bearer key-invented\r\n"), "{request}");
        if request.starts_with("GET /payments/tr_1 ") { ok("{}") } else { status("404 Not Found") }
    })
    .await;
    let text = format!(
        "algorithm = 'fetch-back'\nbody_bound = false\nsignature = {{ sources = [] }}\n\
         key_source = {{ kind = 'fetch-back', url = '{url}/payments/{{form:id}}' }}"
    );
    let scheme = toml::from_str::<Scheme>(&text).unwrap().compile().unwrap();
    let own = [scheme.key(&Secret::from("key-invented")).unwrap()];
    let (fetched, headers, now) = (fetched_keys(), HeaderMap::new(), DateTime::UNIX_EPOCH);
    let known = InboundRequest::new("POST", "/in", &headers, b"id=tr_1");
    let fetch = scheme.key_fetch(&known, &own).unwrap().unwrap();
    let keys = fetched.keys(&scheme, &fetch, now).await.unwrap();
    scheme.verify(&known, &keys, now).unwrap();
    // What was confirmed is this object, and no other one.
    let other = InboundRequest::new("POST", "/in", &headers, b"id=tr_2");
    assert_eq!(scheme.verify(&other, &keys, now), Err(VerifyError::NotConfirmed));
    assert_eq!(scheme.verify(&known, &own, now), Err(VerifyError::NotConfirmed));
    let fetch = scheme.key_fetch(&other, &own).unwrap().unwrap();
    assert_eq!(fetched.keys(&scheme, &fetch, now).await.unwrap_err(), VerifyError::NotConfirmed);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let path = InboundRequest::new("POST", "/in", &headers, b"id=..%2Fcustomers");
    assert_eq!(scheme.key_fetch(&path, &own).unwrap_err().code(), "untrusted_key_place");
}

#[test]
fn certificates_come_from_the_providers_hosts_alone() {
    let scheme = crate::preset::find("aws-sns").unwrap().scheme().unwrap();
    assert!(scheme.needs_no_secret());
    let good = "https://sns.eu-west-1.amazonaws.com/a.pem";
    let fetch = |url: &str| {
        let body = format!(r#"{{"SigningCertURL":"{url}","Signature":"AAAA"}}"#);
        let headers = HeaderMap::new();
        let request = InboundRequest::new("POST", "/in", &headers, body.as_bytes());
        scheme.key_fetch(&request, &[]).map(|fetch| fetch.unwrap().url.to_string())
    };
    assert_eq!(fetch(good).unwrap(), good);
    for bad in [
        "http://sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/a.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example/a.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
        "https://evil.example/sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com/a.txt",
        "https://sns.eu-west-1.amazonaws.com/a?b=.pem",
        "https://sns.a.b.amazonaws.com/a.pem",
        "sns.eu-west-1.amazonaws.com",
    ] {
        assert_eq!(fetch(bad).unwrap_err().code(), "untrusted_key_place", "{bad}");
    }
}
