//! What can be wrong with a description, a request or a signature to write. Each says which part,
//! and none says what was expected instead.

use super::json::JsonFault;
use super::source::Source;

/// Every fault of a description at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct SchemeError {
    pub faults: Vec<SchemeFault>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SchemeFault {
    /// Path inside the description, such as `signature.layout.kv_sep`.
    pub field: String,
    pub problem: String,
}

/// How a value that is there is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("longer than {max_bytes} bytes")]
    TooLong { max_bytes: usize },
    #[error("empty")]
    Empty,
    #[error("not plain text")]
    NotText,
    #[error("it was sent {times} times, and this scheme has one")]
    Repeated { times: usize },
    #[error("it does not start with `{prefix}`")]
    Prefix { prefix: String },
    #[error("more than {max} items")]
    TooManyItems { max: usize },
    #[error("more than {max} signatures")]
    TooManySignatures { max: usize },
    #[error("it holds no signature under `{key}`")]
    NoSignature { key: String },
    #[error("it holds no timestamp under `{key}`")]
    NoTimestamp { key: String },
    #[error("it leaves out `{name}`, which has to be signed")]
    LeftOut { name: String },
    #[error("the signature is not {encoding}")]
    Encoding { encoding: &'static str },
    #[error("the timestamp is not {form}")]
    Timestamp { form: &'static str },
    #[error("it is not of the form `{form}`")]
    Credentials { form: &'static str },
    #[error("the body is not the form it should be: {problem}")]
    Form { problem: &'static str },
    #[error("it is not one of the versions this scheme knows")]
    Choice,
    #[error(transparent)]
    Json(#[from] JsonFault),
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("{} is missing", Place(.at))]
    Missing { at: Source },
    #[error("{} is malformed: {fault}", Place(.at))]
    Malformed { at: Source, fault: Malformed },
    #[error("the header `{name}` does not have the value this source asks for")]
    UnexpectedHeader { name: String },
    #[error(
        "the timestamp is too old: {age_s} s, allowed are {window_s} s; check the sender's clock, or whether \
         the request was sent again without being signed anew"
    )]
    TimestampTooOld { age_s: i64, window_s: u32 },
    #[error(
        "the timestamp is in the future: {ahead_s} s ahead, allowed are {window_s} s; check the sender's clock"
    )]
    TimestampInFuture { ahead_s: i64, window_s: u32 },
    #[error(
        "no signature in {} matches ({signatures} given; active secrets tried: {secrets}): the secret is not \
         the one of this source, or the body or a signed header was changed on the way",
        Place(.at)
    )]
    SignatureMismatch { at: Source, signatures: usize, secrets: usize },
    #[error("the token in {} is not the one of this source", Place(.at))]
    WrongToken { at: Source },
    #[error("the user name or password in {} is not the one of this source", Place(.at))]
    WrongPassword { at: Source },
    #[error("the token in {} is refused: {fault}", Place(.at))]
    Token { at: Source, fault: TokenFault },
    #[error("{} is not what the rest of the request makes it", Place(.at))]
    NotEqual { at: Source },
    #[error("{} names a place that no key of this provider comes from", Place(.at))]
    KeyPlace { at: Source },
    #[error("the provider does not know what this request speaks of")]
    NotConfirmed,
    #[error("the provider's keys could not be fetched: {problem}")]
    KeysAway { problem: String },
    #[error("this source has no usable secret: set one, or rotate it")]
    NoUsableSecret,
}

/// What is wrong with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("it is no signed JSON Web Token")]
    Form,
    #[error("its algorithm is not one that this source allows")]
    Algorithm,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
    #[error("the claim `{claim}` is missing")]
    Missing { claim: String },
    #[error("the claim `{claim}` does not fit this request")]
    Wrong { claim: String },
}

/// Which kind of answer fits a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusHint {
    /// 400: something is missing or malformed.
    BadRequest,
    /// 401: signature, timestamp, token or password.
    Unauthorized,
    /// 503: the fault is in the source's configuration.
    Unavailable,
}

impl VerifyError {
    /// A stable name of the check that failed.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { at: Source::Header(_) } => "missing_header",
            Self::Missing { .. } => "missing_field",
            Self::Malformed { fault: Malformed::Json(_), .. } => "invalid_json",
            Self::Malformed { at: Source::Header(_), .. } => "malformed_header",
            Self::Malformed { .. } => "malformed_field",
            Self::UnexpectedHeader { .. } => "unexpected_header",
            Self::TimestampTooOld { .. } => "timestamp_too_old",
            Self::TimestampInFuture { .. } => "timestamp_in_future",
            Self::SignatureMismatch { .. } | Self::NotEqual { .. } => "signature_mismatch",
            Self::WrongToken { .. } => "wrong_token",
            Self::WrongPassword { .. } => "wrong_password",
            Self::Token { .. } => "invalid_token",
            Self::KeyPlace { .. } => "untrusted_key_place",
            Self::NotConfirmed => "not_confirmed",
            Self::KeysAway { .. } => "keys_unavailable",
            Self::NoUsableSecret => "no_usable_secret",
        }
    }

    pub fn status_hint(&self) -> StatusHint {
        match self {
            // RFC 9110: a request without credentials is asked for them.
            Self::Missing { at } if at.as_header() == Some(&http::header::AUTHORIZATION) => {
                StatusHint::Unauthorized
            }
            Self::Missing { .. } | Self::Malformed { .. } | Self::UnexpectedHeader { .. } => {
                StatusHint::BadRequest
            }
            Self::TimestampTooOld { .. }
            | Self::TimestampInFuture { .. }
            | Self::SignatureMismatch { .. }
            | Self::WrongToken { .. }
            | Self::WrongPassword { .. }
            | Self::Token { .. }
            | Self::NotEqual { .. }
            | Self::KeyPlace { .. }
            | Self::NotConfirmed => StatusHint::Unauthorized,
            Self::KeysAway { .. } | Self::NoUsableSecret => StatusHint::Unavailable,
        }
    }
}

/// Why a request could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("no secret that can sign: a public key verifies only")]
    NoSigningKey,
    #[error("this scheme cannot sign: it would have to write {0}, and only headers can be written")]
    NotAHeader(Source),
    #[error("what is signed needs {0}, which is not there")]
    Missing(Source),
    #[error("the value for the header `{0}` holds bytes that no header may hold")]
    HeaderValue(String),
    #[error("the body is not what the scheme reads from it: {0}")]
    Body(Malformed),
}

/// Names a place the way a person would.
struct Place<'a>(&'a Source);

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Source::Header(name) => write!(f, "the header `{}`", name.0),
            Source::Query(name) => write!(f, "the query parameter `{name}`"),
            Source::Json(pointer) => write!(f, "the field `{pointer}` of the body"),
            Source::Form(name) => write!(f, "the field `{name}` of the form"),
            Source::FormJson(name, pointer) | Source::FormXml(name, pointer) => {
                write!(f, "the value `{pointer}` in the field `{name}` of the form")
            }
        }
    }
}
