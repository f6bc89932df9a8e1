//! Typed ids: a UUIDv7 inside, a TypeID (`evt_01k…`) outside, one type a noun.
//!
//! The text form follows the TypeID specification 0.3: prefix, underscore, 26 characters of
//! Crockford's base32 in lower case.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX_LEN: usize = 26;

/// Why a text is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("expected an id that starts with `{expected}_`")]
    Prefix { expected: &'static str },
    #[error("expected 26 characters of Crockford base32 after `{expected}_`")]
    Suffix { expected: &'static str },
}

fn encode(uuid: Uuid) -> [u8; SUFFIX_LEN] {
    let mut bits = uuid.as_u128();
    let mut out = [0u8; SUFFIX_LEN];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(bits & 31) as usize];
        bits >>= 5;
    }
    out
}

fn decode(text: &str) -> Option<Uuid> {
    let bytes = text.as_bytes();
    // 26 characters carry 130 bits: the first may not exceed 7.
    if bytes.len() != SUFFIX_LEN || bytes[0] > b'7' {
        return None;
    }
    let mut bits: u128 = 0;
    for byte in bytes {
        let value = ALPHABET.iter().position(|c| c == byte)?;
        bits = (bits << 5) | value as u128;
    }
    Some(Uuid::from_u128(bits))
}

macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            /// A new id, ordered by time.
            #[allow(clippy::new_without_default, reason = "an id is minted, not a default value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let suffix = encode(self.0);
                f.write_str($prefix)?;
                f.write_str("_")?;
                f.write_str(std::str::from_utf8(&suffix).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let suffix = text
                    .strip_prefix($prefix)
                    .and_then(|rest| rest.strip_prefix('_'))
                    .ok_or(IdError::Prefix { expected: $prefix })?;
                decode(suffix).map(Self).ok_or(IdError::Suffix { expected: $prefix })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

typed_ids! {
    /// Whose data it is.
    TenantId = "ten";
    /// Where inbound webhooks come in.
    SourceId = "src";
    /// Where outbound webhooks go.
    EndpointId = "ep";
    /// One verified payload.
    EventId = "evt";
    /// One version of a sealed secret.
    SecretId = "sec";
    /// An API key.
    ApiKeyId = "key";
    /// One HTTP request of a delivery, or a decision taken without one.
    AttemptId = "att";
    /// Up to 64 events of one commit: the outbox row and the stream entry share it.
    ChunkId = "chk";
    /// One life of one process.
    ReplicaId = "rep";
    /// A query whose answer is kept fresh.
    BindingId = "bnd";
    /// An inbound request that was refused and kept.
    RejectionId = "rej";
    /// A name in the catalog of a tenant.
    EventTypeId = "typ";
    /// Bulk work that goes on after its call.
    OperationId = "op";
}

/// The one tenant that exists from the start, meant whenever a caller names none.
pub const DEFAULT_TENANT: TenantId = TenantId(Uuid::from_u128(1));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_follows_the_typeid_specification() {
        let id = EventId(Uuid::parse_str("0188bac7-4afa-78aa-bc3b-bd1eef28d881").unwrap());
        assert_eq!(id.to_string(), "evt_01h2xcejqtf2nbrexx3vqjhp41");
        assert_eq!("evt_01h2xcejqtf2nbrexx3vqjhp41".parse::<EventId>().unwrap(), id);
    }

    #[test]
    fn every_fault_is_named() {
        assert_eq!(
            "src_01h2xcejqtf2nbrexx3vqjhp41".parse::<EventId>(),
            Err(IdError::Prefix { expected: "evt" })
        );
        for bad in [
            "evt_",
            "evt_81h2xcejqtf2nbrexx3vqjhp41",
            "evt_01h2xcejqtf2nbrexx3vqjhp4u",
            "evt_01H2XCEJQTF2NBREXX3VQJHP41",
        ] {
            assert_eq!(bad.parse::<EventId>(), Err(IdError::Suffix { expected: "evt" }), "{bad}");
        }
    }
}
