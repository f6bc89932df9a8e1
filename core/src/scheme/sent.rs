//! Secrets that travel with the request: tokens and passwords.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::compile::CompiledScheme;
use super::describe::Algorithm;
use super::error::{Malformed, VerifyError};
use super::key::{Key, Material};
use super::source::Source;
use super::verify::Verified;
use crate::secrets::is_same;

impl CompiledScheme {
    pub(super) fn verify_sent(
        &self,
        values: &[(&Source, Cow<'_, str>)],
        keys: &[Key],
    ) -> Result<Verified, VerifyError> {
        let (at, value) = &values[0];
        let given = self
            .read_credentials(value)
            .map_err(|fault| VerifyError::Malformed { at: (*at).clone(), fault })?;
        let hash = Sha256::digest(&given);
        // Every key is compared, so that time does not tell which one came close.
        let mut fit = None;
        for (key_index, key) in keys.iter().enumerate() {
            for form in &key.forms {
                if let Material::Sent { hash: own, .. } = &form.material
                    && is_same(own.as_slice(), &hash)
                {
                    fit = fit.or(Some(key_index));
                }
            }
        }
        match (fit, self.algorithm) {
            (Some(key_index), _) => Ok(Verified { key_index, timestamp: None }),
            (None, Algorithm::Basic) => Err(VerifyError::WrongPassword { at: (*at).clone() }),
            (None, _) => Err(VerifyError::WrongToken { at: (*at).clone() }),
        }
    }

    fn read_credentials<'v>(&self, value: &'v str) -> Result<Cow<'v, [u8]>, Malformed> {
        if self.algorithm == Algorithm::Basic {
            let form = Malformed::Credentials { form: "Basic base64(user:password)" };
            let Some(encoded) = strip_any_case(value, "Basic ") else { return Err(form) };
            return STANDARD.decode(encoded.trim()).map(Cow::Owned).map_err(|_| form);
        }
        // The name of an authentication scheme has no case (RFC 9110).
        strip_any_case(value, &self.prefix)
            .map(|token| Cow::Borrowed(token.as_bytes()))
            .ok_or_else(|| Malformed::Prefix { prefix: self.prefix.clone() })
    }
}

pub(super) fn strip_any_case<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    let head = value.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &value[prefix.len()..])
}
