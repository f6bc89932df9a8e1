//! The two keys of a development deployment: the keyring that seals secrets, the admin key.
//!
//! With a data folder both are kept in it (0600): what was sealed must open after a restart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bowline_core::secrets::Keyring;

use super::ready::write_private;

const ADMIN_KEY: &str = "admin-key";
const ADMIN_KEY_CHARACTERS_MIN: usize = 24;

/// The keyring's text, for `BOWLINE_SECRETS_KEYRING`.
pub(super) fn keyring(data: Option<&Path>) -> anyhow::Result<String> {
    kept(data, "keyring", || {
        let fresh = Keyring::generate_text("dev")?;
        fresh.expose_str().map(str::to_owned).context("a fresh keyring is text")
    })
}

/// The bootstrap admin key, and the file that holds it, for whoever wants to use it.
pub(super) struct AdminKey {
    pub(super) text: String,
    pub(super) file: PathBuf,
}

/// Where the admin key comes from, in this order: a file that is named, what the environment gives,
/// the data folder, chance. It is always in a file that only we may read.
pub(super) struct KeyPlaces<'a> {
    /// Made where there is none.
    pub(super) file: Option<&'a Path>,
    pub(super) given: Option<String>,
    pub(super) data: Option<&'a Path>,
    /// Gone when everything has stopped.
    pub(super) scratch: &'a Path,
}

impl KeyPlaces<'_> {
    /// # Errors
    /// When a file cannot be used, or the key is none.
    pub(super) fn admin_key(self) -> anyhow::Result<AdminKey> {
        let fresh = || Ok(format!("bwl_{}", hex::encode(rand::random::<[u8; 24]>())));
        let file = match (self.file, &self.given, self.data) {
            (Some(file), _, _) => file.to_owned(),
            // The kept key stays what it is.
            (None, None, Some(data)) => data.join(ADMIN_KEY),
            (None, _, _) => self.scratch.join(ADMIN_KEY),
        };
        let text = match self.given.filter(|_| self.file.is_none()) {
            Some(given) => {
                well_formed("BOWLINE_DEV_ADMIN_KEY", &given)?;
                write_private(&file, &given).with_context(|| format!("cannot write {}", file.display()))?;
                given
            }
            None => kept_at(&file, fresh)?,
        };
        well_formed(&format!("the admin key in {}", file.display()), &text)?;
        let file = file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
        Ok(AdminKey { text, file })
    }
}

fn well_formed(what: &str, key: &str) -> anyhow::Result<()> {
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.len() < ADMIN_KEY_CHARACTERS_MIN || !visible {
        bail!("{what} must be at least {ADMIN_KEY_CHARACTERS_MIN} visible ASCII characters");
    }
    Ok(())
}

fn kept(
    data: Option<&Path>,
    name: &str,
    fresh: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    match data {
        Some(folder) => kept_at(&folder.join(name), fresh),
        None => fresh(),
    }
}

fn kept_at(path: &Path, fresh: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
    if path.exists() {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(text.trim().to_owned());
    }
    let text = fresh()?;
    write_private(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::secrets::Secret;
    use std::os::unix::fs::PermissionsExt;

    struct Folders {
        data: PathBuf,
        scratch: PathBuf,
    }

    impl Folders {
        fn new() -> Self {
            let root = std::env::temp_dir().join(format!("bowline-keys-{:x}", rand::random::<u64>()));
            let folders = Self { data: root.join("data"), scratch: root.join("scratch") };
            fs::create_dir_all(&folders.data).unwrap();
            fs::create_dir_all(&folders.scratch).unwrap();
            folders
        }

        fn places(&self) -> KeyPlaces<'_> {
            KeyPlaces { file: None, given: None, data: Some(&self.data), scratch: &self.scratch }
        }
    }

    impl Drop for Folders {
        fn drop(&mut self) {
            fs::remove_dir_all(self.data.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn what_is_kept_is_found_again_and_private() {
        let folders = Folders::new();
        let (keyring_text, key) =
            (keyring(Some(&folders.data)).unwrap(), folders.places().admin_key().unwrap());
        assert_eq!(keyring(Some(&folders.data)).unwrap(), keyring_text);
        assert_eq!(folders.places().admin_key().unwrap().text, key.text);
        for file in [&folders.data.join("keyring"), &key.file] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(Keyring::parse(&Secret::new(keyring_text)).is_ok());
    }

    #[test]
    fn a_named_file_goes_before_a_given_key_and_that_before_the_kept_one() {
        let folders = Folders::new();
        let kept = folders.places().admin_key().unwrap();
        let given = "bowline-test-key-0123456789".to_owned();
        let from_outside = KeyPlaces { given: Some(given.clone()), ..folders.places() }.admin_key().unwrap();
        assert_eq!(
            (from_outside.text.as_str(), from_outside.file.parent()),
            (given.as_str(), Some(&*folders.scratch))
        );
        let file = folders.scratch.join("named");
        let named =
            || KeyPlaces { file: Some(&file), given: Some(given.clone()), ..folders.places() }.admin_key();
        let made = named().unwrap();
        assert!(made.text != given && made.text != kept.text);
        assert_eq!(named().unwrap().text, made.text);
        assert_eq!(folders.places().admin_key().unwrap().text, kept.text);
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let folders = Folders::new();
        for bad in ["short", "with a space in the middle of it"] {
            assert!(KeyPlaces { given: Some(bad.to_owned()), ..folders.places() }.admin_key().is_err());
        }
        let file = folders.scratch.join("named");
        fs::write(&file, "short\n").unwrap();
        assert!(KeyPlaces { file: Some(&file), ..folders.places() }.admin_key().is_err());
    }
}
