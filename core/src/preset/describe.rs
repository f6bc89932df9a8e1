//! A preset as it is written down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scheme::{Scheme, Source};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub name: String,
    /// Other names it is found by.
    #[serde(default)]
    pub aliases: Vec<String>,
    pub display_name: String,
    #[serde(default)]
    pub docs_url: Option<String>,
    /// The first that is there names the event.
    #[serde(default)]
    pub event_type: Vec<Source>,
    /// The first that is there labels it.
    #[serde(default)]
    pub channel: Vec<Source>,
    #[serde(default)]
    pub dedup: Dedup,
    /// Headers without which a request is refused.
    #[serde(default)]
    pub require_headers: Vec<String>,
    /// The one media type accepted; parameters such as `charset` are free.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Refuse a body that is not JSON.
    #[serde(default)]
    pub json_required: bool,
    pub body_limit_bytes: u64,
    /// How many payloads of a source keep their bodies.
    #[serde(default)]
    pub max_stored_payloads: Option<u32>,
    #[serde(default)]
    pub answers: Answers,
    #[serde(default)]
    pub handshakes: Vec<Handshake>,
    /// What a source says about its own account with the provider: `{parameter:NAME}` anywhere in
    /// this description stands for it.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// Secrets by names of their own, beside the one that the scheme verifies by.
    #[serde(default)]
    pub secrets: BTreeMap<String, NamedSecret>,
    #[serde(default)]
    pub scheme: Option<Scheme>,
    #[serde(default)]
    pub example: Option<Example>,
}

/// Where the deduplication key stands; the first that is there counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dedup {
    #[serde(default)]
    pub sources: Vec<Source>,
    /// Where that names what an event is about, and not the event: values that tell its events apart, as far as
    /// they are there.
    #[serde(default)]
    pub with: Vec<Source>,
    /// A request without a key is refused.
    #[serde(default)]
    pub required: bool,
}

/// What the provider expects to hear, where it is not Bowline's own answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// To an accepted request and to a duplicate.
    #[serde(default)]
    pub accepted: Option<Answer>,
    /// To a request that failed verification.
    #[serde(default)]
    pub refused: Option<Answer>,
    /// To a method that it does not send with.
    #[serde(default)]
    pub wrong_method: Option<Answer>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub content_type: String,
}

/// Something a provider lets its customers choose, or gives each of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    pub description: String,
    /// Without one a source has to give it.
    #[serde(default)]
    pub default: Option<String>,
    /// An invented value, for listings, examples and vectors.
    #[serde(default)]
    pub example: Option<String>,
}

/// A further secret that provider and source share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSecret {
    pub description: String,
}

/// A request that asks for proof that the URL is ours, and the reply that is the proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshake {
    /// POST where none is given.
    #[serde(default)]
    pub method: Option<String>,
    /// All of these must have exactly these values.
    #[serde(default)]
    pub when: BTreeMap<Source, String>,
    /// This must be there.
    #[serde(default)]
    pub when_exists: Option<Source>,
    /// Answered only if the signature is right.
    #[serde(default)]
    pub after_verify: bool,
    /// Of a handshake: what it fails by is answered with a status of its own.
    #[serde(default)]
    pub checks: Vec<HandshakeCheck>,
    /// The value here is the secret from now on, as long as the source has none.
    #[serde(default)]
    pub store_secret: Option<Source>,
    /// The URL here is visited before the answer; only at hosts that the scheme's keys come from.
    #[serde(default)]
    pub visit: Option<Source>,
    pub respond: HandshakeReply,
}

/// A value that a handshake must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandshakeCheck {
    pub source: Source,
    pub must: CheckKind,
    /// Answered otherwise.
    pub status: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CheckKind {
    /// The source's secret of this name, or where it has none of that name the one it verifies by.
    BeSecret(String),
    /// Lower-case hex of so many digits.
    BeHex { len_min: usize, len_max: usize },
    /// Letters, digits and what base64 and UUIDs are written with: no event can be such a word.
    BeWord { len_max: usize },
}

/// Texts are templates of values of the request, such as `{json:/challenge}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandshakeReply {
    #[serde(default = "ok")]
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Sent as `text/plain`.
    #[serde(default)]
    pub text: Option<String>,
    /// Sent as a JSON object, in place of `text`: texts are templates, other values as they are.
    #[serde(default)]
    pub json: Option<BTreeMap<String, serde_json::Value>>,
}

/// A payload from the provider's public documentation, and what goes along with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The file's name, beside the description.
    pub payload: String,
    /// What [`super::Preset::event_type`] reads from it.
    #[serde(default)]
    pub event_type: Option<String>,
    /// Where the payload was published.
    pub source: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What is new in each request: `{id}` stands for the fresh id, `{unix_ms}` for the moment.
    #[serde(default)]
    pub unique: BTreeMap<Source, String>,
}

fn ok() -> u16 {
    200
}
