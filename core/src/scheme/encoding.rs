//! Signatures as text: strict on the way in, canonical on the way out.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};

use super::describe::Encoding;

/// As long as the longest signature of the algorithms built: RSA with 4096 bits.
pub(super) const SIGNATURE_BYTES_MAX: usize = 512;

/// A decoded signature; longer ones are kept as "too long to match".
#[derive(Clone, Copy)]
pub(super) struct Decoded {
    bytes: [u8; SIGNATURE_BYTES_MAX],
    len: usize,
}

impl Decoded {
    /// Empty when the text was longer than any signature: it then matches nothing.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Encoding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hex => "hex of the case this scheme uses",
            Self::Base64 => "canonical base64",
            Self::Base64url => "canonical base64url with padding",
            Self::Base64urlNopad => "canonical base64url without padding",
        }
    }

    pub(super) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => hex::encode(bytes),
            Self::Base64 => STANDARD.encode(bytes),
            Self::Base64url => URL_SAFE.encode(bytes),
            Self::Base64urlNopad => URL_SAFE_NO_PAD.encode(bytes),
        }
    }

    /// `None` when the text is not of this encoding. An empty text is no signature.
    pub(super) fn decode(self, text: &str, any_case: bool) -> Option<Decoded> {
        // Room for text that decodes to more than any signature has, so that it is told apart
        // from text that does not decode at all.
        let mut buffer = [0u8; 1024];
        let len = match self {
            Self::Hex => decode_hex(text, any_case, &mut buffer)?,
            // These engines refuse missing or surplus padding and stray bits at the end.
            Self::Base64 => STANDARD.decode_slice(text, &mut buffer).ok()?,
            Self::Base64url => URL_SAFE.decode_slice(text, &mut buffer).ok()?,
            Self::Base64urlNopad => URL_SAFE_NO_PAD.decode_slice(text, &mut buffer).ok()?,
        };
        if len == 0 {
            return None;
        }
        let mut decoded = Decoded { bytes: [0; SIGNATURE_BYTES_MAX], len: 0 };
        if len <= SIGNATURE_BYTES_MAX {
            decoded.bytes[..len].copy_from_slice(&buffer[..len]);
            decoded.len = len;
        }
        Some(decoded)
    }
}

fn decode_hex(text: &str, any_case: bool, buffer: &mut [u8]) -> Option<usize> {
    let allowed =
        |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f') || (any_case && byte.is_ascii_hexdigit());
    let len = text.len() / 2;
    if !text.bytes().all(allowed) {
        return None;
    }
    hex::decode_to_slice(text, buffer.get_mut(..len)?).ok()?;
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_text_decodes() {
        for (encoding, text, any_case, decodes) in [
            (Encoding::Hex, "00ff", false, true),
            (Encoding::Hex, "00FF", false, false),
            (Encoding::Hex, "00Ff", true, true),
            (Encoding::Hex, "00f", false, false),
            (Encoding::Hex, "0x00", false, false),
            (Encoding::Hex, " 00", false, false),
            (Encoding::Hex, "", false, false),
            (Encoding::Base64, "+/8=", false, true),
            (Encoding::Base64, "+/8", false, false),
            (Encoding::Base64, "+/9=", false, false),
            (Encoding::Base64, "-_8=", false, false),
            (Encoding::Base64, "+/8=\n", false, false),
            (Encoding::Base64, "", false, false),
            (Encoding::Base64url, "-_8=", false, true),
            (Encoding::Base64url, "-_8", false, false),
            (Encoding::Base64urlNopad, "-_8", false, true),
            (Encoding::Base64urlNopad, "-_8=", false, false),
        ] {
            assert_eq!(encoding.decode(text, any_case).is_some(), decodes, "{encoding:?} {text:?}");
        }
    }

    #[test]
    fn too_long_is_told_apart_from_malformed() {
        let long = "00".repeat(513);
        assert!(Encoding::Hex.decode(&long, false).unwrap().bytes().is_empty());
        assert!(Encoding::Hex.decode(&"00".repeat(5000), false).is_none());
    }
}
