//! The engine against the providers' published examples, the shared vectors and properties.

mod constant_time;
mod engine;
mod places;
mod properties;
mod published;
mod vectors;

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{CompiledScheme, InboundRequest, Key, Scheme, Verified, VerifyError};
use crate::secrets::Secret;

/// A request that owns its parts.
#[derive(Debug, Clone, Default)]
struct Sent {
    headers: HeaderMap,
    path: String,
    body: Vec<u8>,
}

impl Sent {
    fn new(headers: &[(&str, &str)], body: &str) -> Self {
        let mut sent = Self { path: "/in".to_owned(), body: body.into(), ..Self::default() };
        for (name, value) in headers {
            sent.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        sent
    }

    fn verify(&self, scheme: &CompiledScheme, keys: &[Key], now: i64) -> Result<Verified, VerifyError> {
        let request = InboundRequest::new("POST", &self.path, &self.headers, &self.body)
            .with_public_url("https://hooks.example.com");
        scheme.verify(&request, keys, at(now))
    }
}

fn at(unix: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(unix, 0).unwrap()
}

fn scheme(toml: &str) -> CompiledScheme {
    let scheme: Scheme = toml::from_str(toml).unwrap();
    scheme.compile().unwrap()
}

fn keys(scheme: &CompiledScheme, secrets: &[&str]) -> Vec<Key> {
    secrets.iter().map(|secret| scheme.key(&Secret::new(*secret)).unwrap()).collect()
}
