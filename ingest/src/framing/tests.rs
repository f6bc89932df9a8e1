//! Where requests end, and where that is in doubt.

use super::*;

/// The number of the heads, and the first doubt; the same however it is cut.
fn watch(text: &str) -> (u64, Option<(u64, Doubt)>) {
    let mut whole = Scanner::default();
    let mut bytes = text.as_bytes().to_vec();
    whole.feed(&mut bytes);
    let mut cut = Scanner::default();
    for byte in text.as_bytes() {
        cut.feed(&mut [*byte]);
    }
    assert_eq!((whole.doubt, whole.heads), (cut.doubt, cut.heads), "{text}");
    assert_eq!(whole.is_broken, cut.is_broken, "{text}");
    (whole.heads, whole.doubt)
}

const PLAIN: &str = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
const CHUNKED: &str = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n\r\n\r\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n";

#[test]
fn a_request_with_two_lengths_is_found_wherever_it_stands() {
    for twice in [
        "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH:4\r\n\r\n",
        "POST / HTTP/1.1\nTransfer-Encoding: gzip, chunked\nContent-Length: 4\n\n",
    ] {
        assert_eq!(watch(twice), (1, Some((0, Doubt::TwoLengths))));
        let behind = watch(&format!("{PLAIN}{CHUNKED}\r\n{twice}{PLAIN}"));
        assert_eq!(behind, (3, Some((2, Doubt::TwoLengths))));
    }
}

#[test]
fn a_line_that_ends_in_a_line_feed_alone_is_found_wherever_it_stands() {
    for bare in [
        "POST / HTTP/1.1\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nX-A: b\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\n\n",
    ] {
        assert_eq!(watch(bare), (1, Some((0, Doubt::LineFeed))), "{bare:?}");
        assert_eq!(watch(&format!("{PLAIN}{bare}{PLAIN}")), (2, Some((1, Doubt::LineFeed))), "{bare:?}");
    }
    assert_eq!(watch(&format!("\r\n\n{PLAIN}")), (1, None), "before a request it is nothing");
}

#[test]
fn what_it_cannot_follow_it_does_not_guess() {
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let zeros = "0".repeat(70);
    for body in [
        // The library would read the first as a chunk of five, and the second as a trailer that goes on.
        format!("{zeros}5\r\nhello\r\n0\r\n\r\n"),
        "0\r\nx: y\n\r\nz: POST\r\n\r\n".to_owned(),
        "5\nhello\r\n0\r\n\r\n".to_owned(),
        "5\r\nhello\n0\r\n\r\n".to_owned(),
        "x\r\n".to_owned(),
        "5\r\nhelloo\r\n".to_owned(),
    ] {
        let text = format!("{PLAIN}{chunked}{body}{PLAIN}");
        assert_eq!(watch(&text), (2, Some((2, Doubt::Beginning))), "{body:?}");
        let mut scanner = Scanner::default();
        let fine = scanner.feed(&mut text.clone().into_bytes());
        assert!(scanner.is_broken(), "{body:?}");
        // Up to the line that is none.
        let good = PLAIN.len() + chunked.len();
        assert!((good..good + body.len()).contains(&fine), "{body:?}: {fine}");
    }
    assert_eq!(watch(&format!("{PLAIN}PRI * HTTP/2.0\r\n\r\n")), (1, Some((1, Doubt::Beginning))));
    assert_eq!(watch(&format!("{chunked}5;{zeros}{zeros}\r\nhello\r\n0\r\n\r\n{PLAIN}")), (2, None));
}

#[test]
fn all_behind_a_doubt_is_refused() {
    let framing = Framing::default();
    let mut text = format!("{PLAIN}GET / HTTP/1.1\n\n{PLAIN}").into_bytes();
    framing.scan(&mut Scanner::default(), &mut text);
    let verdicts = [framing.next_request(), framing.next_request(), framing.next_request()];
    assert_eq!(verdicts, [None, Some(Doubt::LineFeed), Some(Doubt::Beginning)]);
}

#[test]
fn bodies_are_never_read_as_heads() {
    let hidden = "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
    let within = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len());
    assert_eq!(watch(&format!("{within}{PLAIN}")), (2, None));
    let in_a_chunk = format!(
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n{PLAIN}",
        hidden.len()
    );
    assert_eq!(watch(&in_a_chunk), (2, None));
    assert_eq!(watch(&format!("{PLAIN}GET / HTTP/1.1\r\n\r\n{CHUNKED}{PLAIN}")), (4, None));
    assert_eq!(watch("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nContent-Length: 1\r\n\r\n"), (0, None));
}

#[test]
fn a_length_beyond_all_use_becomes_malformed_and_nothing_else_is_touched() {
    let fed = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        Scanner::default().feed(&mut bytes);
        String::from_utf8(bytes).unwrap()
    };
    for fine in [PLAIN, CHUNKED, "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"] {
        assert_eq!(fed(fine), fine);
    }
    let text = |length: &str| format!("POST / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{{}}");
    for length in ["18446744073709551615", "9223372036854775808", "99999999999999999999999"] {
        let malformed = text(length).replacen(&format!("{length}\r"), &format!("{length}x"), 1);
        assert_eq!(fed(&text(length)), malformed);
    }
    assert_eq!(fed(&text("9223372036854775807")), text("9223372036854775807"));
    let padded = text(&format!("{}2", " ".repeat(100)));
    assert_eq!(fed(&padded), padded.replacen("2\r\n\r", "2x\n\r", 1));
}
