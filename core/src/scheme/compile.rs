//! Checks a description whole and prepares it for the hot path.

use http::HeaderName;

use super::content::Content;
use super::describe::{
    Algorithm, Encoding, KeyEncoding, KeyPart, KeyReading, Scheme, TimestampSpec, TimestampUnit, Tolerance,
};
use super::error::{SchemeError, SchemeFault};
use super::layout::CompiledLayout;
use super::limits;
use super::source::{JsonPointer, Source};

/// A description that was checked: verifies and signs. Shared between threads as it is.
#[derive(Debug, Clone)]
pub struct CompiledScheme {
    pub(super) algorithm: Algorithm,
    pub(super) readings: Vec<Reading>,
    /// Keys under which signatures stand in a layout; a reading refers to its own by place.
    pub(super) labels: Vec<String>,
    pub(super) content: Content,
    pub(super) sources: Vec<Source>,
    pub(super) encoding: Encoding,
    pub(super) hex_case_insensitive: bool,
    pub(super) prefix: String,
    pub(super) layout: Option<CompiledLayout>,
    pub(super) timestamp: Option<TimestampSpec>,
    pub(super) event_id: Vec<Source>,
    pub(super) require_headers: Vec<(HeaderName, String)>,
}

/// One [`KeyReading`], on its own.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) if_prefix: Vec<String>,
    pub(super) unless_prefix: Vec<String>,
    pub(super) strip_prefix: Vec<String>,
    pub(super) decode: KeyEncoding,
    pub(super) part: KeyPart,
    pub(super) issue_prefix: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) label: usize,
}

impl Scheme {
    /// Every fault is named at once.
    pub fn compile(&self) -> Result<CompiledScheme, SchemeError> {
        let mut faults = Faults::default();
        let content = Content::parse(&self.content).unwrap_or_else(|fault| {
            faults.add("content", fault.to_string());
            Content::parse("{body}").unwrap_or_else(|_| unreachable!("a template of one known part"))
        });
        let layout = self.signature.layout.as_ref().and_then(|layout| {
            CompiledLayout::new(layout)
                .map_err(|(field, problem)| faults.add(format!("signature.layout.{field}"), problem))
                .ok()
        });
        let mut readings = Readings::new(self, &mut faults);
        readings.read(&self.key, "key", true);
        let Readings { list: readings, labels, .. } = readings;
        self.check_signature(&mut faults);
        if !self.algorithm.sends_the_secret() {
            self.check_content(&content, layout.as_ref(), &mut faults);
        }
        let mut require_headers = Vec::new();
        for (name, value) in &self.require_headers {
            match name.parse::<HeaderName>() {
                Ok(name) => require_headers.push((name, value.clone())),
                Err(_) => faults.add("require_headers", format!("`{name}` is no header name")),
            }
        }
        faults.limit("require_headers", self.require_headers.len());
        faults.limit("event_id", self.event_id.len());
        faults.into_result()?;
        Ok(CompiledScheme {
            algorithm: self.algorithm,
            readings,
            labels,
            content,
            sources: self.signature.sources.clone(),
            encoding: self.signature.encoding,
            hex_case_insensitive: self.signature.hex_case_insensitive,
            prefix: self.signature.prefix.clone(),
            layout,
            timestamp: self.timestamp.clone(),
            event_id: self.event_id.clone(),
            require_headers,
        })
    }

    fn check_signature(&self, faults: &mut Faults) {
        let signature = &self.signature;
        if signature.sources.is_empty() {
            faults.add("signature.sources", "name at least one place");
        }
        faults.limit("signature.sources", signature.sources.len());
        faults.text("signature.prefix", &signature.prefix);
        if signature.layout.is_some() && !signature.prefix.is_empty() {
            faults.add("signature.prefix", "has no place beside a layout");
        }
        if signature.hex_case_insensitive && signature.encoding != Encoding::Hex {
            faults.add("signature.hex_case_insensitive", "is for hex only");
        }
        if self.algorithm.sends_the_secret() {
            if !self.content.is_empty() || self.timestamp.is_some() || !self.event_id.is_empty() {
                faults.add("content", "nothing is signed where the secret itself is sent");
            }
            if signature.layout.is_some() {
                faults.add("signature.layout", "has no place where the secret itself is sent");
            }
        }
        if let Some(layout) = &signature.layout {
            for (name, text) in [
                ("item_sep", &layout.item_sep),
                ("item_sep_any", &layout.item_sep_any),
                ("kv_sep", &layout.kv_sep),
                ("signature_key", &layout.signature_key),
                ("timestamp_key", &layout.timestamp_key),
                ("write_sep", &layout.write_sep),
            ] {
                faults.text(&format!("signature.layout.{name}"), text.as_deref().unwrap_or_default());
            }
        }
    }

