//! What is no HTTP, too large, too slow, or two requests in one.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::Target;
use super::signatures::{body, forge, signed};

/// Bytes for a connection of their own.
#[derive(Debug)]
pub struct Attack {
    pub kind: &'static str,
    pub bytes: Vec<u8>,
}

impl Attack {
    fn new(kind: &'static str, bytes: Vec<u8>) -> Self {
        Self { kind, bytes }
    }
}

/// The next one.
pub fn attack(targets: &[Target], number: u64, random: &mut StdRng) -> Attack {
    let Some(target) = targets.choose(random) else { return Attack::new("none", Vec::new()) };
    match random.random_range(0..1000_u32) {
        0..8 => slow(target, number, random),
        8..100 => oversized(target, random),
        100..250 => smuggled(target, number, random),
        250..450 => malformed(target, random),
        _ => {
            let forged = forge(target, number, random);
            Attack::new(forged.kind, request(&target.path, &forged.headers, &forged.body))
        }
    }
}

fn request(path: &str, headers: &[(String, Vec<u8>)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: ingest.test\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    )
    .into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn noise(random: &mut StdRng, most: usize) -> Vec<u8> {
    (0..random.random_range(1..most)).map(|_| random.random::<u8>()).collect()
}

fn malformed(target: &Target, random: &mut StdRng) -> Attack {
    let path = &target.path;
    let head =
        |line: &str, more: &str| format!("{line}\r\nhost: h\r\nconnection: close\r\n{more}\r\n").into_bytes();
    let post = format!("POST {path} HTTP/1.1");
    let bytes = match random.random_range(0..22_u32) {
        0 => [noise(random, 2_000), b"\r\n\r\n".to_vec()].concat(),
        1 => head(&format!("P\u{f6}ST {path} HTTP/1.1"), ""),
        2 => head(&format!("POST {path} HTTP/3.7"), ""),
        3 => head(&format!("POST  {path}  HTTP/1.1"), ""),
        4 => head(&post, "na me: x\r\n"),
        5 => head(&post, "a: b\0c\r\n"),
        6 => format!("{post}\r\nconnection: close\r\n\r\n").into_bytes(),
        7 => format!("{post}\nhost: h\nconnection: close\n\n").into_bytes(),
        8 => head(&post, "a: b\r\n folded\r\n"),
        9 => head(&post, &"x: y\r\n".repeat(500)),
        10 => head(&post, &format!("x: {}\r\n", "y".repeat(200_000))),
        11 => head(&format!("POST /{} HTTP/1.1", "a".repeat(100_000)), ""),
        12 => head("POST http://elsewhere.test:99/in/x HTTP/1.1", ""),
        13 => head("CONNECT elsewhere.test:443 HTTP/1.1", ""),
        14 => head(&format!("POST {path}/../../admin HTTP/1.1"), ""),
        15 => head(&format!("POST {path}%00%ff%2e%2e HTTP/1.1"), ""),
        16 => head(&format!("BREW {path} HTTP/1.1"), ""),
        17 => b"GET /\r\n\r\n".to_vec(),
        18 => [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), noise(random, 500)].concat(),
        // A TLS hello to a port that speaks none.
        19 => [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), noise(random, 500)].concat(),
        20 => head(&post, "transfer-encoding: gzip\r\n"),
        _ => head(&post, ":authority: x\r\n"),
    };
    Attack::new("malformed", bytes)
}

fn oversized(target: &Target, random: &mut StdRng) -> Attack {
    let head = |header: &str| {
        format!("POST {} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{header}\r\n\r\n", target.path)
            .into_bytes()
    };
    let bytes = match random.random_range(0..9_u32) {
        0 => head("content-length: 99999999999999999999999"),
        1 => head("content-length: 18446744073709551615"),
        2 => head("content-length: 3000000000"),
        3 => head("content-length: -1"),
        4 => [head("transfer-encoding: chunked"), b"ffffffffffffffff\r\n".to_vec()].concat(),
        5 => [head("transfer-encoding: chunked"), b"fffffffffffffffff1\r\nx".to_vec()].concat(),
        6 => [head("transfer-encoding: chunked"), format!("1;{}\r\nx\r\n", "e".repeat(100_000)).into_bytes()]
            .concat(),
        7 => {
            // Most sources take 1 MiB; GitHub's takes more, and finds no signature.
            let body = vec![b'x'; 1_200_000];
            [head(&format!("content-length: {}", body.len())), body].concat()
        }
        _ => head("expect: 100-continue\r\ncontent-length: 300000000"),
    };
    Attack::new("oversized", bytes)
}

/// Two requests in one, the hidden one rightly signed: whoever believes the wrong length accepts it.
fn smuggled(target: &Target, number: u64, random: &mut StdRng) -> Attack {
    let hidden_body = body(number, random);
    let hidden: Vec<(String, Vec<u8>)> = signed(target, &target.secret, 0, number, &hidden_body)
        .into_iter()
        .map(|(name, value)| (name, value.into_bytes()))
        .collect();
    let hidden = request(&target.path, &hidden, &hidden_body);
    let head = |headers: &str| format!("POST {} HTTP/1.1\r\nhost: h\r\n{headers}\r\n\r\n", target.path);
    let length = hidden.len();
    let (head, body) = match random.random_range(0..10_u32) {
        // Believing the chunks ends the first request where the second begins.
        0 => (head(&format!("content-length: {}\r\ntransfer-encoding: chunked", length + 5)), "0\r\n\r\n"),
        1 => (head(&format!("transfer-encoding: chunked\r\ncontent-length: {}", length + 5)), "0\r\n\r\n"),
        2 => (head(&format!("content-length: 0\r\ncontent-length: {length}")), ""),
        3 => (head(&format!("content-length: {length}\r\ncontent-length: 0")), ""),
        4 => (head(&format!("content-length: 0, {length}")), ""),
        5 => (head(&format!("content-length: +{length}")), ""),
        6 => (head(&format!("content-length: {length}\r\ntransfer-encoding: xchunked")), "0\r\n\r\n"),
        7 => (head("transfer-encoding: chunked, identity"), "0\r\n\r\n"),
        8 => (head(&format!("content-length : 0\r\nx: {length}")), ""),
        _ => (head(&format!("content-length: 0x0\r\nx: {length}")), ""),
    };
    Attack::new("smuggled", [head.as_bytes(), body.as_bytes(), &hidden].concat())
}

/// Part of a request and then nothing more: the server has to end it.
fn slow(target: &Target, number: u64, random: &mut StdRng) -> Attack {
    let forged = forge(target, number, random);
    let whole = request(&target.path, &forged.headers, &forged.body);
    let head_end = whole.windows(4).position(|window| window == b"\r\n\r\n").map_or(whole.len(), |at| at + 4);
    let cut = if random.random() {
        random.random_range(0..head_end)
    } else {
        random.random_range(head_end..=head_end + forged.body.len().saturating_sub(1))
    };
    Attack::new("slow", whole[..cut].to_vec())
}
