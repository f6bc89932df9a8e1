//! The fields of a form in a body: `application/x-www-form-urlencoded`, or `multipart/form-data`
//! where the content type says so.

use std::borrow::Cow;

use memchr::memmem;

use super::error::Malformed;
use super::limits;

const URL_ENCODED: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";

/// A field's name and its value, decoded.
pub(super) type Field<'a> = (Cow<'a, str>, Cow<'a, [u8]>);

/// What no multipart type says is read as URL-encoded: a changed content type must not make a body
/// disappear from what is signed.
pub(super) fn fields<'a>(content_type: Option<&[u8]>, body: &'a [u8]) -> Result<Vec<Field<'a>>, Malformed> {
    if media_type(content_type).eq_ignore_ascii_case(MULTIPART) {
        let boundary = boundary(text(content_type)).ok_or(Malformed::Form { problem: "no boundary" })?;
        return multipart(body, &boundary);
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

/// The value of a field. Of one that is there twice some readers take the first and some the last: what is verified
/// would not be what is read.
pub(super) fn only<'f, 'a>(
    fields: &'f [Field<'a>],
    name: &str,
) -> Result<Option<&'f Cow<'a, [u8]>>, Malformed> {
    let mut found = fields.iter().filter(|(known, _)| known == name);
    let first = found.next().map(|(_, value)| value);
    match found.count() {
        0 => Ok(first),
        more => Err(Malformed::Repeated { times: more + 1 }),
    }
}

/// Whether a content type says that the body is a form.
pub(super) fn is_form(content_type: Option<&[u8]>) -> bool {
    [URL_ENCODED, MULTIPART].iter().any(|form| media_type(content_type).eq_ignore_ascii_case(form))
}

/// Whether a content type says that the body is JSON, `application/problem+json` and the like too.
pub(super) fn is_json(content_type: Option<&[u8]>) -> bool {
    let media_type = media_type(content_type).to_ascii_lowercase();
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

fn media_type(content_type: Option<&[u8]>) -> &str {
    text(content_type).split(';').next().unwrap_or_default().trim()
}

fn text(content_type: Option<&[u8]>) -> &str {
    content_type.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

fn boundary(content_type: &str) -> Option<String> {
    parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty() && boundary.len() <= 70)
}

/// A parameter of a header value; a quoted one without its quotes, within which nothing separates.
fn parameter(value: &str, name: &str) -> Option<String> {
    let (_, mut rest) = value.split_once(';')?;
    loop {
        let (key, written) = rest.split_once('=')?;
        // What has no value stands before this one.
        let key = key.rsplit(';').next().unwrap_or_default().trim();
        let (value, after) = if let Some(quoted) = written.trim_start().strip_prefix('"') {
            unquote(quoted)?
        } else {
            let (value, after) = written.split_once(';').unwrap_or((written, ""));
            (value.trim().to_owned(), after)
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// What stands before the closing quote, and what behind it. Of a backslash that escapes neither a quote nor
/// another one nothing is known: browsers write names of files with it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut inside = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match (character, characters.peek()) {
            ('"', _) => return Some((inside, &quoted[at + 1..])),
            ('\\', Some(&(_, escaped @ ('"' | '\\')))) => {
                characters.next();
                inside.push(escaped);
            }
            _ => inside.push(character),
        }
    }
    None
}

/// RFC 7578. Each part ends where the next boundary begins.
fn multipart<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Field<'a>>, Malformed> {
    let wrong = |problem| Malformed::Form { problem };
    let opening = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let between = memmem::Finder::new(&between);
    let start =
        memmem::find(body, opening.as_bytes()).ok_or_else(|| wrong("the boundary is not in the body"))?;
    let mut rest = &body[start + opening.len()..];
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        if fields.len() == limits::FORM_FIELDS_MAX {
            return Err(wrong("too many fields"));
        }
        let part =
            rest.strip_prefix(b"\r\n").ok_or_else(|| wrong("a boundary is not at the end of its line"))?;
        let end = between.find(part).ok_or_else(|| wrong("a part does not end"))?;
        let (part, after) = (&part[..end], &part[end + between.needle().len()..]);
        fields.push(read_part(part).map_err(wrong)?);
        rest = after;
    }
    Ok(fields)
}

