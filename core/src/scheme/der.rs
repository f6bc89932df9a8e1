//! The little of DER and PEM that it takes to find a public key: `SubjectPublicKeyInfo`, alone or in
//! a certificate. What the key is good for is checked by whoever verifies with it.

use base64::Engine;
use chrono::{DateTime, NaiveDateTime, Utc};
use zeroize::Zeroizing;

use super::key::BASE64;

/// Longer keys and certificates are refused.
const PEM_BYTES_MAX: usize = 16 * 1024;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version of a certificate, explicitly tagged.
const CONTEXT_0: u8 = 0xa0;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A public key as it is written, by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spki<'a> {
    /// Modulus and exponent, without leading zeros.
    Rsa {
        n: &'a [u8],
        e: &'a [u8],
    },
    /// The uncompressed point.
    P256(&'a [u8]),
    Ed25519(&'a [u8]),
}

/// The first block of a PEM text: its label and what it holds.
pub(super) fn pem(text: &[u8]) -> Option<(&str, Zeroizing<Vec<u8>>)> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= PEM_BYTES_MAX)?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    // Keys pasted from a JSON string bring their line ends along as `\n`.
    let unbroken: Zeroizing<String> =
        Zeroizing::new(body.replace("\\n", "").chars().filter(|c| !c.is_ascii_whitespace()).collect());
    Some((label, Zeroizing::new(BASE64.decode(unbroken.as_bytes()).ok()?)))
}

/// Reads a `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7) that is all there is.
pub(super) fn spki(der: &[u8]) -> Option<Spki<'_>> {
    let mut outer = Reader(der);
    let key = spki_in(&mut outer)?;
    outer.0.is_empty().then_some(key)
}

/// Modulus and exponent (RFC 8017, A.1.1).
pub(super) fn rsa_public_key(der: &[u8]) -> Option<Spki<'_>> {
    let mut key = Reader(Reader(der).take(SEQUENCE)?);
    let (n, e) = (unsigned(key.take(INTEGER)?)?, unsigned(key.take(INTEGER)?)?);
    Some(Spki::Rsa { n, e })
}

fn spki_in<'a>(reader: &mut Reader<'a>) -> Option<Spki<'a>> {
    let mut info = Reader(reader.take(SEQUENCE)?);
    let mut algorithm = Reader(info.take(SEQUENCE)?);
    let kind = algorithm.take(OBJECT_ID)?;
    // No bits are left over in a key of whole bytes.
    let key = info.take(BIT_STRING)?.strip_prefix(&[0])?;
    if kind == RSA {
        return rsa_public_key(key);
    }
    if kind == EC {
        return (algorithm.take(OBJECT_ID)? == P256 && key.len() == 65).then_some(Spki::P256(key));
    }
    (kind == ED25519 && key.len() == 32).then_some(Spki::Ed25519(key))
}

/// The key of a certificate, and from when until when it is valid.
pub(super) struct Certificate<'a> {
    pub(super) key: Spki<'a>,
    pub(super) not_before: DateTime<Utc>,
    pub(super) not_after: DateTime<Utc>,
}

/// Reads a certificate (RFC 5280, 4.1). Its signature is not looked at: whoever gives it is trusted.
pub(super) fn certificate(der: &[u8]) -> Option<Certificate<'_>> {
    let mut certificate = Reader(Reader(der).take(SEQUENCE)?);
    let mut fields = Reader(certificate.take(SEQUENCE)?);
    if fields.0.first() == Some(&CONTEXT_0) {
        fields.take(CONTEXT_0)?;
    }
    fields.take(INTEGER)?; // serial number
    fields.take(SEQUENCE)?; // signature algorithm
    fields.take(SEQUENCE)?; // issuer
    let mut validity = Reader(fields.take(SEQUENCE)?);
    let (not_before, not_after) = (validity.time()?, validity.time()?);
    fields.take(SEQUENCE)?; // subject
    Some(Certificate { key: spki_in(&mut fields)?, not_before, not_after })
}

fn unsigned(integer: &[u8]) -> Option<&[u8]> {
    let significant = integer.iter().position(|byte| *byte != 0)?;
    Some(&integer[significant..])
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next value, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let rest = self.0.strip_prefix(&[tag])?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if bytes.is_empty() || bytes.len() > 3 {
                return None;
            }
            (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(content)
    }

    fn time(&mut self) -> Option<DateTime<Utc>> {
        let parse = |text: &[u8], century: &str| {
            let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
            Some(NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?.and_utc())
        };
        match self.0.first()? {
            &UTC_TIME => {
                let text = self.take(UTC_TIME)?;
                // RFC 5280: two digits from 50 on are of the last century.
                parse(text, if text.first()? >= &b'5' { "19" } else { "20" })
            }
            _ => parse(self.take(GENERALIZED_TIME)?, ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("testdata/rsa-certificate.pem");

    #[test]
    fn the_key_of_a_certificate() {
        let (label, der) = pem(CERTIFICATE).unwrap();
        assert_eq!(label, "CERTIFICATE");
        let certificate = certificate(&der).unwrap();
        let Spki::Rsa { n, e } = certificate.key else { panic!("an RSA key") };
        assert_eq!((n.len(), e), (256, &[1, 0, 1][..]));
        assert!(certificate.not_before < certificate.not_after);
    }

    #[test]
    fn a_cut_or_changed_certificate_is_none_or_another_and_never_a_panic() {
        let (_, der) = pem(CERTIFICATE).unwrap();
        for at in 0..der.len() {
            let _ = certificate(&der[..at]);
            let mut changed = der.to_vec();
            changed[at] ^= 0xff;
            let _ = (certificate(&changed), spki(&changed));
        }
        assert!(certificate(&der[..der.len() / 4]).is_none());
        assert!(pem(b"-----BEGIN X-----\n!!\n-----END X-----").is_none());
        assert!(pem(b"no pem").is_none());
    }
}
