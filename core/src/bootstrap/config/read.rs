//! Takes values out of the file and the environment, and collects what is wrong with them.
//!
//! A value that is missing or at fault is replaced by something harmless so that reading goes on to
//! the next one; [`Reader::finish`] says whether anything was at fault, and then nothing is used.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use crate::secrets::Secret;

/// Longer texts are cut in messages.
const SHOWN_CHARS_MAX: usize = 80;
const LIST_ENTRIES_MAX: usize = 256;

/// The value of one key: from the file, or, over it, from a variable.
enum Raw {
    File(Value),
    Variable(String),
}

pub(super) struct Reader {
    tables: BTreeMap<String, BTreeMap<String, Raw>>,
    faults: Vec<String>,
}

impl Reader {
    /// Fails only when the file is no TOML at all.
    pub(super) fn new(
        toml_text: Option<&str>,
        variables: Vec<(String, Result<String, String>)>,
    ) -> Result<Self, Vec<String>> {
        let file: Table = match toml_text {
            Some(text) => text.parse().map_err(|error: toml::de::Error| vec![syntax_fault(text, &error)])?,
            None => Table::new(),
        };
        let mut reader = Self { tables: BTreeMap::new(), faults: Vec::new() };
        for (section, value) in file {
            match value {
                Value::Table(table) => {
                    let table = table.into_iter().map(|(key, value)| (key, Raw::File(value))).collect();
                    reader.tables.insert(section, table);
                }
                _ => reader.faults.push(format!("`{section}` stands outside of any [section]")),
            }
        }
        for (name, value) in variables {
            let path = name.trim_start_matches("BOWLINE_").to_ascii_lowercase();
            match (path.split_once('_'), value) {
                (_, Err(fault)) => reader.faults.push(fault),
                (None, Ok(_)) => reader.faults.push(format!("{name} is not a variable of Bowline")),
                (Some((section, key)), Ok(value)) => {
                    let table = reader.tables.entry(section.to_owned()).or_default();
                    table.insert(key.to_owned(), Raw::Variable(value));
                }
            }
        }
        Ok(reader)
    }

    /// Reads one section; what `read` leaves over is unknown.
    pub(super) fn section<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let values = self.tables.remove(name).unwrap_or_default();
        let mut section = Section { name, values, faults: &mut self.faults };
        let value = read(&mut section);
        let left: Vec<_> = std::mem::take(&mut section.values).into_iter().collect();
        for (key, raw) in left {
            self.faults.push(unknown(name, &key, &raw));
        }
        value
    }

    /// All faults, those of unknown sections included.
    pub(super) fn finish(mut self) -> Vec<String> {
        for (section, values) in std::mem::take(&mut self.tables) {
            if values.values().any(|raw| matches!(raw, Raw::File(_))) || values.is_empty() {
                self.faults.push(format!("the section [{section}] is unknown"));
                continue;
            }
            self.faults.extend(values.iter().map(|(key, raw)| unknown(&section, key, raw)));
        }
        self.faults
    }
}

/// Line and reason, never the line itself: it may hold a password.
fn syntax_fault(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("the file is not TOML: line {}: {}", before.matches('\n').count() + 1, error.message())
}

fn unknown(section: &str, key: &str, raw: &Raw) -> String {
    match raw {
        Raw::File(_) => format!("{section}.{key} is unknown"),
        Raw::Variable(_) => format!("{} is not a variable of Bowline", variable(section, key)),
    }
}

fn variable(section: &str, key: &str) -> String {
    format!("BOWLINE_{}_{}", section.to_ascii_uppercase(), key.to_ascii_uppercase())
}

/// One section while it is being read.
pub(super) struct Section<'a> {
    name: &'static str,
    values: BTreeMap<String, Raw>,
    faults: &'a mut Vec<String>,
}