    /// What is not covered by the signature must be said out loud.
    fn check_content(&self, content: &Content, layout: Option<&CompiledLayout>, faults: &mut Faults) {
        if content.is_empty() {
            faults.add("content", "say what is signed, such as `{body}`");
        } else if self.body_bound != content.binds_body() {
            let problem = if self.body_bound {
                "does not hold {body}; if that is meant, set body_bound = false"
            } else {
                "holds the body, so body_bound = false is wrong"
            };
            faults.add("content", problem);
        }
        if content.has_id() && self.event_id.is_empty() {
            faults.add("event_id", "is needed because the content holds {id}");
        }
        let in_layout = layout.is_some_and(CompiledLayout::holds_timestamp);
        let Some(timestamp) = &self.timestamp else {
            if content.has_timestamp() {
                faults.add("timestamp", "is needed because the content holds {timestamp}");
            }
            if in_layout {
                faults.add("timestamp", "is needed because the layout holds one");
            }
            return;
        };
        faults.limit("timestamp.sources", timestamp.sources.len());
        if timestamp.sources.is_empty() != in_layout {
            faults
                .add("timestamp.sources", "a timestamp stands in the layout or in sources: give one of them");
        }
        let in_body = timestamp.sources.iter().all(|source| matches!(source, Source::Json(_)));
        let covered = content.has_timestamp() || (!in_layout && in_body && content.binds_body());
        if timestamp.signed != covered {
            let problem = if timestamp.signed {
                "is not part of the content; if that is meant, set signed = false"
            } else {
                "is part of the content, so signed = false is wrong"
            };
            faults.add("timestamp.signed", problem);
        }
        for (field, tolerance) in [
            ("timestamp.tolerance_past_s", timestamp.tolerance_past_s),
            ("timestamp.tolerance_future_s", timestamp.tolerance_future_s),
        ] {
            match tolerance {
                Tolerance::Seconds(seconds) if seconds > limits::TOLERANCE_MAX_S => {
                    faults.add(field, format!("more than {} s (a week)", limits::TOLERANCE_MAX_S));
                }
                Tolerance::Seconds(_) if timestamp.unit == TimestampUnit::Opaque => {
                    faults.add(field, "an opaque timestamp has no age: write \"unlimited\"");
                }
                _ => {}
            }
        }
    }
}

impl CompiledScheme {
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What a 401 asks for, where credentials stand in `Authorization`.
    pub fn www_authenticate(&self) -> Option<&'static str> {
        let in_authorization = |source: &Source| source.as_header() == Some(&http::header::AUTHORIZATION);
        if !self.sources.iter().any(in_authorization) {
            return None;
        }
        Some(match self.algorithm {
            Algorithm::Basic => "Basic realm=\"webhooks\", charset=\"UTF-8\"",
            _ => "Bearer realm=\"webhooks\"",
        })
    }

    /// The `json:` values this scheme reads.
    pub(crate) fn pointers(&self) -> Vec<&JsonPointer> {
        let timestamps = self.timestamp.iter().flat_map(|timestamp| &timestamp.sources);
        let sources = self.sources.iter().chain(timestamps).chain(&self.event_id);
        let in_sources = sources.filter_map(|source| match source {
            Source::Json(pointer) => Some(pointer),
            Source::Header(_) | Source::Query(_) => None,
        });
        in_sources.chain(self.content.pointers()).collect()
    }

    /// The headers this scheme writes, which nobody else may set.
    pub(crate) fn own_headers(&self) -> Vec<&HeaderName> {
        let timestamps = self.timestamp.iter().flat_map(|timestamp| &timestamp.sources);
        let sources = self.sources.iter().chain(timestamps).chain(&self.event_id);
        let required = self.require_headers.iter().map(|(name, _)| name);
        sources.filter_map(Source::as_header).chain(required).collect()
    }
}

