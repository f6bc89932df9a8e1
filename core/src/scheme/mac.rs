//! HMAC over content that comes in pieces, with the key's part of the work done once.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::describe::Algorithm;
use super::encoding::SIGNATURE_BYTES_MAX;

/// An HMAC that has taken in its key and nothing else; cloned for every use.
#[derive(Clone)]
pub(super) enum HmacState {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

/// The result, as long as the algorithm makes it.
pub(super) struct Tag {
    bytes: [u8; SIGNATURE_BYTES_MAX],
    len: usize,
}

impl Tag {
    fn new(from: &[u8]) -> Self {
        let mut bytes = [0; SIGNATURE_BYTES_MAX];
        bytes[..from.len()].copy_from_slice(from);
        Self { bytes, len: from.len() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn keyed<M: KeyInit>(key: &[u8]) -> M {
    // HMAC takes keys of every length: longer ones are hashed first (RFC 2104).
    M::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

impl HmacState {
    /// `None` for an algorithm that is no HMAC.
    pub(super) fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        Some(match algorithm {
            Algorithm::HmacSha1 => Self::Sha1(keyed(key)),
            Algorithm::HmacSha256 => Self::Sha256(keyed(key)),
            Algorithm::HmacSha384 => Self::Sha384(keyed(key)),
            Algorithm::HmacSha512 => Self::Sha512(keyed(key)),
            Algorithm::Ed25519 | Algorithm::Token | Algorithm::Basic => return None,
        })
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Sha1(mac) => mac.update(piece),
            Self::Sha256(mac) => mac.update(piece),
            Self::Sha384(mac) => mac.update(piece),
            Self::Sha512(mac) => mac.update(piece),
        }
    }

    pub(super) fn finish(self) -> Tag {
        match self {
            Self::Sha1(mac) => Tag::new(&mac.finalize().into_bytes()),
            Self::Sha256(mac) => Tag::new(&mac.finalize().into_bytes()),
            Self::Sha384(mac) => Tag::new(&mac.finalize().into_bytes()),
            Self::Sha512(mac) => Tag::new(&mac.finalize().into_bytes()),
        }
    }
}

impl fmt::Debug for HmacState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacState(redacted)")
    }
}
