//! The ways to read a secret, checked, with the labels their signatures stand under.

use super::describe::{Algorithm, Derivation, KeyEncoding, KeyPart, KeyReading, Normalization, Scheme};
use super::faults::Faults;
use super::limits;

/// One [`KeyReading`], on its own.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) if_prefix: Vec<String>,
    pub(super) unless_prefix: Vec<String>,
    pub(super) strip_prefix: Vec<String>,
    pub(super) decode: KeyEncoding,
    pub(super) part: KeyPart,
    pub(super) id_sep: Option<String>,
    pub(super) normalize: Option<Normalization>,
    pub(super) derive: Option<Derivation>,
    pub(super) issue_prefix: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) label: usize,
}

/// Collects the readings of a secret and the labels their signatures stand under.
pub(super) struct Readings<'s, 'f> {
    scheme: &'s Scheme,
    faults: &'f mut Faults,
    pub(super) list: Vec<Reading>,
    pub(super) labels: Vec<String>,
}

impl<'s, 'f> Readings<'s, 'f> {
    pub(super) fn new(scheme: &'s Scheme, faults: &'f mut Faults) -> Self {
        let key = scheme.signature.layout.as_ref().and_then(|layout| layout.signature_key.clone());
        Self { scheme, faults, list: Vec::new(), labels: vec![key.unwrap_or_default()] }
    }

    pub(super) fn read(&mut self, reading: &KeyReading, field: &str, first: bool) {
        self.check_prefixes(reading, field);
        let own = self.scheme.algorithm;
        let algorithm = reading.algorithm.unwrap_or(own);
        if algorithm != own && (algorithm.sends_the_secret() || own.sends_the_secret()) {
            let problem = "a secret that is sent has no other algorithm beside it";
            self.faults.add(format!("{field}.algorithm"), problem);
        }
        if reading.id_sep.as_ref().is_some_and(String::is_empty) {
            self.faults.add(format!("{field}.id_sep"), "may not be empty");
        }
        let label = self.label(reading, field);
        self.list.push(Reading {
            if_prefix: reading.if_prefix.clone(),
            unless_prefix: reading.unless_prefix.clone(),
            strip_prefix: reading.strip_prefix.clone(),
            decode: reading.decode,
            part: reading.part,
            id_sep: reading.id_sep.clone(),
            normalize: reading.normalize,
            derive: reading.derive,
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
