//! Answers the requests by which a provider checks who owns a URL.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Preset;
use super::describe::{Handshake, HandshakeReply};
use crate::scheme::{Content, InboundRequest, JsonPointer, Source};

/// What to answer; such a request makes no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

#[derive(Debug)]
pub(super) struct CompiledHandshake {
    method: String,
    when: Vec<(Source, String)>,
    when_exists: Option<Source>,
    after_verify: bool,
    status: StatusCode,
    headers: Vec<(HeaderName, Content)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Empty,
    Text(Content),
    Json(Vec<(String, Content)>),
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
            (None, Some(members)) => Body::Json(
                members.iter().map(|(name, value)| Ok((name.clone(), template(value)?))).collect::<Result<
                    Vec<_>,
                    String,
                >>(
                )?,
            ),
            (None, None) => Body::Empty,
        };
        Ok(CompiledHandshake {
            method: self.method.clone().unwrap_or_else(|| "POST".to_owned()),
            when: self.when.iter().map(|(source, value)| (source.clone(), value.clone())).collect(),
            when_exists: self.when_exists.clone(),
            after_verify: self.after_verify,
            status: StatusCode::from_u16(*status).map_err(|_| format!("{status} is no HTTP status"))?,
            headers,
            body,
        })
    }
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
        let in_sources = sources.filter_map(|source| match source {
            Source::Json(pointer) => Some(pointer),
            Source::Header(_) | Source::Query(_) => None,
        });
        let in_body: Vec<&Content> = match &self.body {
            Body::Empty => Vec::new(),
            Body::Text(text) => vec![text],
            Body::Json(members) => members.iter().map(|(_, value)| value).collect(),
        };
        let templates = self.headers.iter().map(|(_, value)| value).chain(in_body);
        in_sources.chain(templates.flat_map(Content::pointers))
    }

    fn matches(&self, request: &InboundRequest<'_>) -> bool {
        let has = |source| matches!(request.get(source), Ok(Some(_)));
        self.method == request.method()
            && self.when_exists.iter().all(has)
            && self.when.iter().all(|(source, wanted)| {
                matches!(request.get(source), Ok(Some(value)) if value.as_ref() == wanted.as_bytes())
            })
    }

    fn answer(&self, request: &InboundRequest<'_>) -> Option<HandshakeAnswer> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name.clone(), HeaderValue::from_str(&value.render(request)?).ok()?);
        }
        // What is answered came from outside: no browser may take it for anything but text.
        headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let (content_type, body) = match &self.body {
            Body::Empty => (None, String::new()),
            Body::Text(text) => (Some("text/plain; charset=utf-8"), text.render(request)?),
            Body::Json(members) => {
                let mut object = serde_json::Map::new();
                for (name, value) in members {
                    object.insert(name.clone(), value.render(request)?.into());
                }
                (Some("application/json"), serde_json::Value::Object(object).to_string())
            }
        };
        if let Some(content_type) = content_type {
            headers.entry(http::header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        }
        Some(HandshakeAnswer { status: self.status, headers, body })
    }
}

impl Preset {
    /// The answer to a handshake, if this is one. Asked twice: before verification
    /// (`verified` false), and again after it.
    pub fn handshake(&self, request: &InboundRequest<'_>, verified: bool) -> Option<HandshakeAnswer> {
        self.handshakes
            .iter()
            .filter(|handshake| handshake.after_verify == verified && handshake.matches(request))
            .find_map(|handshake| handshake.answer(request))
    }

    /// Methods other than POST that a handshake comes with.
    pub fn handshake_methods(&self) -> impl Iterator<Item = &str> {
        self.handshakes.iter().map(|handshake| handshake.method.as_str()).filter(|method| *method != "POST")
    }
}
