//! Access tokens of endpoints that authenticate by OAuth 2 client credentials (RFC 6749, 4.4).
//!
//! A token is fetched through the egress guard when the first attempt needs one, kept until shortly before
//! it expires, and asked for again when a receiver refuses it. Attempts that want one at the same time wait
//! for one fetch, and share its failure. Everything is bounded (invariant 7): the answer, the time, and how
//! often a server that fails is asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use crate::egress::{EgressGuard, EgressRequest, EgressSendError, basic};
use crate::endpoint_auth::ClientCredentials;
use crate::secrets::{Purpose, Secret, SecretError, StoredSecret, Vault};

const ANSWER_BYTES_MAX: usize = 64 * 1024;
const TOKEN_BYTES_MAX: usize = 8 * 1024;
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Where the server does not say how long a token lives.
const LIFE_DEFAULT: Duration = Duration::from_secs(300);
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// A token is not used any more so long before it expires, but for at least nine tenths of its life.
const MARGIN: Duration = Duration::from_secs(60);
/// A server that failed is asked again after this.
const FAILURE_KEPT: Duration = Duration::from_secs(2);

/// Why there is no token. Nothing of the secret or of an answer's body is in it, but the error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the client secret is not among the endpoint's secrets: set its auth again")]
    SecretMissing,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the token server could not be asked: {0}")]
    Send(EgressSendError),
    #[error("the token server answered {status}{}", said(code.as_deref()))]
    Status { status: u16, code: Option<String> },
    #[error("the answer of the token server {0}")]
    Answer(&'static str),
    #[error("no access token within the endpoint's timeout")]
    Timeout,
}

fn said(code: Option<&str>) -> String {
    code.map(|code| format!(": {code}")).unwrap_or_default()
}

impl TokenError {
    /// Whether a later attempt can do better.
    pub fn is_final(&self) -> bool {
        match self {
            Self::SecretMissing | Self::Secret(_) => true,
            Self::Send(error) => error.refusal.is_some(),
            Self::Status { .. } | Self::Answer(_) | Self::Timeout => false,
        }
    }
}

/// Where the tokens of one endpoint come from, and the one it has.
#[derive(Debug)]
pub struct AccessTokens {
    wanted: ClientCredentials,
    url: Url,
    secret: Option<Arc<StoredSecret>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    failed: Option<(Instant, TokenError)>,
}

#[derive(Debug, Clone)]
struct Token {
    /// `Bearer ...`, marked as sensitive.
    authorization: HeaderValue,
    until: Instant,
}

impl AccessTokens {
    /// The error says in a sentence why this build cannot use them.
    pub fn new(wanted: &ClientCredentials, secret: Option<Arc<StoredSecret>>) -> Result<Self, String> {
        let url = Url::parse(&wanted.token_url)
            .map_err(|fault| format!("its token URL does not parse: {fault}"))?;
        Ok(Self { wanted: wanted.clone(), url, secret, state: Mutex::default() })
    }

    /// What the `authorization` header is to say. `refused` is one that a receiver did not take: if it is
    /// still the one there is, another one is fetched.
    pub async fn get(
        &self,
        guard: &EgressGuard,
        vault: &Vault,
        refused: Option<&HeaderValue>,
        deadline: Instant,
    ) -> Result<HeaderValue, TokenError> {
        let asked = Instant::now();
        let mut state = timeout_at(deadline, self.state.lock()).await.map_err(|_| TokenError::Timeout)?;
        let now = Instant::now();
        if let Some(token) = &state.token
            && now < token.until
            && refused != Some(&token.authorization)
        {
            return Ok(token.authorization.clone());
        }
        if let Some((at, error)) = &state.failed
            && (*at > asked || now < *at + FAILURE_KEPT)
        {
            return Err(error.clone());
        }
        let fetched = self.fetch(guard, vault, deadline.min(now + FETCH_TIMEOUT)).await;
        let outcome = if fetched.is_ok() { "ok" } else { "failed" };
        metrics::counter!("bowline_core_access_token_fetches_total", "outcome" => outcome).increment(1);
        match fetched {
            Ok(token) => {
                let authorization = token.authorization.clone();
                *state = State { token: Some(token), failed: None };
                Ok(authorization)
            }
            Err(error) => {
                *state = State { token: None, failed: Some((Instant::now(), error.clone())) };
                Err(error)
            }
        }
    }

