//! The data folder of a Postgres of ours: made once, by `initdb`, with a password.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::timeout;

use super::account::Account;
use super::binaries::PostgresPrograms;
use super::folder::{Folder, Home};
use super::process::{Launch, Output, Process, in_words};
use super::{LocalError, MADE_WITHIN};

/// The superuser.
pub(super) const ROLE: &str = "bowline";
pub(super) const DATA: &str = "data";
const PASSWORD: &str = "password";
const INITDB_LOG: &str = "initdb.log";

/// The programs that fit the data which is there, or the newest.
pub(super) fn choose(installed: &[PostgresPrograms], data: &Path) -> Result<PostgresPrograms, LocalError> {
    let Ok(version) = fs::read_to_string(data.join("PG_VERSION")) else {
        return installed
            .first()
            .cloned()
            .ok_or(LocalError::Missing { program: "postgres", package: "PostgreSQL" });
    };
    let version = version.trim();
    let fits = |programs: &&PostgresPrograms| programs.major == version || programs.major.is_empty();
    installed.iter().find(fits).cloned().ok_or_else(|| LocalError::OtherVersion {
        path: data.to_path_buf(),
        found: version.to_owned(),
        installed: installed.iter().map(|programs| programs.major.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// Whether a home holds a cluster that is whole.
pub(super) fn is_made(home: &Home, server: &str) -> bool {
    match home {
        Home::Temporary => false,
        Home::Kept(parent) => parent.join(server).join(DATA).is_dir(),
    }
}

/// Makes the cluster where there is none; the password of its superuser.
pub(super) async fn make_cluster(
    folder: &Folder,
    programs: &PostgresPrograms,
    account: Option<&Account>,
) -> Result<String, LocalError> {
    let (data, password_file) = (folder.path.join(DATA), folder.path.join(PASSWORD));
    if data.is_dir() {
        let password =
            fs::read_to_string(&password_file).map_err(LocalError::file("read", &password_file))?;
        return Ok(password.trim().to_owned());
    }
    let password = hex::encode(rand::random::<[u8; 24]>());
    write_secret(&password_file, &password, account)?;
    // Under another name until it is whole: one that was cut off half-way is made anew.
    let unfinished = folder.path.join("data.unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(LocalError::file("remove", &unfinished))?;
    }
    let mut arguments: Vec<_> = vec!["-D".into(), unfinished.clone().into()];
    arguments.extend(
        [
            format!("--username={ROLE}"),
            "--auth=scram-sha-256".to_owned(),
            format!("--pwfile={}", password_file.display()),
            "--encoding=UTF8".to_owned(),
            "--locale=C".to_owned(),
        ]
        .map(Into::into),
    );
    if folder.leftover().is_some() {
        // A crash of the machine takes a temporary folder with it.
        arguments.push("--no-sync".into());
    }
    run_to_end(folder, initdb(folder, programs.folder.join("initdb"), arguments, account)?, MADE_WITHIN)
        .await?;
    fs::rename(&unfinished, &data).map_err(LocalError::file("rename", &unfinished))?;
    Ok(password)
}

fn write_secret(path: &Path, text: &str, account: Option<&Account>) -> Result<(), LocalError> {
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| writeln!(file, "{text}"));
    written.map_err(LocalError::file("write", path))?;
    account.map_or(Ok(()), |account| account.own(path))
}

fn initdb(
    folder: &Folder,
    program: PathBuf,
    arguments: Vec<OsString>,
    account: Option<&Account>,
) -> Result<Process, LocalError> {
    let log_path = folder.path.join(INITDB_LOG);
    let log = File::create(&log_path).map_err(LocalError::file("write", &log_path))?;
    Process::spawn(Launch {
        name: "initdb",
        program,
        arguments,
        environment: Vec::new(),
        current_dir: folder.path.clone(),
        account: account.cloned(),
        output: Output::File(log),
        stop_signal: Signal::SIGTERM,
        leftover: folder.leftover(),
    })
}

async fn run_to_end(folder: &Folder, mut process: Process, within: Duration) -> Result<(), LocalError> {
    let last_words = || folder.last_words(INITDB_LOG);
    match timeout(within, process.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => {
            Err(LocalError::Ended { program: "initdb", status: in_words(status), last_words: last_words() })
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            process.kill().await?;
            let (within_s, last_words) = (within.as_secs(), last_words());
            Err(LocalError::Unfinished { program: "initdb", within_s, last_words })
        }
    }
}

/// A folder below one that its account may not enter would fail later and less clearly.
pub(super) async fn reachable(path: &Path, account: Option<&Account>) -> Result<(), LocalError> {
    let Some(account) = account else { return Ok(()) };
    let entered = tokio::process::Command::new("/bin/sh")
        .args(["-c", "cd \"$1\"", "sh"])
        .arg(path)
        .current_dir("/")
        .stderr(std::process::Stdio::null())
        .uid(account.uid)
        .gid(account.gid)
        .status()
        .await
        .map_err(|source| LocalError::Spawn { program: "sh".to_owned(), source })?;
    if entered.success() {
        return Ok(());
    }
    Err(LocalError::OutOfReach { account: account.name.clone(), path: path.to_path_buf() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_is_not_made_in_time_says_what_to_do() {
        let folder = Folder::make(&Home::Temporary, "unfinished", None).unwrap();
        let arguments = vec!["-c".into(), "echo copying; exec sleep 600".into()];
        let process = initdb(&folder, "/bin/sh".into(), arguments, None).unwrap();
        let unfinished = run_to_end(&folder, process, Duration::from_millis(10)).await.unwrap_err();
        assert!(matches!(unfinished, LocalError::Unfinished { .. }), "{unfinished}");
        assert!(unfinished.to_string().contains("run the same command again"), "{unfinished}");
    }

    #[test]
    fn data_of_a_version_that_is_not_installed_is_named() {
        let folder = std::env::temp_dir().join(format!("bowline-version-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("PG_VERSION"), "11\n").unwrap();
        let installed =
            [PostgresPrograms { folder: "/usr/lib/postgresql/15/bin".into(), major: "15".into() }];
        let error = choose(&installed, &folder).unwrap_err().to_string();
        fs::remove_dir_all(&folder).unwrap();
        assert!(error.contains("Postgres 11") && error.contains("Postgres 15"), "{error}");
    }
}
