//! Builds and signs requests before the clock starts.

use anyhow::{Context, Result};
use bowline_core::preset;
use bowline_core::scheme::{CompiledScheme, Key, SignInput};
use bowline_core::secrets::Secret;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::payload::Mark;
use crate::wire::{LoadSpec, Pace, Target, unix_ns};

/// What signing a request may take, with room to spare.
const SIGN_NS: u64 = 20_000;
/// What opening the connections may take.
const CONNECT_NS: u64 = 700_000_000;

/// The requests of one load.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) spec: LoadSpec,
    /// When an open loop begins.
    pub(super) begin_unix_ns: u64,
    bodies: Vec<Signed>,
    event_types: Vec<HeaderValue>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Signed {
    pub(super) body: Bytes,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

struct Signer {
    scheme: &'static CompiledScheme,
    keys: [Key; 1],
}

impl Requests {
    pub(super) fn prepare(spec: LoadSpec) -> Result<Self> {
        let (signer, event_types) = match &spec.target {
            Target::Signed { secret, event_types, .. } => {
                let types: Result<Vec<_>, _> =
                    event_types.iter().map(|name| HeaderValue::from_str(name)).collect();
                (Some(Signer::new(secret)?), types.context("an event type that fits a header")?)
            }
            Target::Given { .. } | Target::Publish { .. } | Target::Client { .. } => (None, Vec::new()),
        };
        let given = given(&spec.target)?;
        let count = spec.pace.numbered().unwrap_or(1);
        let begin_unix_ns = unix_ns() + CONNECT_NS + count * SIGN_NS;
        let bodies: Result<Vec<_>> = (0..count)
            .map(|number| {
                let mark = Mark {
                    run: spec.run,
                    number,
                    intended_ns: spec.intended_ns(begin_unix_ns, number).unwrap_or(0),
                };
                let mut request = given.clone();
                if request.body.is_empty() {
                    request.body = Bytes::from(mark.body(spec.body_bytes));
                }
                if let Some(signer) = &signer {
                    request.headers.extend(signer.sign(&request.body)?);
                }
                Ok(request)
            })
            .collect();
        Ok(Self { bodies: bodies?, event_types, begin_unix_ns, spec })
    }

    pub(super) fn signed(&self, number: u64) -> &Signed {
        // One body for all, or one each.
        &self.bodies[number as usize % self.bodies.len()]
    }

    pub(super) fn event_type(&self, number: u64) -> Option<&HeaderValue> {
        let count = self.event_types.len().max(1);
        self.event_types.get(number as usize % count)
    }

    /// Differs between all requests of all loads.
    pub(super) fn id(&self, number: u64) -> String {
        format!("bench-{:08x}-{number:010}", self.spec.run)
    }

    /// When that one is meant to be sent, in an open loop.
    pub(super) fn intended_ns(&self, number: u64) -> Option<u64> {
        self.spec.intended_ns(self.begin_unix_ns, number)
    }
}

impl LoadSpec {
    fn intended_ns(&self, begin_unix_ns: u64, number: u64) -> Option<u64> {
        match self.pace {
            Pace::Open { rate_per_s, .. } => {
                Some(begin_unix_ns + (number as f64 * 1e9 / rate_per_s.max(0.001)) as u64)
            }
            Pace::ClosedFor { .. } | Pace::Closed { .. } => None,
        }
    }
}

/// What a load says of its requests; nothing where they are made here.
fn given(target: &Target) -> Result<Signed> {
    let Target::Given { headers, body, .. } = target else { return Ok(Signed::default()) };
    let headers = headers.iter().map(|(name, value)| Ok((name.parse()?, value.parse()?)));
    let headers = headers.collect::<Result<_>>().context("headers that can be sent")?;
    Ok(Signed { body: Bytes::from(body.clone()), headers })
}

impl Signer {
    fn new(secret: &str) -> Result<Self> {
        let scheme = preset::find("github").and_then(preset::Preset::scheme).context("the preset github")?;
        let key = scheme.key(&Secret::new(secret.to_owned())).context("the secret of the source")?;
        Ok(Self { scheme, keys: [key] })
    }

    fn sign(&self, body: &[u8]) -> Result<Vec<(HeaderName, HeaderValue)>> {
        let input = SignInput {
            id: "",
            timestamp: chrono::Utc::now(),
            method: "POST",
            url: "",
            headers: &HeaderMap::new(),
            body,
        };
        Ok(self.scheme.sign(&input, &self.keys)?)
    }
}