impl Section<'_> {
    pub(super) fn fault(&mut self, key: &str, what: impl Display) {
        self.faults.push(format!("{}.{key}: {what}", self.name));
    }

    fn missing(&mut self, key: &str, what: &str) {
        let variable = variable(self.name, key);
        self.fault(key, format_args!("is required: {what} (or set {variable})"));
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.values.remove(key)? {
            Raw::Variable(text) | Raw::File(Value::String(text)) => Some(text),
            Raw::File(other) => {
                self.fault(key, format_args!("expected a text in quotes, found {}", other.type_str()));
                None
            }
        }
    }

    /// A text that must not be shown; never empty.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        self.text(key).filter(|text| !text.is_empty()).map(Secret::new)
    }

    pub(super) fn required_secret(&mut self, key: &str, what: &str) -> Secret {
        let present = self.values.contains_key(key);
        let faults_before = self.faults.len();
        if let Some(secret) = self.secret(key) {
            return secret;
        }
        // A value of the wrong type is a fault already.
        if !present || self.faults.len() == faults_before {
            self.missing(key, what);
        }
        Secret::new(Vec::new())
    }

    /// A text through a parser whose error says what is expected.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.fault(key, format_args!("`{}`: {expected}", shown(&text)));
                None
            }
        }
    }

    pub(super) fn bool(&mut self, key: &str, default: bool) -> bool {
        if let Some(Raw::File(Value::Boolean(value))) = self.values.get(key) {
            let value = *value;
            self.values.remove(key);
            return value;
        }
        self.parsed(key, |text| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("expected true or false".into()),
        })
        .unwrap_or(default)
    }

    pub(super) fn count(&mut self, key: &str, default: usize, range: RangeInclusive<usize>) -> usize {
        let value = match self.values.get(key) {
            Some(Raw::File(Value::Integer(value))) => {
                let value = *value;
                self.values.remove(key);
                Some(value)
            }
            Some(Raw::File(other)) => {
                let found = other.type_str();
                self.values.remove(key);
                self.fault(key, format_args!("expected a whole number, found {found}"));
                None
            }
            _ => {
                self.parsed(key, |text| text.parse::<i64>().map_err(|_| "expected a whole number".to_owned()))
            }
        };
        value.and_then(|value| self.in_range(key, value, &range, ToString::to_string)).unwrap_or(default)
    }

    fn in_range(
        &mut self,
        key: &str,
        value: i64,
        range: &RangeInclusive<usize>,
        show: impl Fn(&usize) -> String,
    ) -> Option<usize> {
        let fitting = usize::try_from(value).ok().filter(|value| range.contains(value));
        if fitting.is_none() {
            let (min, max) = (show(range.start()), show(range.end()));
            self.fault(key, format_args!("{value} is out of range: {min} to {max}"));
        }
        fitting
    }

    /// A size: a number of bytes, or a text such as `128MiB`.
    pub(super) fn bytes(&mut self, key: &str, default: usize, range: RangeInclusive<usize>) -> usize {
        let value = match self.values.get(key) {
            Some(Raw::File(Value::Integer(value))) => {
                let value = *value;
                self.values.remove(key);
                Some(value)
            }
            _ => self.parsed(key, parse_bytes),
        };
        value
            .and_then(|value| self.in_range(key, value, &range, |bytes| show_bytes(*bytes)))
            .unwrap_or(default)
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let value = self.parsed(key, |text| {
            humantime::parse_duration(text)
                .map_err(|_| "expected a duration with its unit, such as 10s or 500ms".into())
        });
        let Some(value) = value else { return default };
        if range.contains(&value) {
            return value;
        }
        let [value, min, max] = [value, *range.start(), *range.end()].map(humantime::format_duration);
        self.fault(key, format_args!("{value} is out of range: {min} to {max}"));
        default
    }

    /// A share of a whole, above 0 and at most 1.
    pub(super) fn share(&mut self, key: &str, default: f64) -> f64 {
        let value = match self.values.get(key) {
            Some(Raw::File(Value::Float(value))) => Some(*value),
            Some(Raw::File(Value::Integer(value))) => Some(*value as f64),
            _ => None,
        };
        let value = if value.is_some() {
            self.values.remove(key);
            value
        } else {
            self.parsed(key, |text| text.parse().map_err(|_| "expected a number such as 0.5".into()))
        };
        match value {
            None => default,
            Some(value) if value > 0.0 && value <= 1.0 => value,
            Some(value) => {
                self.fault(key, format_args!("{value} is out of range: above 0, at most 1"));
                default
            }
        }
    }

    /// A list; in a variable its entries are separated by commas.
    pub(super) fn list<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let texts: Vec<String> = match self.values.remove(key) {
            None => return Vec::new(),
            Some(Raw::Variable(text)) => text.split(',').map(|entry| entry.trim().to_owned()).collect(),
            Some(Raw::File(Value::Array(values))) => values
                .into_iter()
                .map(|value| match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                })
                .collect(),
            Some(Raw::File(other)) => {
                self.fault(key, format_args!("expected a list in brackets, found {}", other.type_str()));
                return Vec::new();
            }
        };
        if texts.len() > LIST_ENTRIES_MAX {
            self.fault(key, format_args!("has {} entries; at most {LIST_ENTRIES_MAX}", texts.len()));
            return Vec::new();
        }
        let mut entries = Vec::new();
        for text in texts {
            match parse(&text) {
                Ok(entry) => entries.push(entry),
                Err(expected) => self.fault(key, format_args!("`{}`: {expected}", shown(&text))),
            }
        }
        entries
    }
}

fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

const UNITS: [(&str, i64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

fn parse_bytes(text: &str) -> Result<i64, String> {
    let expected = || "expected a size such as 8MiB, 512KiB or a number of bytes".to_owned();
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number.trim(), *factor)))
        .unwrap_or((text, 1));
    let number: i64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(factor).ok_or_else(expected)
}

fn show_bytes(bytes: usize) -> String {
    let found =
        UNITS[..3].iter().rev().find(|(_, factor)| bytes as i64 >= *factor && bytes as i64 % factor == 0);
    found.map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes as i64 / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        let table =
            [("0", 0), ("512", 512), ("1B", 1), ("64 KiB", 65_536), ("8MiB", 8 << 20), ("2GiB", 2 << 30)];
        for (text, bytes) in table {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "8MB", "-", "1.5MiB", "9999999999GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!([1000, 1024, 3 << 20, 1 << 30].map(show_bytes), ["1000B", "1KiB", "3MiB", "1GiB"]);
    }
}
