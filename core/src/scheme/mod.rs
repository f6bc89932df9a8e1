//! One declarative description of a signature, used both ways: the same [`Scheme`] verifies what
//! comes in and signs what goes out.
//!
//! 1. [`Scheme`] is the description, read from TOML or JSON; [`Scheme::compile`] checks it and
//!    names every fault at once.
//! 2. [`CompiledScheme::key`] reads a secret's text as the key material the scheme wants; callers
//!    keep the [`Key`]s and so decode a secret once.
//! 3. [`CompiledScheme::verify`] answers for an [`InboundRequest`]; [`CompiledScheme::sign`] writes
//!    the headers of an outbound one.
//!
//! What is fixed: the content is raw bytes, never decoded or written anew; the timestamp goes into
//! it exactly as received; encodings are strict; any valid secret may match any signature given;
//! a repeated header is joined with `, ` before it is parsed; every comparison of secrets and
//! signatures takes constant time. The order of checks is: required headers, signature present,
//! timestamp present and fresh, and only then the signature itself.

mod asymmetric;
mod canonical;
mod compile;
mod content;
mod der;
mod describe;
mod encoding;
mod error;
mod faults;
mod fill;
mod form;
mod generate;
mod json;
mod jwt;
mod key;
mod key_source;
mod layout;
mod mac;
mod readings;
mod request;
mod sent;
mod sign;
mod source;
mod timestamp;
mod verify;
mod xml;

#[cfg(test)]
mod tests;

pub use canonical::{JsonFieldsSpec, SignedHeadersSpec};
pub use compile::CompiledScheme;
pub use content::{Content, ContentError};
pub use describe::{
    Algorithm, AlgorithmBy, Derivation, Encoding, KeyEncoding, KeyIdSpec, KeyPart, KeyReading, Layout,
    Normalization, RequireEqual, Scheme, SignatureSpec, TimestampSpec, TimestampUnit, Tolerance, UrlVariant,
};
pub use error::{Malformed, SchemeError, SchemeFault, SignError, StatusHint, TokenFault, VerifyError};
pub use generate::{GeneratedSecret, base64url};
pub use json::JsonFault;
pub use jwt::{HashClaim, JwtAlgorithm, JwtSpec, UrlClaim, UrlForm};
pub use key::{Key, KeyError};
pub use key_source::{KeyFetch, KeySourceSpec};
pub use request::{Found, InboundRequest};
pub use sign::SignInput;
pub use source::{JsonPointer, Source, SourceError};
pub use verify::Verified;

/// Limits of what a description or a request may hold.
pub mod limits {
    /// A header value the engine reads, repeated ones joined.
    pub const HEADER_BYTES_MAX: usize = 16 * 1024;
    /// Items of one signature header, unknown ones included.
    pub const ITEMS_MAX: usize = 64;
    /// Signatures tried in one request.
    pub const SIGNATURES_MAX: usize = 16;
    /// Secrets tried in one request or signing side by side.
    pub const KEYS_MAX: usize = 16;
    /// Parts of a content template.
    pub const CONTENT_PARTS_MAX: usize = 32;
    pub const CONTENT_BYTES_MAX: usize = 1024;
    /// Fields of a form.
    pub const FORM_FIELDS_MAX: usize = 1024;
    /// Keys of one set that was fetched.
    pub const FETCHED_KEYS_MAX: usize = 64;
    /// A URL that a request names.
    pub const URL_BYTES_MAX: usize = 2048;
    /// Entries of any list of a description.
    pub const LIST_MAX: usize = 16;
    /// Any text of a description apart from the content template.
    pub const TEXT_BYTES_MAX: usize = 256;
    /// Windows longer than a week are no protection against replay.
    pub const TOLERANCE_MAX_S: u32 = 7 * 24 * 3600;
}
