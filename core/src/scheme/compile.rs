//! Checks a description whole and prepares it for the hot path.

use http::HeaderName;

use super::content::{Content, Part};
use super::describe::{
    Algorithm, AlgorithmBy, Encoding, Family, KeyIdSpec, Scheme, TimestampSpec, TimestampUnit, Tolerance,
    UrlVariant,
};
use super::error::SchemeError;
use super::faults::Faults;
use super::fill::SchemeFields;
use super::jwt::JwtSpec;
use super::key_source::KeySource;
use super::layout::CompiledLayout;
use super::limits;
use super::readings::{Reading, Readings};
use super::source::{JsonPointer, Source};

/// A description that was checked: verifies and signs. Shared between threads as it is.
#[derive(Debug, Clone)]
pub struct CompiledScheme {
    pub(super) algorithm: Algorithm,
    pub(super) readings: Vec<Reading>,
    /// Keys under which signatures stand in a layout; a reading refers to its own by place.
    pub(super) labels: Vec<String>,
    pub(super) algorithm_by: Option<AlgorithmBy>,
    pub(super) content: Content,
    pub(super) content_also: Vec<Content>,
    pub(super) url_variants: Vec<UrlVariant>,
    pub(super) fields: SchemeFields,
    pub(super) jwt: Option<JwtSpec>,
    pub(super) key_source: Option<KeySource>,
    pub(super) key_id: Option<KeyIdSpec>,
    pub(super) sources: Vec<Source>,
    pub(super) encoding: Encoding,
    pub(super) hex_case_insensitive: bool,
    pub(super) prefix: String,
    pub(super) layout: Option<CompiledLayout>,
    pub(super) timestamp: Option<TimestampSpec>,
    pub(super) event_id: Vec<Source>,
    pub(super) require_headers: Vec<(HeaderName, String)>,
    pub(super) require_equal: Vec<(Source, Content)>,
}

impl Scheme {
    /// Every fault is named at once.
    pub fn compile(&self) -> Result<CompiledScheme, SchemeError> {
        let mut faults = Faults::default();
        let content = template("content", &self.content, &mut faults);
        faults.limit("content_also", self.content_also.len());
        let content_also: Vec<Content> =
            self.content_also.iter().map(|text| template("content_also", text, &mut faults)).collect();
        let layout = self.signature.layout.as_ref().and_then(|layout| {
            CompiledLayout::new(layout)
                .map_err(|(field, problem)| faults.add(format!("signature.layout.{field}"), problem))
                .ok()
        });
        let mut readings = Readings::new(self, &mut faults);
        readings.read(&self.key, "key", true);
        let Readings { list: readings, labels, .. } = readings;
        self.check_signature(&mut faults);
        self.check_extras(&content, &mut faults);
        if self.signs_content() {
            self.check_bound(&content, &content_also, &mut faults);
            self.check_content(&content, &content_also, layout.as_ref(), &mut faults);
        }
        let require_headers = self.compile_require_headers(&mut faults);
        let require_equal = self
            .require_equal
            .iter()
            .filter(|one| !one.equals.is_empty())
            .map(|one| (one.source.clone(), template("require_equal", &one.equals, &mut faults)))
            .collect();
        let key_source = self.key_source.as_ref().and_then(|source| {
            source.compile().unwrap_or_else(|problem| {
                faults.add("key_source", problem);
                None
            })
        });
        faults.into_result()?;
        Ok(CompiledScheme {
            algorithm: self.algorithm,
            readings,
            labels,
            algorithm_by: self.algorithm_by.clone(),
            content,
            content_also,
            url_variants: self.url_variants.clone(),
            fields: self.fields(),
            jwt: self.jwt.clone(),
            key_source,
            key_id: self.key_id.clone(),
            sources: self.signature.sources.clone(),
            encoding: self.signature.encoding,
            hex_case_insensitive: self.signature.hex_case_insensitive,
            prefix: self.signature.prefix.clone(),
            layout,
            timestamp: self.timestamp.clone(),
            event_id: self.event_id.clone(),
            require_headers,
            require_equal,
        })
    }