    async fn fetch(
        &self,
        guard: &EgressGuard,
        vault: &Vault,
        deadline: Instant,
    ) -> Result<Token, TokenError> {
        let stored = self.secret.as_ref().ok_or(TokenError::SecretMissing)?;
        let secret = vault.open(stored, Purpose::Authenticate)?;
        let began = Instant::now();
        let request = self.request(&secret, deadline.saturating_duration_since(began));
        let mut response = guard.send(request).await.map_err(TokenError::Send)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(TokenError::Send)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(TokenError::Answer("has more than 64 KiB"));
            }
            body.extend_from_slice(&chunk);
        }
        let body = Zeroizing::new(body.to_vec());
        if !response.status.is_success() {
            return Err(TokenError::Status { status: response.status.as_u16(), code: error_code(&body) });
        }
        read(&body, began)
    }

    fn request(&self, secret: &Secret, timeout: Duration) -> EgressRequest {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !self.wanted.scopes.is_empty() {
            form.append_pair("scope", &self.wanted.scopes.join(" "));
        }
        if let Some(audience) = &self.wanted.audience {
            form.append_pair("audience", audience);
        }
        // Admitted only as text.
        let secret = secret.expose_str().unwrap_or_default();
        let mut headers = HeaderMap::new();
        if self.wanted.secret_in_body {
            form.append_pair("client_id", &self.wanted.client_id).append_pair("client_secret", secret);
        } else {
            // RFC 6749, 2.3.1: both are form-encoded before they are put together.
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = Zeroizing::new(format!("{}:{}", encoded(&self.wanted.client_id), encoded(secret)));
            headers.insert(AUTHORIZATION, basic(&pair));
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let body = form.finish().into();
        EgressRequest { method: Method::POST, url: self.url.clone(), headers, body, timeout }
    }
}

/// `error` of RFC 6749, 5.2, as far as it is one word.
fn error_code(body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let code = answer.get("error")?.as_str()?;
    let word = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    word.then(|| code.to_owned())
}

fn read(body: &[u8], asked: Instant) -> Result<Token, TokenError> {
    #[derive(serde::Deserialize)]
    struct Answer {
        access_token: String,
        token_type: String,
        #[serde(default)]
        expires_in: Option<serde_json::Value>,
    }
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| TokenError::Answer("is no JSON with access_token and token_type"))?;
    let token = Zeroizing::new(answer.access_token);
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Answer("holds a token of another type than Bearer"));
    }
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(TokenError::Answer("holds a token that no header can carry"));
    }
    let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.as_str()))
        .map_err(|_| TokenError::Answer("holds a token that no header can carry"))?;
    authorization.set_sensitive(true);
    let life = answer.expires_in.as_ref().and_then(seconds).unwrap_or(LIFE_DEFAULT).min(LIFE_MAX);
    Ok(Token { authorization, until: asked + life - MARGIN.min(life / 10) })
}

/// A number, which some servers write as text.
fn seconds(value: &serde_json::Value) -> Option<Duration> {
    let seconds = match value {
        serde_json::Value::String(text) => text.parse().ok()?,
        value => value.as_f64()?,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life_s(body: &str) -> u64 {
        let asked = Instant::now();
        (read(body.as_bytes(), asked).unwrap().until - asked).as_secs()
    }

    #[test]
    fn a_token_is_used_until_shortly_before_it_expires() {
        let body =
            |life: &str| format!(r#"{{"access_token":"t","token_type":"bearer","expires_in":{life}}}"#);
        assert_eq!(life_s(&body("3600")), 3540);
        assert_eq!(life_s(&body("\"100\"")), 90);
        assert_eq!(life_s(&body("null")), 270);
        assert_eq!(life_s(&body("1e9")), 24 * 3600 - 60);
        assert_eq!(life_s(&body("-5")), 270);
        assert_eq!(life_s(r#"{"access_token":"t","token_type":"Bearer"}"#), 270);
    }

    #[test]
    fn answers_that_are_none() {
        for bad in [
            "",
            "[]",
            r#"{"access_token":"t"}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            r#"{"access_token":"","token_type":"bearer"}"#,
            r#"{"access_token":"a\r\nb: c","token_type":"bearer"}"#,
        ] {
            assert!(matches!(read(bad.as_bytes(), Instant::now()), Err(TokenError::Answer(_))), "{bad}");
        }
    }

    #[test]
    fn only_a_code_is_repeated_of_an_error() {
        let code = |body: &str| error_code(body.as_bytes());
        assert_eq!(code(r#"{"error":"invalid_client"}"#).as_deref(), Some("invalid_client"));
        assert_eq!(code(r#"{"error":"You sent bowline-test-secret"}"#), None);
        assert_eq!(code("<html>"), None);
        let error = TokenError::Status { status: 401, code: code(r#"{"error":"invalid_client"}"#) };
        assert_eq!(error.to_string(), "the token server answered 401: invalid_client");
    }
}
