//! HMACs and plain hashes over content that comes in pieces, with a key's part of the work done once.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::describe::Algorithm;
use super::encoding::Decoded;
use crate::secrets::is_same;

/// As long as the longest result: SHA-512.
const TAG_BYTES_MAX: usize = 64;

/// An HMAC that has taken in its key and nothing else; cloned for every use.
#[derive(Clone)]
pub(super) enum HmacState {
    Md5(Hmac<Md5>),
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

/// The result, as long as the algorithm makes it. There is no `PartialEq`, on purpose: what a sender gave
/// is compared with [`Tag::is`].
pub(super) struct Tag {
    bytes: [u8; TAG_BYTES_MAX],
    len: usize,
}

impl Tag {
    fn new(from: &[u8]) -> Self {
        let mut bytes = [0; TAG_BYTES_MAX];
        bytes[..from.len()].copy_from_slice(from);
        Self { bytes, len: from.len() }
    }

    /// Whether a signature is this one; a longer or shorter one is not.
    pub(super) fn is(&self, signature: &Decoded) -> bool {
        self.is_bytes(signature.bytes())
    }

    pub(super) fn is_bytes(&self, signature: &[u8]) -> bool {
        is_same(self.to_write(), signature)
    }

    /// For a signature of our own.
    pub(super) fn to_write(&self) -> &[u8] {
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
            Algorithm::HmacMd5 => Self::Md5(keyed(key)),
            Algorithm::HmacSha1 => Self::Sha1(keyed(key)),
            Algorithm::HmacSha256 => Self::Sha256(keyed(key)),
            Algorithm::HmacSha384 => Self::Sha384(keyed(key)),
            Algorithm::HmacSha512 => Self::Sha512(keyed(key)),
            _ => return None,
        })
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Md5(mac) => mac.update(piece),
            Self::Sha1(mac) => mac.update(piece),
            Self::Sha256(mac) => mac.update(piece),
            Self::Sha384(mac) => mac.update(piece),
            Self::Sha512(mac) => mac.update(piece),
        }
    }

    pub(super) fn finish(self) -> Tag {
        match self {
            Self::Md5(mac) => Tag::new(&mac.finalize().into_bytes()),
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

/// A plain hash on its way.
pub(super) enum HashState {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl HashState {
    /// `None` for an algorithm that is no plain hash.
    pub(super) fn new(algorithm: Algorithm) -> Option<Self> {
        Some(match algorithm {
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
            _ => return None,
        })
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Md5(hash) => hash.update(piece),
            Self::Sha1(hash) => hash.update(piece),
            Self::Sha256(hash) => hash.update(piece),
            Self::Sha512(hash) => hash.update(piece),
        }
    }

    pub(super) fn finish(self) -> Tag {
        match self {
            Self::Md5(hash) => Tag::new(&hash.finalize()),
            Self::Sha1(hash) => Tag::new(&hash.finalize()),
            Self::Sha256(hash) => Tag::new(&hash.finalize()),
            Self::Sha512(hash) => Tag::new(&hash.finalize()),
        }
    }
}