fn read_part(part: &[u8]) -> Result<Field<'_>, &'static str> {
    let head_max = part.len().min(limits::HEADER_BYTES_MAX);
    let head = memmem::find(&part[..head_max], b"\r\n\r\n").ok_or("a part has no headers, or too many")?;
    // Names of files are in whatever encoding their senders have; a name of ours is text.
    let headers = String::from_utf8_lossy(&part[..head]);
    let name = headers
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-disposition"))
        .and_then(|(_, value)| parameter(value, "name"))
        .ok_or("a part has no name")?;
    Ok((Cow::Owned(name), Cow::Borrowed(&part[head + 4..])))
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
    fn the_name_of_a_file_is_no_name_of_a_field() {
        let part = |disposition: &str| {
            let body = format!("--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\nv\r\n--x--\r\n");
            read("multipart/form-data; charset=utf-8; boundary=x", &body).map(|mut fields| fields.remove(0).0)
        };
        for (disposition, name) in [
            (r#"filename="a; name=token"; name="file""#, "file"),
            (r#"filename="\"; name=\"token"; name="file""#, "file"),
            (r#"filename*=utf-8''a; name = "a;b=\"c\\" "#, "a;b=\"c\\"),
            (r#"filename="C:\a"; NAME=b"#, "b"),
            (r"flag; name=b", "b"),
        ] {
            assert_eq!(part(disposition).as_deref(), Ok(name), "{disposition}");
        }
        assert!(part(r#"filename="a; name=token"#).is_err(), "the quote is not closed");
        let latin: &[u8] =
            b"--x\r\nContent-Disposition: form-data; name=b; filename=\"caf\xe9\"\r\n\r\nv\r\n--x--";
        let found = fields(Some(b"multipart/form-data; boundary=x"), latin).unwrap();
        assert_eq!(found[0].0, "b", "a name of a file in another encoding");
    }

    #[test]
    fn a_content_type_says_what_the_body_is() {
        let forms = ["application/x-www-form-urlencoded", "Multipart/Form-Data; boundary=x"];
        let json = ["application/json; charset=utf-8", "application/problem+JSON"];
        for (content_type, form) in
            forms.map(|one| (one, true)).into_iter().chain(json.map(|one| (one, false)))
        {
            let content_type = Some(content_type.as_bytes());
            assert_eq!((is_form(content_type), is_json(content_type)), (form, !form));
        }
        assert_eq!((is_form(None), is_json(None)), (false, false));
    }

    #[test]
    fn what_breaks_a_multipart_body_is_named() {
        for (content_type, body, problem) in [
            ("multipart/form-data", "", "no boundary"),
            ("multipart/form-data; boundary=x", "a=1", "the boundary is not in the body"),
            ("multipart/form-data; boundary=x", "--x\r\na", "a part does not end"),
            ("multipart/form-data; boundary=x", "--x\r\na\r\n--x--", "a part has no headers, or too many"),
            ("multipart/form-data; boundary=x", "--x\r\nA: b\r\n\r\n\r\n--x--", "a part has no name"),
        ] {
            assert_eq!(read(content_type, body), Err(Malformed::Form { problem }), "{body}");
        }
        let head = format!("--x\r\nA: {}\r\n\r\n\r\n--x--", "a".repeat(limits::HEADER_BYTES_MAX));
        let problem = "a part has no headers, or too many";
        assert_eq!(read("multipart/form-data; boundary=x", &head), Err(Malformed::Form { problem }));
        let many = "a&".repeat(limits::FORM_FIELDS_MAX + 1);
        assert!(read("", &many).is_err());
    }
}
