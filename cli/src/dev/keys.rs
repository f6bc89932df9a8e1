//! The two keys of a development deployment: the keyring that seals secrets, the admin key.
//!
//! With a data folder both are kept in it (0600): what was sealed must open after a restart.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use bowline_core::secrets::Keyring;

use super::ready::write_private;

const ADMIN_KEY_CHARACTERS_MIN: usize = 24;

/// The keyring's text, for `BOWLINE_SECRETS_KEYRING`.
pub(super) fn keyring(data: Option<&Path>) -> anyhow::Result<String> {
    kept(data, "keyring", || {
        let fresh = Keyring::generate_text("dev")?;
        fresh.expose_str().map(str::to_owned).context("a fresh keyring is text")
    })
}

/// The bootstrap admin key: the given one, or the kept one, or a fresh one.
pub(super) fn admin_key(given: Option<&str>, data: Option<&Path>) -> anyhow::Result<String> {
    if let Some(key) = given {
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.len() < ADMIN_KEY_CHARACTERS_MIN || !visible {
            bail!("--admin-key must be at least {ADMIN_KEY_CHARACTERS_MIN} visible ASCII characters");
        }
        return Ok(key.to_owned());
    }
    kept(data, "admin-key", || Ok(format!("bwl_{}", hex::encode(rand::random::<[u8; 24]>()))))
}

fn kept(
    data: Option<&Path>,
    name: &str,
    fresh: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let Some(folder) = data else { return fresh() };
    let path = folder.join(name);
    if path.exists() {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(text.trim().to_owned());
    }
    let text = fresh()?;
    write_private(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::secrets::Secret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_kept_is_found_again_and_private() {
        let folder = std::env::temp_dir().join(format!("bowline-keys-{:x}", rand::random::<u64>()));
        fs::create_dir(&folder).unwrap();
        let (keyring_text, key) = (keyring(Some(&folder)).unwrap(), admin_key(None, Some(&folder)).unwrap());
        assert_eq!(keyring(Some(&folder)).unwrap(), keyring_text);
        assert_eq!(admin_key(None, Some(&folder)).unwrap(), key);
        for name in ["keyring", "admin-key"] {
            assert_eq!(fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::remove_dir_all(folder).unwrap();
        assert!(Keyring::parse(&Secret::new(keyring_text)).is_ok());
    }

    #[test]
    fn a_short_admin_key_is_refused() {
        assert!(admin_key(Some("short"), None).is_err());
        assert!(admin_key(Some("with a space in the middle of it"), None).is_err());
        assert!(admin_key(Some("bowline-test-key-0123456789"), None).is_ok());
        assert_ne!(admin_key(None, None).unwrap(), admin_key(None, None).unwrap());
    }
}
