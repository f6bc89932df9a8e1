//! Puts an event's data into an envelope.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;

use super::describe::{JsonStyle, Member, Value};
use super::{FormatError, javascript};
use crate::event::Event;

/// What an event's bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Data<'a> {
    Json(&'a str),
    Text(&'a str),
    Binary(&'a [u8]),
}

impl<'a> Data<'a> {
    /// An object or array is JSON whatever its `Content-Type` says, for senders often say nothing
    /// useful; a bare `42` or `true` is JSON only where the type says so.
    pub(crate) fn of(event: &'a Event) -> Self {
        let Ok(text) = std::str::from_utf8(&event.body) else { return Self::Binary(&event.body) };
        let structured = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with(['{', '[']);
        if (structured || says_json(&event.content_type)) && serde_json::from_str::<IgnoredAny>(text).is_ok()
        {
            Self::Json(text)
        } else {
            Self::Text(text)
        }
    }
}

/// `application/json`, `application/problem+json` and so on; an event without a type counts as JSON.
fn says_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.is_empty() || media_type.ends_with("/json") || media_type.ends_with("+json")
}

/// A JSON object with the members in order. `text` gives every value but the data.
pub(super) fn envelope(
    members: &[Member],
    style: JsonStyle,
    event: &Event,
    text: impl Fn(Value) -> Option<String>,
) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::with_capacity(event.body.len() + 256);
    for (at, member) in members.iter().enumerate() {
        out.push(if at == 0 { b'{' } else { b',' });
        write_string(&member.name, &mut out);
        out.push(b':');
        match member.value {
            Value::Data => write_data(&Data::of(event), style, &mut out)?,
            value => match text(value) {
                Some(text) => write_string(&text, &mut out),
                None => out.extend_from_slice(b"null"),
            },
        }
    }
    if members.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    Ok(out)
}

fn write_data(data: &Data<'_>, style: JsonStyle, out: &mut Vec<u8>) -> Result<(), FormatError> {
    match (data, style) {
        (Data::Json(text), JsonStyle::Verbatim) => out.extend_from_slice(text.as_bytes()),
        (Data::Json(text), JsonStyle::Javascript) => javascript::rewrite(text, out)
            .map_err(|javascript::TooDeep| FormatError::TooDeep { max: javascript::DEPTH_MAX })?,
        (Data::Text(text), _) => write_string(text, out),
        (Data::Binary(bytes), _) => {
            out.extend_from_slice(b"{\"base64\":\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
    Ok(())
}

/// Escapes exactly what `JSON.stringify` escapes in well-formed text, in the same way.
fn write_string(text: &str, out: &mut Vec<u8>) {
    // Writing to memory and serialising a string cannot fail.
    serde_json::to_writer(out, text).unwrap_or_else(|_| unreachable!("a string is always JSON"));
}
