//! Finds programs: on PATH first, then where distributions put them.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::LocalError;

/// Where Postgres keeps its server programs, one folder a major version (`*`).
const POSTGRES_FOLDERS: &[(&str, &str)] = &[
    ("/usr/lib/postgresql", "bin"),
    ("/usr/lib64/postgresql", "bin"),
    ("/usr/libexec/postgresql", ""),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
];
const POSTGRES_FIXED: &[&str] = &["/usr/local/pgsql/bin", "/usr/libexec/postgresql", "/usr/bin"];
const REDIS_FIXED: &[&str] = &["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/usr/sbin"];

/// A folder with the server programs of one Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresPrograms {
    pub folder: PathBuf,
    /// `15`, as in `PG_VERSION`; empty where the folder's name does not say.
    pub major: String,
}

/// Every Postgres on this machine, the one to prefer first.
///
/// # Errors
/// [`LocalError::Missing`] names the package to install.
pub fn postgres() -> Result<Vec<PostgresPrograms>, LocalError> {
    let mut found: Vec<PostgresPrograms> = Vec::new();
    let mut add = |folder: PathBuf| {
        let complete = is_program(&folder.join("postgres")) && is_program(&folder.join("initdb"));
        if complete && !found.iter().any(|known| known.folder == folder) {
            let major = major_of(&folder);
            found.push(PostgresPrograms { folder, major });
        }
    };
    path_folders().into_iter().for_each(&mut add);
    for (parent, below) in POSTGRES_FOLDERS {
        for folder in newest_first(Path::new(parent)) {
            add(folder.join(below));
        }
    }
    POSTGRES_FIXED.iter().map(PathBuf::from).for_each(&mut add);
    if found.is_empty() {
        return Err(LocalError::Missing {
            program: "postgres",
            package: "PostgreSQL (Debian, Ubuntu: apt install postgresql)",
        });
    }
    Ok(found)
}

/// The Redis server.
///
/// # Errors
/// [`LocalError::Missing`] names the package to install.
pub fn redis() -> Result<PathBuf, LocalError> {
    path_folders()
        .into_iter()
        .chain(REDIS_FIXED.iter().map(PathBuf::from))
        .map(|folder| folder.join("redis-server"))
        .find(|path| is_program(path))
        .ok_or(LocalError::Missing {
            program: "redis-server",
            package: "Redis (Debian, Ubuntu: apt install redis-server)",
        })
}

/// A program of our own: beside the running executable, else on PATH.
pub fn sibling(name: &str) -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    beside.into_iter().chain(path_folders()).map(|folder| folder.join(name)).find(|path| is_program(path))
}

fn path_folders() -> Vec<PathBuf> {
    // A relative entry of PATH would find whatever lies in the current folder.
    env::var_os("PATH")
        .map(|path| env::split_paths(&path).filter(|folder| folder.is_absolute()).collect())
        .unwrap_or_default()
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The folders in `parent` that belong to a version of Postgres, the highest version first.
fn newest_first(parent: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let digits = name.strip_prefix("postgresql@").unwrap_or(&name);
            digits.parse().ok().map(|version| (version, entry.path()))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, path)| path).collect()
}

fn major_of(folder: &Path) -> String {
    folder
        .iter()
        .rev()
        .filter_map(|part| part.to_str())
        .map(|part| part.strip_prefix("postgresql@").unwrap_or(part))
        .find(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_says_the_version() {
        for (folder, major) in [
            ("/usr/lib/postgresql/15/bin", "15"),
            ("/opt/homebrew/opt/postgresql@17/bin", "17"),
            ("/usr/local/pgsql/bin", ""),
        ] {
            assert_eq!(major_of(Path::new(folder)), major, "{folder}");
        }
    }
}
