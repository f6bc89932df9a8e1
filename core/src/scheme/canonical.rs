//! Values of a request put in order before they are signed: what a template alone cannot say.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::HeaderName;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::describe::UrlVariant;
use super::error::Malformed;
use super::fill::{Gap, value};
use super::form::Field;
use super::request::InboundRequest;
use super::source::{JsonPointer, Source};

/// `{signed_headers}`: the headers that another header lists, by name, as `name:value` pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHeadersSpec {
    /// The header that names the others. Its own value counts as the names in their order.
    #[serde(with = "http_name")]
    pub list_header: HeaderName,
    pub list_sep: String,
    pub kv_sep: String,
    /// Between the pairs.
    pub join: String,
    /// Signed whether they are listed or not, so that nobody leaves them out.
    #[serde(default, with = "http_names")]
    pub always: Vec<HeaderName>,
}

/// `{json_fields}`: members of the body's object, each as its name and value on lines of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonFieldsSpec {
    /// The value at `switch` chooses another list in `by`.
    pub switch: JsonPointer,
    pub default: Vec<JsonPointer>,
    #[serde(default)]
    pub by: BTreeMap<String, Vec<JsonPointer>>,
}

impl SignedHeadersSpec {
    /// The list as a sender writes it: what is always signed, and the list itself.
    pub(super) fn list(&self) -> String {
        let mut names: Vec<&str> = self.always.iter().map(HeaderName::as_str).collect();
        names.push(self.list_header.as_str());
        names.sort_unstable();
        names.join(&self.list_sep)
    }

    /// In the order of the list. Who leaves out what must be signed signs nothing.
    pub(super) fn render(&self, request: &InboundRequest<'_>) -> Result<Vec<u8>, Gap> {
        let list_at = || Source::header(self.list_header.clone());
        let malformed = |fault| Gap::Malformed(list_at(), fault);
        let listed = value(request, &list_at(), false)?;
        let listed = std::str::from_utf8(&listed).map_err(|_| malformed(Malformed::NotText))?;
        let names = listed
            .split(self.list_sep.as_str())
            .map(|name| name.trim().parse().map_err(|_| malformed(Malformed::NotText)))
            .collect::<Result<Vec<HeaderName>, Gap>>()?;
        if let Some(left_out) =
            self.always.iter().chain([&self.list_header]).find(|name| !names.contains(name))
        {
            return Err(malformed(Malformed::LeftOut { name: left_out.to_string() }));
        }
        let mut out = Vec::new();
        for (place, name) in names.iter().enumerate() {
            if place > 0 {
                out.extend_from_slice(self.join.as_bytes());
            }
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(self.kv_sep.as_bytes());
            out.extend_from_slice(value(request, &Source::header(name.clone()), false)?.trim_ascii());
        }
        Ok(out)
    }
}

impl JsonFieldsSpec {
    pub(super) fn pointers(&self) -> impl Iterator<Item = &JsonPointer> {
        std::iter::once(&self.switch).chain(&self.default).chain(self.by.values().flatten())
    }

    pub(super) fn render(&self, request: &InboundRequest<'_>) -> Result<Vec<u8>, (Source, Malformed)> {
        let value = |pointer: &JsonPointer| {
            let source = Source::Json(pointer.clone());
            request.get(&source).map_err(|fault| (source, fault))
        };
        let switch = value(&self.switch)?.unwrap_or_default();
        let fields = std::str::from_utf8(&switch).ok().and_then(|switch| self.by.get(switch));
        let mut out = Vec::new();
        for pointer in fields.unwrap_or(&self.default) {
            let Some(value) = value(pointer)? else { continue };
            let name = pointer.segments().last().map(String::as_str).unwrap_or_default();
            for piece in [name.as_bytes(), b"\n", &value, b"\n"] {
                out.extend_from_slice(piece);
            }
        }
        Ok(out)
    }
}

/// Names and values without separators, each name and each of its values once, in order.
pub(super) fn form_sorted_concat(fields: &[Field<'_>]) -> Vec<u8> {
    let mut sorted: Vec<(&str, &[u8])> =
        fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
    sorted.sort_unstable();
    sorted.dedup();
    concat(&sorted)
}

fn concat(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value].concat()).collect()
}

