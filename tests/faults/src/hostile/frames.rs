//! What is no gRPC, and mostly no HTTP/2.

use bytes::BufMut;
use rand::RngExt;
use rand::rngs::StdRng;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// For a connection of its own.
pub fn frames(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    let mut noise = vec![0; random.random_range(1..400)];
    random.fill(&mut noise[..]);
    if random.random_range(0..20_u32) == 0 {
        return noise;
    }
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    match random.random_range(0..12_u32) {
        0 => bytes.extend_from_slice(&noise),
        1 => frame(&mut bytes, HEADERS, END_HEADERS, 1, &noise),
        2 => frame(&mut bytes, DATA, 0, 0, &noise),
        3 => frame(&mut bytes, SETTINGS, 0, 0, &noise[..noise.len().min(5)]),
        4 => frame(&mut bytes, PING, 0, 0, b"short"),
        5 => frame(&mut bytes, WINDOW_UPDATE, 0, 0, &0_u32.to_be_bytes()),
        6 => {
            frame(&mut bytes, WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
            frame(&mut bytes, WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
        }
        7 => {
            // Headers without an end.
            frame(&mut bytes, HEADERS, 0, 1, &[]);
            for _ in 0..500 {
                frame(&mut bytes, CONTINUATION, 0, 1, &[0x40, 1, b'a', 1, b'b']);
            }
        }
        8 => {
            // Opened and reset at once, over and over.
            for stream in 0..300 {
                frame(&mut bytes, HEADERS, END_HEADERS, 1 + 2 * stream, &[0x83, 0x86, 0x84]);
                frame(&mut bytes, RST_STREAM, 0, 1 + 2 * stream, &8_u32.to_be_bytes());
            }
        }
        9 => frame(&mut bytes, PRIORITY, 0, 1, &[0, 0, 0, 1, 0]),
        10 => {
            // A frame that says it is longer than any may be.
            bytes.extend_from_slice(&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]);
            bytes.extend_from_slice(&noise);
        }
        _ => {
            for _ in 0..1_000 {
                frame(&mut bytes, PING, 0, 0, &[0; 8]);
            }
        }
    }
    bytes
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.put_u8(kind);
    bytes.put_u8(flags);
    bytes.put_u32(stream);
    bytes.extend_from_slice(payload);
}