    /// Neither a secret that is sent, nor a token, nor nothing at all.
    fn signs_content(&self) -> bool {
        !matches!(self.algorithm.family(), Family::Sent | Family::Jwt | Family::FetchBack)
    }

    fn fields(&self) -> SchemeFields {
        let form_field = |source: &Source| match source {
            Source::Form(name) => Some(name.clone()),
            _ => None,
        };
        SchemeFields {
            signed_headers: self.signed_headers.clone(),
            json_fields: self.json_fields.clone(),
            url_unescape: self.url_unescape.clone(),
            signature_fields: self.signature.sources.iter().filter_map(form_field).collect(),
        }
    }

    fn compile_require_headers(&self, faults: &mut Faults) -> Vec<(HeaderName, String)> {
        faults.limit("require_headers", self.require_headers.len());
        faults.limit("require_equal", self.require_equal.len());
        faults.limit("event_id", self.event_id.len());
        let mut compiled = Vec::new();
        for (name, value) in &self.require_headers {
            match name.parse::<HeaderName>() {
                Ok(name) => compiled.push((name, value.clone())),
                Err(_) => faults.add("require_headers", format!("`{name}` is no header name")),
            }
        }
        compiled
    }

    /// What only some algorithms have.
    fn check_extras(&self, content: &Content, faults: &mut Faults) {
        let family = self.algorithm.family();
        match &self.jwt {
            Some(_) if family != Family::Jwt => faults.add("jwt", "is for the algorithm `jwt` only"),
            None if family == Family::Jwt => faults.add("jwt", "is needed for the algorithm `jwt`"),
            Some(spec) if spec.algorithms.is_empty() => faults.add("jwt.algorithms", "name at least one"),
            Some(spec) if self.body_bound != spec.body_hash.is_some() => faults.add(
                "jwt.body_hash",
                "binds the body: where there is none, say body_bound = false, and elsewhere do not",
            ),
            _ => {}
        }
        let fetch_back = matches!(self.key_source, Some(super::KeySourceSpec::FetchBack { .. }));
        if fetch_back != (family == Family::FetchBack) {
            faults.add("key_source", "of the kind `fetch-back` goes with the algorithm of this name");
        }
        if (family == Family::Hash) != content.has(&Part::Secret) {
            let problem = "{secret} belongs into the content of a plain hash, and into no other";
            faults.add("content", problem);
        }
        if content.has(&Part::SignedHeaders) != self.signed_headers.is_some() {
            faults.add("signed_headers", "goes with {signed_headers} in the content");
        }
        if content.has(&Part::JsonFields) != self.json_fields.is_some() {
            faults.add("json_fields", "goes with {json_fields} in the content");
        }
        faults.text("url_unescape", &self.url_unescape);
        if content.has(&Part::UrlUnescaped) == self.url_unescape.is_empty() {
            faults.add("url_unescape", "goes with {url_unescaped} in the content");
        }
        if content.has_mac() {
            faults.add("content", "{mac_hex:..} and {mac_base64:..} are for answers");
        }
        for (value, algorithm) in self.algorithm_by.iter().flat_map(|by| &by.values) {
            if algorithm.family() != family {
                faults.add(format!("algorithm_by.values.{value}"), "is of another kind than `algorithm`");
            }
        }
        if self.key_id.as_ref().is_some_and(|spec| spec.item_sep.is_some() != spec.kv_sep.is_some()) {
            faults.add("key_id", "item_sep and kv_sep go together");
        }
    }