/// The form as PHP's `serialize` writes an array of texts in order of their names, without `left_out`.
pub(super) fn php_serialized(fields: &[Field<'_>], left_out: &[&str]) -> Vec<u8> {
    // Of a field that is there twice PHP keeps the last.
    let last: BTreeMap<&str, &[u8]> = fields
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .filter(|(name, _)| !left_out.contains(name))
        .collect();
    let mut out = format!("a:{}:{{", last.len()).into_bytes();
    for (name, value) in last {
        for text in [name.as_bytes(), value] {
            out.extend_from_slice(format!("s:{}:\"", text.len()).as_bytes());
            out.extend_from_slice(text);
            out.extend_from_slice(b"\";");
        }
    }
    out.push(b'}');
    out
}

/// The URL with its query in order, and the form in order behind it.
pub(super) fn url_with_sorted_form(origin: &str, path_and_query: &str, fields: &[Field<'_>]) -> Vec<u8> {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let mut parameters: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
    parameters.sort_unstable();
    let query =
        parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let mut sorted: Vec<(&str, &[u8])> =
        fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
    sorted.sort_unstable();
    let mut out = [origin, path].concat().into_bytes();
    if !query.is_empty() || !sorted.is_empty() {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    if !query.is_empty() && !sorted.is_empty() {
        out.push(b'.');
    }
    out.extend_from_slice(&concat(&sorted));
    out
}

/// What JavaScript's `encodeURI` leaves alone besides letters and digits.
const URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
/// What it leaves alone in one component.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');
/// RFC 3986: letters, digits and these.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Path and query where the whole query was escaped as one component, and all of it as a URL once more.
pub(super) fn path_query_escaped(path_and_query: &str) -> String {
    match path_and_query.split_once('?') {
        None | Some((_, "")) => utf8_percent_encode(path_and_query.trim_end_matches('?'), URI).to_string(),
        Some((path, query)) => {
            let query =
                utf8_percent_encode(query.split('?').next().unwrap_or_default(), COMPONENT).to_string();
            utf8_percent_encode(&format!("{path}?{query}"), URI).to_string()
        }
    }
}

/// `url` without the percent-escapes of `characters`. What comes of it is not looked at again: `%253A` stays.
pub(super) fn unescape(url: &str, characters: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| byte == b'%').and_then(|digits| {
            let mut character = [0];
            hex::decode_to_slice(digits, &mut character).ok()?;
            characters.as_bytes().contains(&character[0]).then_some(character[0])
        });
        out.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    out
}

/// Method, path and ordered query as Atlassian's `qsh` claim hashes them; the token itself is left out.
pub(super) fn atlassian_request(method: &str, path_and_query: &str) -> String {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let path = path.replace('&', "%26");
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { &path };
    let path = if path.is_empty() { "/" } else { path };
    let mut parameters: BTreeMap<Cow<'_, str>, Vec<Cow<'_, str>>> = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "jwt") {
        parameters.entry(name).or_default().push(value);
    }
    let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let query: Vec<String> = parameters
        .iter_mut()
        .map(|(name, values)| {
            values.sort_unstable();
            let values: Vec<String> = values.iter().map(|value| encode(value)).collect();
            format!("{}={}", encode(name), values.join(","))
        })
        .collect();
    format!("{}&{path}&{}", method.to_ascii_uppercase(), query.join("&"))
}

/// Scheme and authority in another spelling.
pub(super) fn url_variant(origin: &str, variant: UrlVariant) -> String {
    let (scheme, rest) = origin.split_once("://").unwrap_or(("", origin));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // An IPv6 address holds colons of its own, in brackets.
    let port = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    match (variant, port) {
        (UrlVariant::WithoutPort, Some(at)) => format!("{scheme}://{}{path}", &authority[..at]),
        (UrlVariant::WithDefaultPort, None) => {
            let port = if scheme.eq_ignore_ascii_case("http") { 80 } else { 443 };
            format!("{scheme}://{authority}:{port}{path}")
        }
        _ => origin.to_owned(),
    }
}

mod http_name {
    use http::HeaderName;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

mod http_names {
    use http::HeaderName;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(names.iter().map(HeaderName::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<HeaderName>, D::Error> {
        let names: Vec<String> = Vec::deserialize(deserializer)?;
        names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Vec<Field<'_>> {
        super::super::form::fields(None, text.as_bytes()).unwrap()
    }

    #[test]
    fn forms_in_order() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(text(form_sorted_concat(&form("b=2&a=z&a=y&a=z"))), "ayazb2");
        assert_eq!(
            text(php_serialized(&form("b=%C3%A9&sig=x&a=1"), &["sig"])),
            "a:2:{s:1:\"a\";s:1:\"1\";s:1:\"b\";s:2:\"é\";}"
        );
        let url = |path: &str, body: &str| text(url_with_sorted_form("https://h", path, &form(body)));
        assert_eq!(url("/p?b=2&a=1", ""), "https://h/p?a=1&b=2");
        assert_eq!(url("/p?b=2&a=1", "y=2&x=1"), "https://h/p?a=1&b=2.x1y2");
        assert_eq!(url("/p", "x=1"), "https://h/p?x1");
        assert_eq!(url("/p", ""), "https://h/p");
    }

    #[test]
    fn urls_in_other_spellings() {
        for (origin, without, with) in [
            ("https://h", "https://h", "https://h:443"),
            ("http://h", "http://h", "http://h:80"),
            ("https://h:8443", "https://h", "https://h:8443"),
            ("https://[::1]", "https://[::1]", "https://[::1]:443"),
            ("https://h:1/base", "https://h/base", "https://h:1/base"),
        ] {
            assert_eq!(url_variant(origin, UrlVariant::WithoutPort), without);
            assert_eq!(url_variant(origin, UrlVariant::WithDefaultPort), with);
        }
        assert_eq!(path_query_escaped("/a b"), "/a%20b");
        assert_eq!(path_query_escaped("/a?x=1&y"), "/a?x%253D1%2526y");
    }

    #[test]
    fn only_the_escapes_that_are_listed_are_undone_and_only_once() {
        for (url, unescaped) in [
            ("https://h/in?a=%3a%2F%3F&b=%20%25%26", "https://h/in?a=:/?&b=%20%25%26"),
            ("/%253A%25%33A%3", "/%253A%25%33A%3"),
            ("/%%3A%zz%", "/%:%zz%"),
            ("/é%C3%A9%3A", "/é%C3%A9:"),
        ] {
            assert_eq!(String::from_utf8(unescape(url, ":/?")).unwrap(), unescaped);
        }
    }

    #[test]
    fn the_request_of_an_atlassian_token() {
        // https://developer.atlassian.com/cloud/jira/platform/understanding-jwt-for-connect-apps/
        let canonical = atlassian_request("get", "/rest/x&y/?b=2%20&a=z&a=q&jwt=t&c");
        assert_eq!(canonical, "GET&/rest/x%26y&a=q,z&b=2%20&c=");
        assert_eq!(atlassian_request("POST", "/"), "POST&/&");
    }
}
