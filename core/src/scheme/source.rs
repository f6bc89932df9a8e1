//! Where in a request a value stands: `header:NAME`, `query:NAME`, `json:/pointer`, `form:FIELD`,
//! `form-json:FIELD#/pointer` or `form-xml:FIELD#/path`.

use std::fmt;
use std::str::FromStr;

use http::HeaderName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    Header(SourceHeader),
    Query(String),
    Json(JsonPointer),
    /// A field of a form in the body.
    Form(String),
    /// A value of the JSON in a field of a form.
    FormJson(String, JsonPointer),
    /// The text of an element of the XML, in base64, in a field of a form.
    FormXml(String, JsonPointer),
}

/// A header name that sorts, so that it can be a key of an ordered map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceHeader(pub HeaderName);

impl PartialOrd for SourceHeader {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SourceHeader {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error(
        "`{0}` is no source: write header:NAME, query:NAME, json:/pointer, form:FIELD, form-json:FIELD#/pointer or form-xml:FIELD#/path"
    )]
    Kind(String),
    #[error("`{0}` is no header name")]
    Header(String),
    #[error("the query parameter has no name")]
    Query,
    #[error("the field of the form has no name")]
    Field,
    #[error("`{0}` is no JSON pointer: it starts with `/`, and `~` is written `~0`")]
    Pointer(String),
    #[error("longer than {} bytes", limits::TEXT_BYTES_MAX)]
    Length,
}

impl Source {
    pub fn header(name: HeaderName) -> Self {
        Self::Header(SourceHeader(name))
    }

    pub fn as_header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header(name) => Some(&name.0),
            _ => None,
        }
    }

    /// The place in the body, where that is JSON.
    pub(crate) fn as_json(&self) -> Option<&JsonPointer> {
        match self {
            Self::Json(pointer) => Some(pointer),
            _ => None,
        }
    }
}

/// `FIELD#/pointer`.
fn field_and_pointer(text: &str) -> Result<(String, JsonPointer), SourceError> {
    let (field, pointer) = text.split_once('#').ok_or_else(|| SourceError::Pointer(text.to_owned()))?;
    if field.is_empty() {
        return Err(SourceError::Field);
    }
    Ok((field.to_owned(), pointer.parse()?))
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if text.len() > limits::TEXT_BYTES_MAX {
            return Err(SourceError::Length);
        }
        let (kind, rest) = text.split_once(':').ok_or_else(|| SourceError::Kind(text.to_owned()))?;
        match kind {
            "header" => rest.parse().map(Self::header).map_err(|_| SourceError::Header(rest.to_owned())),
            "query" if rest.is_empty() => Err(SourceError::Query),
            "query" => Ok(Self::Query(rest.to_owned())),
            "json" => rest.parse().map(Self::Json),
            "form" if rest.is_empty() => Err(SourceError::Field),
            "form" => Ok(Self::Form(rest.to_owned())),
            "form-json" => field_and_pointer(rest).map(|(field, pointer)| Self::FormJson(field, pointer)),
            "form-xml" => field_and_pointer(rest).map(|(field, pointer)| Self::FormXml(field, pointer)),
            _ => Err(SourceError::Kind(text.to_owned())),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{}", name.0),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Json(pointer) => write!(f, "json:{pointer}"),
            Self::Form(name) => write!(f, "form:{name}"),
            Self::FormJson(name, pointer) => write!(f, "form-json:{name}#{pointer}"),
            Self::FormXml(name, pointer) => write!(f, "form-xml:{name}#{pointer}"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A JSON pointer (RFC 6901) that is not the whole document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JsonPointer {
    text: String,
    segments: Vec<String>,
}

impl JsonPointer {
    pub(super) fn segments(&self) -> &[String] {
        &self.segments
    }
}

impl FromStr for JsonPointer {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let wrong = || SourceError::Pointer(text.to_owned());
        let rest = text.strip_prefix('/').ok_or_else(wrong)?;
        let mut segments = Vec::new();
        for written in rest.split('/') {
            // A tilde stands for itself only as `~0`, a slash as `~1`.
            if written.split('~').skip(1).any(|after| !after.starts_with(['0', '1'])) {
                return Err(wrong());
            }
            segments.push(written.replace("~1", "/").replace("~0", "~"));
        }
        if segments.len() > limits::LIST_MAX {
            return Err(SourceError::Length);
        }
        Ok(Self { text: text.to_owned(), segments })
    }
}

impl Serialize for JsonPointer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JsonPointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "header:x-a",
            "query:hub.mode",
            "json:/a/0/b~1c~0",
            "form:a b",
            "form-json:j#/a",
            "form-xml:x#/a/b",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        assert_eq!("header:X-A".parse::<Source>().unwrap().to_string(), "header:x-a");
        let pointer: JsonPointer = "/a~1b/~0/~01".parse().unwrap();
        assert_eq!(pointer.segments(), ["a/b", "~", "~1"]);
    }

    #[test]
    fn faults_are_named() {
        for (text, fault) in [
            ("x-a", SourceError::Kind("x-a".into())),
            ("cookie:a", SourceError::Kind("cookie:a".into())),
            ("form:", SourceError::Field),
            ("form-json:#/a", SourceError::Field),
            ("form-json:a", SourceError::Pointer("a".into())),
            ("header:a b", SourceError::Header("a b".into())),
            ("query:", SourceError::Query),
            ("json:a", SourceError::Pointer("a".into())),
            ("json:/a~2", SourceError::Pointer("/a~2".into())),
            ("json:/a~", SourceError::Pointer("/a~".into())),
        ] {
            assert_eq!(text.parse::<Source>(), Err(fault), "{text}");
        }
        assert_eq!(format!("query:{}", "a".repeat(300)).parse::<Source>(), Err(SourceError::Length));
    }
}
