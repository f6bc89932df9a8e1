//! What is no request at all: the HTTP library refuses it by itself, with a bare status. On its way out
//! its refusal gets the body that every refusal has.

use crate::answer::error_document;

/// By status: the code, and what is said.
const WORDS: [(&str, &str, &str); 3] = [
    (
        "400",
        "malformed_request",
        "this is no request of HTTP/1.1: its request line, one of its headers or its length is malformed",
    ),
    ("414", "target_too_long", "the request line is longer than is taken here"),
    ("431", "headers_too_large", "the request line and the headers are more, or larger, than is taken here"),
];

/// The same refusal with a body, and its code; `None`: this is no bare refusal, which is a head and
/// nothing else.
pub(crate) fn worded(written: &[u8]) -> Option<(Vec<u8>, &'static str)> {
    let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?;
    let (_, code, message) = WORDS.iter().find(|(known, ..)| *known == status)?;
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    let length = lines.iter().position(|line| *line == "content-length: 0")?;
    let body = error_document(code, message);
    let length_line = format!("content-length: {}", body.len());
    lines[length] = &length_line;
    lines.push("content-type: application/json");
    let mut bytes = lines.join("\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(&body);
    Some((bytes, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(written: &str) -> Option<String> {
        worded(written.as_bytes()).map(|(bytes, _)| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_bare_refusal_gets_its_body_and_length() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        let whole = of(bare).unwrap();
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        let length = format!("content-length: {}", body.len());
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert_eq!(
            lines,
            [
                "HTTP/1.1 431 Request Header Fields Too Large",
                "connection: close",
                length.as_str(),
                "date: now",
                "content-type: application/json"
            ]
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], "headers_too_large");
    }

    #[test]
    fn nothing_else_is_touched() {
        for other in [
            "",
            "HTTP/1.1",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
        ] {
            assert_eq!(of(other), None, "{other:?}");
        }
    }
}
