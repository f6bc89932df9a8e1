//! The fields of a form in a body: `application/x-www-form-urlencoded`, or `multipart/form-data`
//! where the content type says so.

use std::borrow::Cow;

use super::error::Malformed;
use super::limits;

/// A field's name and its value, decoded.
pub(super) type Field<'a> = (Cow<'a, str>, Cow<'a, [u8]>);

/// What no multipart type says is read as URL-encoded: a changed content type must not make a body
/// disappear from what is signed.
pub(super) fn fields<'a>(content_type: Option<&[u8]>, body: &'a [u8]) -> Result<Vec<Field<'a>>, Malformed> {
    let content_type = content_type.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("multipart/form-data") {
        let boundary = boundary(content_type).ok_or(Malformed::Form { problem: "no boundary" })?;
        return multipart(body, boundary);
    }
    let mut fields = Vec::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        if fields.len() == limits::FORM_FIELDS_MAX {
            return Err(Malformed::Form { problem: "too many fields" });
        }
        let value = match value {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        fields.push((name, value));
    }
    Ok(fields)
}

/// The first field of this name.
pub(super) fn first<'f, 'a>(fields: &'f [Field<'a>], name: &str) -> Option<&'f Cow<'a, [u8]>> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn boundary(content_type: &str) -> Option<&str> {
    parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty() && boundary.len() <= 70)
}

/// A parameter of a header value; a quoted one without its quotes.
fn parameter<'v>(value: &'v str, name: &str) -> Option<&'v str> {
    value.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// RFC 7578. Each part ends where the next boundary begins.
fn multipart<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Field<'a>>, Malformed> {
    let wrong = |problem| Malformed::Form { problem };
    let opening = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let start = find(body, opening.as_bytes()).ok_or_else(|| wrong("the boundary is not in the body"))?;
    let mut rest = &body[start + opening.len()..];
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        if fields.len() == limits::FORM_FIELDS_MAX {
            return Err(wrong("too many fields"));
        }
        let part =
            rest.strip_prefix(b"\r\n").ok_or_else(|| wrong("a boundary is not at the end of its line"))?;
        let end = find(part, between.as_bytes()).ok_or_else(|| wrong("a part does not end"))?;
        let (part, after) = (&part[..end], &part[end + between.len()..]);
        let head = find(part, b"\r\n\r\n").ok_or_else(|| wrong("a part has no headers"))?;
        let headers =
            std::str::from_utf8(&part[..head]).map_err(|_| wrong("the headers of a part are no text"))?;
        let name = headers
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-disposition"))
            .and_then(|(_, value)| parameter(value, "name"))
            .ok_or_else(|| wrong("a part has no name"))?;
        fields.push((Cow::Owned(name.to_owned()), Cow::Borrowed(&part[head + 4..])));
        rest = after;
    }
    Ok(fields)
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, body: &str) -> Result<Vec<(String, String)>, Malformed> {
        let fields = fields(Some(content_type.as_bytes()), body.as_bytes())?;
        Ok(fields
            .into_iter()
            .map(|(name, value)| (name.into_owned(), String::from_utf8(value.into_owned()).unwrap()))
            .collect())
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn both_kinds_of_form() {
        let wanted = pairs(&[("a", "1 2"), ("b", "é"), ("a", "")]);
        assert_eq!(read("application/x-www-form-urlencoded", "a=1+2&b=%C3%A9&a="), Ok(wanted.clone()));
        assert_eq!(read("application/json", "a=1+2&b=%C3%A9&a="), Ok(wanted));
        let body = "--x\r\nContent-Disposition: form-data; name=\"json\"\r\nContent-Type: text/plain\r\n\r\n{\"a\":1}\r\n\
                    --x\r\ncontent-disposition: form-data; name=b\r\n\r\n\r\n--x--\r\n";
        assert_eq!(
            read("multipart/form-data; boundary=\"x\"", body),
            Ok(pairs(&[("json", "{\"a\":1}"), ("b", "")]))
        );
    }

    #[test]
    fn what_breaks_a_multipart_body_is_named() {
        for (content_type, body, problem) in [
            ("multipart/form-data", "", "no boundary"),
            ("multipart/form-data; boundary=x", "a=1", "the boundary is not in the body"),
            ("multipart/form-data; boundary=x", "--x\r\na", "a part does not end"),
            ("multipart/form-data; boundary=x", "--x\r\na\r\n--x--", "a part has no headers"),
            ("multipart/form-data; boundary=x", "--x\r\nA: b\r\n\r\n\r\n--x--", "a part has no name"),
        ] {
            assert_eq!(read(content_type, body), Err(Malformed::Form { problem }), "{body}");
        }
        let many = "a&".repeat(limits::FORM_FIELDS_MAX + 1);
        assert!(read("", &many).is_err());
    }
}
