//! The ready file: tells whoever started the process where it listens, once it does.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The addresses a process really listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Inbound webhooks; ingest only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
    pub admin: SocketAddr,
    pub ops: SocketAddr,
}

#[derive(Serialize)]
struct Document<'a> {
    pid: u32,
    listen: &'a Listening,
}

/// Why the ready file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the ready file {} cannot be written", path.display())]
pub struct ReadyFileError {
    path: PathBuf,
    source: std::io::Error,
}

/// Writes `{"pid":…,"listen":{"http":…,"admin":…,"ops":…}}`. Who reads the file never sees a part of
/// it: it is written beside and moved into place.
pub fn write(path: &Path, listening: &Listening) -> Result<(), ReadyFileError> {
    let attempt = || {
        let document = Document { pid: std::process::id(), listen: listening };
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", document.pid));
        let mut file = std::fs::File::create(&beside)?;
        serde_json::to_writer(&mut file, &document)?;
        file.write_all(b"\n")?;
        std::fs::rename(&beside, path)
    };
    attempt().map_err(|source| ReadyFileError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let listening =
            Listening { http: None, admin: "127.0.0.1:1".parse().unwrap(), ops: "[::1]:2".parse().unwrap() };
        write(&path, &listening).unwrap();
        write(&path, &Listening { http: Some("127.0.0.1:3".parse().unwrap()), ..listening }).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let pid = std::process::id();
        let expected = format!(
            r#"{{"pid":{pid},"listen":{{"http":"127.0.0.1:3","admin":"127.0.0.1:1","ops":"[::1]:2"}}}}"#
        );
        assert_eq!(text.trim_end(), expected);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = write(
            &folder.path().join("no/such"),
            &serde_json::from_str(r#"{"admin":"127.0.0.1:1","ops":"127.0.0.1:1"}"#).unwrap(),
        );
        assert!(error.unwrap_err().to_string().contains("no/such"));
    }
}
