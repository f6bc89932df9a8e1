//! How a secret reaches a command without standing in the list of processes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::command::key_value;
use crate::failure::Failure;

/// What the API takes at most.
const BYTES_MAX: u64 = 4_096;

/// One secret, from one of three places: none of them is the list of arguments, which everyone on
/// the machine can read.
#[derive(Args)]
#[group(multiple = false)]
pub struct SecretInput {
    /// Environment variable that holds the secret
    #[arg(long, value_name = "VARIABLE", help_heading = "Secret")]
    pub secret_env: Option<String>,
    /// File that holds the secret (a line end after it is left out)
    #[arg(long, value_name = "PATH", help_heading = "Secret")]
    pub secret_file: Option<PathBuf>,
    /// Read the secret from standard input
    #[arg(long, help_heading = "Secret")]
    pub secret_stdin: bool,
}

impl std::fmt::Debug for SecretInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretInput(redacted)")
    }
}

impl SecretInput {
    /// The secret, if one was given.
    ///
    /// # Errors
    /// When the place it was to come from has none, or one that is empty or too long.
    pub fn read(&self) -> Result<Option<String>, Failure> {
        let file = self.secret_file.as_deref();
        from_one_of("secret", self.secret_env.as_deref(), file, self.secret_stdin)
    }
}

/// The secret from the place that was given, if one was; the flags are `--{flag}-env` and so on.
///
/// # Errors
/// When the place has none, or one that is empty or too long.
pub(crate) fn from_one_of(
    flag: &str,
    variable: Option<&str>,
    file: Option<&Path>,
    stdin: bool,
) -> Result<Option<String>, Failure> {
    if let Some(variable) = variable {
        from_environment(&format!("--{flag}-env"), variable).map(Some)
    } else if let Some(path) = file {
        from_file(&format!("--{flag}-file"), path).map(Some)
    } else if stdin {
        let place = format!("--{flag}-stdin");
        checked(&place, &read_bounded(&place, std::io::stdin().lock())?).map(Some)
    } else {
        Ok(None)
    }
}

/// Further secrets by name, each from a place that not everyone on the machine can read.
#[derive(Args)]
pub struct NamedSecretInput {
    /// Environment variable that holds a secret with a name of its own; may be repeated
    #[arg(long, value_parser = key_value, value_name = "NAME=VARIABLE", help_heading = "Secret")]
    pub named_secret_env: Vec<(String, String)>,
    /// File that holds a secret with a name of its own; may be repeated
    #[arg(long, value_parser = key_value, value_name = "NAME=PATH", help_heading = "Secret")]
    pub named_secret_file: Vec<(String, String)>,
}

impl std::fmt::Debug for NamedSecretInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NamedSecretInput(redacted)")
    }
}

impl NamedSecretInput {
    /// # Errors
    /// When a place has no secret, or one that is empty or too long, or a name is given twice.
    pub fn read(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut secrets = BTreeMap::new();
        for (name, variable) in &self.named_secret_env {
            add(&mut secrets, name, from_environment("--named-secret-env", variable)?)?;
        }
        for (name, path) in &self.named_secret_file {
            add(&mut secrets, name, from_file("--named-secret-file", Path::new(path))?)?;
        }
        Ok(secrets)
    }
}

fn add(secrets: &mut BTreeMap<String, String>, name: &str, secret: String) -> Result<(), Failure> {
    match secrets.insert(name.to_owned(), secret) {
        None => Ok(()),
        Some(_) => Err(Failure::Usage(format!("the secret {name} is given twice"))),
    }
}

fn from_environment(what: &str, variable: &str) -> Result<String, Failure> {
    let place = format!("{what} {variable}");
    let value =
        std::env::var(variable).map_err(|error| Failure::Configuration(format!("{place}: {error}")))?;
    checked(&place, &value)
}

/// The secret in a file, a line end after it left out. `what` says why the file is read.
///
/// # Errors
/// When it cannot be read, or is empty or too long.
pub(crate) fn from_file(what: &str, path: &Path) -> Result<String, Failure> {
    let place = format!("{what} {}", path.display());
    let file = fs::File::open(path).map_err(|error| unreadable(&place, &error))?;
    checked(&place, &read_bounded(&place, file)?)
}

fn checked(place: &str, secret: &str) -> Result<String, Failure> {
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(Failure::Configuration(format!("{place}: the secret is empty")));
    }
    if secret.len() as u64 > BYTES_MAX {
        return Err(Failure::Configuration(format!("{place}: the secret is longer than {BYTES_MAX} bytes")));
    }
    Ok(secret.to_owned())
}

fn read_bounded(place: &str, from: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    // Two more than the limit: a line end, and one to notice that it was too long.
    from.take(BYTES_MAX + 3).read_to_string(&mut text).map_err(|error| unreadable(place, &error))?;
    Ok(text)
}

fn unreadable(place: &str, error: &std::io::Error) -> Failure {
    Failure::Configuration(format!("{place}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(content: &[u8]) -> Result<Option<String>, Failure> {
        let path = std::env::temp_dir().join(format!("bowline-secret-{:x}", rand::random::<u64>()));
        fs::write(&path, content).unwrap();
        let input = SecretInput { secret_env: None, secret_file: Some(path.clone()), secret_stdin: false };
        let read = input.read();
        fs::remove_file(path).unwrap();
        read
    }

    #[test]
    fn a_file_gives_its_secret_without_the_line_end() {
        assert_eq!(from_file(b"whsec_a b\r\n").unwrap().as_deref(), Some("whsec_a b"));
        assert_eq!(from_file(&[b'a'; 4_096]).unwrap().map(|secret| secret.len()), Some(4_096));
    }

    #[test]
    fn empty_too_long_and_unreadable_ones_are_refused() {
        for bad in [&b"\n"[..], &[b'a'; 4_097], &[b'a'; 9_000], &[0xff, 0xfe]] {
            assert!(from_file(bad).is_err());
        }
    }
}
