//! Looks up the text of one element in an XML document, by the names on the way to it. Reads what
//! webhooks hold: elements, text, comments and the five named entities; no DTD.

use super::source::JsonPointer;

/// The text of the first element at `/root/child/..`; `None` where there is none, or the document
/// breaks before it.
pub(super) fn text_at(document: &str, path: &JsonPointer) -> Option<String> {
    let path = path.segments();
    // Names of the open elements; only as many are kept as the path is long.
    let mut open: Vec<&str> = Vec::new();
    let mut depth = 0;
    let mut rest = document;
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..];
        if let Some(comment) = tag.strip_prefix("!--") {
            rest = &comment[comment.find("-->")? + 3..];
            continue;
        }
        let end = tag.find('>')?;
        rest = &tag[end + 1..];
        let tag = &tag[..end];
        if tag.starts_with(['?', '!']) {
            continue;
        }
        if tag.starts_with('/') {
            depth = usize::checked_sub(depth, 1)?;
            open.truncate(depth);
            if depth == 0 {
                return None;
            }
            continue;
        }
        if tag.ends_with('/') {
            continue;
        }
        let name = tag.split_ascii_whitespace().next()?;
        if open.len() == depth && depth < path.len() && path[depth] == name {
            open.push(name);
            if open.len() == path.len() {
                return unescape(&rest[..rest.find('<')?]);
            }
        }
        depth += 1;
    }
    None
}

fn unescape(text: &str) -> Option<String> {
    const ENTITIES: [(&str, char); 5] =
        [("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&apos;", '\''), ("&amp;", '&')];
    let mut out = String::with_capacity(text.len());
    let mut rest = text.trim();
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let (entity, character) = ENTITIES.iter().find(|(entity, _)| rest[at..].starts_with(entity))?;
        out.push(*character);
        rest = &rest[at + entity.len()..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_element() {
        let document = "<?xml version=\"1.0\"?><!-- <kind>no</kind> -->\n<notification a=\"1\"><x><kind>no</kind></x>\
                        <empty/><kind type=\"s\">a &amp; b</kind></notification>";
        let at = |path: &str| text_at(document, &path.parse().unwrap());
        assert_eq!(at("/notification/kind").as_deref(), Some("a & b"));
        assert_eq!(at("/notification/x/kind").as_deref(), Some("no"));
        for nothing in ["/kind", "/notification/none", "/notification/empty", "/x"] {
            assert_eq!(at(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn broken_documents_have_nothing() {
        let path = "/a/b".parse().unwrap();
        for document in [
            "",
            "<",
            "</a>",
            "<a",
            "<a><b>",
            "<a><!--",
            "<a></a></a>",
            "<a></a><a><b>x</b></a>",
            "< ><b>x</b>",
        ] {
            assert_eq!(text_at(document, &path), None, "{document}");
        }
    }
}
