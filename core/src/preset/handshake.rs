//! Answers the requests by which a provider checks who owns a URL.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Preset;
use super::describe::{CheckKind, Handshake, HandshakeCheck, HandshakeReply};
use crate::scheme::{Content, InboundRequest, JsonPointer, Key, Source};
use crate::secrets::{Secret, is_same};

/// What the source and its provider share.
pub struct HandshakeSecrets<'a> {
    /// Newest first.
    pub keys: &'a [Key],
    /// The valid versions of a secret with a name of its own.
    pub named: &'a dyn Fn(&str) -> Vec<Arc<Secret>>,
}

impl fmt::Debug for HandshakeSecrets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeSecrets").finish_non_exhaustive()
    }
}

impl HandshakeSecrets<'_> {
    fn are(&self, name: &str, value: &[u8]) -> bool {
        let named = (self.named)(name);
        if named.is_empty() {
            return self.keys.iter().fold(false, |any, key| any | key.is_text(value));
        }
        named.iter().fold(false, |any, secret| any | is_same(secret.expose(), value))
    }
}

/// What to answer; such a request makes no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    /// To be stored as the source's secret before this is answered; only where it has none.
    pub store_secret: Option<Secret>,
    /// A URL of the provider to be visited before this is answered.
    pub visit: Option<String>,
}

#[derive(Debug)]
pub(super) struct CompiledHandshake {
    method: String,
    when: Vec<(Source, String)>,
    when_exists: Option<Source>,
    after_verify: bool,
    checks: Vec<(HandshakeCheck, StatusCode)>,
    store_secret: Option<Source>,
    visit: Option<Source>,
    status: StatusCode,
    headers: Vec<(HeaderName, Content)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Empty,
    Text(Content),
    Json(Vec<(String, Member)>),
}

#[derive(Debug)]
enum Member {
    Template(Content),
    Constant(serde_json::Value),
}

impl Handshake {
    pub(super) fn compile(&self) -> Result<CompiledHandshake, String> {
        let HandshakeReply { status, headers, text, json } = &self.respond;
        if self.when.is_empty() && self.when_exists.is_none() && self.method.is_none() {
            return Err(
                "a handshake needs `method`, `when` or `when_exists`, or it would answer everything".into()
            );
        }
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let name = name.parse().map_err(|_| format!("`{name}` is no header name"))?;
                Ok((name, template(value)?))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let body = match (text, json) {
            (Some(_), Some(_)) => return Err("a handshake answers with `text` or `json`, not both".into()),
            (Some(text), None) => Body::Text(template(text)?),
            (None, Some(members)) => Body::Json(compile_members(members)?),
            (None, None) => Body::Empty,
        };
        let checks = self
            .checks
            .iter()
            .map(|check| Ok((check.clone(), status_code(check.status)?)))
            .collect::<Result<Vec<_>, String>>()?;
        Ok(CompiledHandshake {
            method: self.method.clone().unwrap_or_else(|| "POST".to_owned()),
            when: self.when.iter().map(|(source, value)| (source.clone(), value.clone())).collect(),
            when_exists: self.when_exists.clone(),
            after_verify: self.after_verify,
            checks,
            store_secret: self.store_secret.clone(),
            visit: self.visit.clone(),
            status: status_code(*status)?,
            headers,
            body,
        })
    }
}

fn compile_members(members: &BTreeMap<String, serde_json::Value>) -> Result<Vec<(String, Member)>, String> {
    let member = |value: &serde_json::Value| -> Result<Member, String> {
        Ok(match value {
            serde_json::Value::String(text) => Member::Template(template(text)?),
            other => Member::Constant(other.clone()),
        })
    };
    members.iter().map(|(name, value)| Ok((name.clone(), member(value)?))).collect()
}

fn status_code(status: u16) -> Result<StatusCode, String> {
    StatusCode::from_u16(status).map_err(|_| format!("{status} is no HTTP status"))
}

fn template(text: &str) -> Result<Content, String> {
    let content = Content::parse(text).map_err(|fault| fault.to_string())?;
    if content.is_plain() {
        Ok(content)
    } else {
        Err(format!("`{text}`: only values of the request can be answered"))
    }
}

impl CompiledHandshake {
    pub(super) fn pointers(&self) -> impl Iterator<Item = &JsonPointer> {
        let sources = self.when.iter().map(|(source, _)| source).chain(&self.when_exists);
        let checked = self.checks.iter().map(|(check, _)| &check.source);
        let sources = sources.chain(checked).chain(&self.store_secret).chain(&self.visit);
        let in_body: Vec<&Content> = match &self.body {
            Body::Empty => Vec::new(),
            Body::Text(text) => vec![text],
            Body::Json(members) => members
                .iter()
                .filter_map(|(_, value)| match value {
                    Member::Template(text) => Some(text),
                    Member::Constant(_) => None,
                })
                .collect(),
        };
        let templates = self.headers.iter().map(|(_, value)| value).chain(in_body);
        sources.filter_map(Source::as_json).chain(templates.flat_map(Content::pointers))
    }