    fn check_signature(&self, faults: &mut Faults) {
        let signature = &self.signature;
        if signature.sources.is_empty() && self.algorithm != Algorithm::FetchBack {
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
        if !self.signs_content() {
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

    /// What is not covered by the signature must be said out loud, and is the same in every reading.
    fn check_bound(&self, content: &Content, also: &[Content], faults: &mut Faults) {
        let binds_body = |one: &Content| one.binds_body() || !self.require_equal.is_empty();
        if content.is_empty() {
            faults.add("content", "say what is signed, such as `{body}`");
        } else if self.body_bound && !binds_body(content) {
            faults.add("content", "does not hold {body}; if that is meant, set body_bound = false");
        } else if !self.body_bound && (content.binds_all_fields() || !self.require_equal.is_empty()) {
            faults.add("content", "holds the body, so body_bound = false is wrong");
        }
        let signed = |one: &Content| {
            (self.body_bound && binds_body(one), one.has_timestamp(), one.has_id(), one.has(&Part::Secret))
        };
        if also.iter().any(|one| signed(one) != signed(content)) {
            let problem =
                "{body}, {timestamp}, {id} and {secret} stand in all readings of the content or in none";
            faults.add("content_also", problem);
        }
    }

    fn check_content(
        &self,
        content: &Content,
        also: &[Content],
        layout: Option<&CompiledLayout>,
        faults: &mut Faults,
    ) {
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
        let covered = |content: &Content| {
            let by_name = |source: &Source| {
                let listed = self.signed_headers.iter().flat_map(|spec| &spec.always);
                content.values().any(|value| value == source)
                    || source.as_header().is_some_and(|name| listed.into_iter().any(|always| always == name))
            };
            let named = !timestamp.sources.is_empty() && timestamp.sources.iter().all(by_name);
            content.has_timestamp() || (!in_layout && (named || (in_body && content.binds_body())))
        };
        if timestamp.signed && covered(content) && !also.iter().all(covered) {
            faults.add(
                "content_also",
                "the timestamp is part of all readings of the content, or signed = false",
            );
        }
        if timestamp.signed != covered(content) {
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

fn template(field: &str, text: &str, faults: &mut Faults) -> Content {
    Content::parse(text).unwrap_or_else(|fault| {
        faults.add(field, fault.to_string());
        Content::parse("{body}").unwrap_or_else(|_| unreachable!("a template of one known part"))
    })
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
        let sources = self.every_source().filter_map(Source::as_json);
        let contents = std::iter::once(&self.content).chain(&self.content_also);
        let fields = self.fields.json_fields.iter().flat_map(super::canonical::JsonFieldsSpec::pointers);
        sources.chain(contents.flat_map(Content::pointers)).chain(fields).collect()
    }

    fn every_source(&self) -> impl Iterator<Item = &Source> {
        let timestamps = self.timestamp.iter().flat_map(|timestamp| &timestamp.sources);
        let key_ids = self.key_id.iter().flat_map(|spec| &spec.sources);
        let by = self.algorithm_by.iter().map(|by| &by.source);
        let equal = self.require_equal.iter().map(|(source, _)| source);
        let key_source = self.key_source.as_ref().and_then(KeySource::source);
        self.sources
            .iter()
            .chain(timestamps)
            .chain(&self.event_id)
            .chain(key_ids)
            .chain(by)
            .chain(equal)
            .chain(key_source)
    }

    /// Whether a changed byte of the body always shows.
    pub fn binds_every_byte(&self) -> bool {
        let hashed = self.require_equal.iter().any(|(_, content)| content.binds_every_byte());
        hashed
            || std::iter::once(&self.content).chain(&self.content_also).all(Content::binds_every_byte)
            || self.jwt.as_ref().is_some_and(|spec| spec.body_hash.is_some())
    }

    /// The headers this scheme writes, which nobody else may set.
    pub(crate) fn own_headers(&self) -> Vec<&HeaderName> {
        let timestamps = self.timestamp.iter().flat_map(|timestamp| &timestamp.sources);
        let sources = self.sources.iter().chain(timestamps).chain(&self.event_id);
        let required = self.require_headers.iter().map(|(name, _)| name);
        sources.filter_map(Source::as_header).chain(required).collect()
    }
}