/// Collects the readings of a secret and the labels their signatures stand under.
struct Readings<'s, 'f> {
    scheme: &'s Scheme,
    faults: &'f mut Faults,
    list: Vec<Reading>,
    labels: Vec<String>,
}

impl<'s, 'f> Readings<'s, 'f> {
    fn new(scheme: &'s Scheme, faults: &'f mut Faults) -> Self {
        let key = scheme.signature.layout.as_ref().and_then(|layout| layout.signature_key.clone());
        Self { scheme, faults, list: Vec::new(), labels: vec![key.unwrap_or_default()] }
    }

    fn read(&mut self, reading: &KeyReading, field: &str, first: bool) {
        self.check_prefixes(reading, field);
        let own = self.scheme.algorithm;
        let algorithm = reading.algorithm.unwrap_or(own);
        if algorithm != own && (algorithm.sends_the_secret() || own.sends_the_secret()) {
            let problem = "a secret that is sent has no other algorithm beside it";
            self.faults.add(format!("{field}.algorithm"), problem);
        }
        let label = self.label(reading, field);
        self.list.push(Reading {
            if_prefix: reading.if_prefix.clone(),
            unless_prefix: reading.unless_prefix.clone(),
            strip_prefix: reading.strip_prefix.clone(),
            decode: reading.decode,
            part: reading.part,
            issue_prefix: reading.issue_prefix.clone(),
            algorithm,
            label,
        });
        if !first && !reading.also.is_empty() {
            self.faults.add(format!("{field}.also"), "stands only in the first reading");
            return;
        }
        self.faults.limit(&format!("{field}.also"), reading.also.len());
        for (at, also) in reading.also.iter().take(limits::LIST_MAX).enumerate() {
            self.read(also, &format!("{field}.also[{at}]"), false);
        }
    }

    fn check_prefixes(&mut self, reading: &KeyReading, field: &str) {
        for (name, list) in [
            ("if_prefix", &reading.if_prefix),
            ("unless_prefix", &reading.unless_prefix),
            ("strip_prefix", &reading.strip_prefix),
        ] {
            let field = format!("{field}.{name}");
            self.faults.limit(&field, list.len());
            for text in list {
                self.faults.text(&field, text);
                if text.is_empty() {
                    self.faults.add(field.as_str(), "an empty prefix fits everything");
                }
            }
        }
        self.faults
            .text(&format!("{field}.issue_prefix"), reading.issue_prefix.as_deref().unwrap_or_default());
    }

    fn label(&mut self, reading: &KeyReading, field: &str) -> usize {
        let Some(key) = &reading.signature_key else { return 0 };
        let field = format!("{field}.signature_key");
        self.faults.text(&field, key);
        if self.scheme.signature.layout.as_ref().is_none_or(|layout| layout.kv_sep.is_none()) {
            self.faults.add(field, "needs a layout with keys");
        }
        self.labels.iter().position(|label| label == key).unwrap_or_else(|| {
            self.labels.push(key.clone());
            self.labels.len() - 1
        })
    }
}

#[derive(Default)]
struct Faults(Vec<SchemeFault>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(SchemeFault { field: field.into(), problem: problem.into() });
    }

    fn limit(&mut self, field: &str, len: usize) {
        if len > limits::LIST_MAX {
            self.add(field, format!("more than {} entries", limits::LIST_MAX));
        }
    }

    fn text(&mut self, field: &str, text: &str) {
        if text.len() > limits::TEXT_BYTES_MAX {
            self.add(field, format!("longer than {} bytes", limits::TEXT_BYTES_MAX));
        }
        // What signing writes must fit a header.
        if text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
            self.add(field, "holds something other than printable ASCII");
        }
    }

    fn into_result(self) -> Result<(), SchemeError> {
        if self.0.is_empty() { Ok(()) } else { Err(SchemeError { faults: self.0 }) }
    }
}