    fn matches(&self, request: &InboundRequest<'_>) -> bool {
        let has = |source| matches!(request.get(source), Ok(Some(_)));
        self.method == request.method()
            && self.when_exists.iter().all(has)
            && self.when.iter().all(|(source, wanted)| {
                matches!(request.get(source), Ok(Some(value)) if value.as_ref() == wanted.as_bytes())
            })
    }

    /// The status that says which check failed.
    fn check(&self, request: &InboundRequest<'_>, secrets: &HandshakeSecrets<'_>) -> Result<(), StatusCode> {
        for (check, status) in &self.checks {
            let value = request.get(&check.source).ok().flatten().unwrap_or_default();
            let right = match &check.must {
                CheckKind::BeSecret(name) => secrets.are(name, &value),
                CheckKind::BeHex { len_min, len_max } => {
                    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                    (*len_min..=*len_max).contains(&value.len()) && value.iter().all(digit)
                }
                CheckKind::BeWord { len_max } => {
                    let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-.".contains(byte);
                    (1..=*len_max).contains(&value.len()) && value.iter().all(word)
                }
            };
            if !right {
                return Err(*status);
            }
        }
        Ok(())
    }

    pub(super) fn named_secrets(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().filter_map(|(check, _)| match &check.must {
            CheckKind::BeSecret(name) => Some(name.as_str()),
            _ => None,
        })
    }

    fn answer(
        &self,
        request: &InboundRequest<'_>,
        secrets: &HandshakeSecrets<'_>,
    ) -> Option<HandshakeAnswer> {
        let mut headers = HeaderMap::new();
        // What is answered came from outside: no browser may take it for anything but text.
        headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Err(status) = self.check(request, secrets) {
            let body = String::new();
            return Some(HandshakeAnswer { status, headers, body, store_secret: None, visit: None });
        }
        let render = |text: &Content| text.render(request, |value| secrets.keys.first()?.mac(value));
        for (name, value) in &self.headers {
            headers.append(name.clone(), HeaderValue::from_str(&render(value)?).ok()?);
        }
        let (content_type, body) = match &self.body {
            Body::Empty => (None, String::new()),
            Body::Text(text) => (Some("text/plain; charset=utf-8"), render(text)?),
            Body::Json(members) => {
                let mut object = serde_json::Map::new();
                for (name, value) in members {
                    let value = match value {
                        Member::Template(text) => render(text)?.into(),
                        Member::Constant(value) => value.clone(),
                    };
                    object.insert(name.clone(), value);
                }
                (Some("application/json"), serde_json::Value::Object(object).to_string())
            }
        };
        if let Some(content_type) = content_type {
            headers.entry(http::header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        }
        let text = |source: &Source| String::from_utf8(request.get(source).ok()??.into_owned()).ok();
        Some(HandshakeAnswer {
            status: self.status,
            headers,
            body,
            store_secret: self.store_secret.as_ref().and_then(text).map(Secret::from),
            visit: self.visit.as_ref().and_then(text),
        })
    }
}

impl Preset {
    /// As [`Self::handshake_with`], of a source that has no secrets with names of their own.
    pub fn handshake(
        &self,
        request: &InboundRequest<'_>,
        keys: &[Key],
        verified: bool,
    ) -> Option<HandshakeAnswer> {
        self.handshake_with(request, &HandshakeSecrets { keys, named: &|_| Vec::new() }, verified)
    }

    /// The answer to a handshake, if this is one. Asked twice: before verification
    /// (`verified` false), and again after it.
    pub fn handshake_with(
        &self,
        request: &InboundRequest<'_>,
        secrets: &HandshakeSecrets<'_>,
        verified: bool,
    ) -> Option<HandshakeAnswer> {
        self.handshakes
            .iter()
            .filter(|handshake| handshake.after_verify == verified && handshake.matches(request))
            .find_map(|handshake| handshake.answer(request, secrets))
    }

    /// Whether a handshake of this preset is answered with the help of a secret.
    pub fn handshakes_need_keys(&self) -> bool {
        self.handshakes.iter().any(|handshake| {
            let in_body = match &handshake.body {
                Body::Empty => false,
                Body::Text(text) => text.has_mac(),
                Body::Json(members) => {
                    members.iter().any(|(_, value)| matches!(value, Member::Template(text) if text.has_mac()))
                }
            };
            in_body || !handshake.checks.is_empty()
        })
    }

    /// Whether the request would be such a handshake, if its signature is right.
    pub fn awaits_verification(&self, request: &InboundRequest<'_>) -> bool {
        self.handshakes.iter().any(|handshake| handshake.after_verify && handshake.matches(request))
    }

    /// Whether this provider brings the secret itself, by a handshake.
    pub fn brings_secret(&self) -> bool {
        self.handshakes.iter().any(|handshake| handshake.store_secret.is_some())
    }

    /// Methods other than POST that a handshake comes with.
    pub fn handshake_methods(&self) -> impl Iterator<Item = &str> {
        self.handshakes.iter().map(|handshake| handshake.method.as_str()).filter(|method| *method != "POST")
    }
}
