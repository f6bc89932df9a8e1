//! What the API shows of a secret: when it holds, and a public key; never the secret.

use bowline_core::preset::{self, Preset};
use bowline_core::scheme::CompiledScheme;
use bowline_core::secrets::StoredSecret;
use bowline_proto::v1;

use crate::convert::timestamp;

pub(super) fn secret_version(secret: &StoredSecret) -> v1::SecretVersion {
    v1::SecretVersion {
        id: secret.id.to_string(),
        name: secret.name.clone(),
        create_time: Some(timestamp(secret.create_time)),
        expire_time: secret.expires_at.map(timestamp),
        public_key: secret
            .public_key
            .and_then(|key| public_key_scheme()?.write_public_key(&key))
            .unwrap_or_default(),
    }
}

/// Public keys are written as Standard Webhooks writes them, whichever format signs.
fn public_key_scheme() -> Option<&'static CompiledScheme> {
    preset::find("standard").and_then(Preset::scheme)
}
