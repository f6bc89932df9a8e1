//! A Redis of our own: on loopback, with a password, without persistence. It is a hint, never the
//! truth, so it starts empty each time.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::account::Account;
use super::binaries;
use super::folder::{Folder, Home};
use super::process::{Launch, Output, Process};
use super::readiness::Starting;
use super::server::{Server, Site};
use super::{LocalError, port};

const NAME: &str = "redis";
const ACCOUNTS: &[&str] = &["redis", "nobody"];
const LOG: &str = "redis.log";
const PORT_TRIES: u32 = 5;
/// Streams are trimmed and skipped when full; this bounds what a fault could still pile up.
const MEMORY_MAX: &str = "512mb";

/// A running Redis.
pub type PrivateRedis = Server<RedisSite>;

#[derive(Debug)]
pub struct RedisSite {
    folder: Folder,
    program: PathBuf,
    account: Option<Account>,
    password: String,
}

impl PrivateRedis {
    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// Each names what is wrong and, where that is known, what to do.
    pub async fn start(home: &Home) -> Result<Self, LocalError> {
        let program = binaries::redis()?;
        let account = Account::unprivileged(NAME, ACCOUNTS)?;
        let folder = Folder::make(home, NAME, account.as_ref())?;
        let site = RedisSite { folder, program, account, password: hex::encode(rand::random::<[u8; 24]>()) };
        let mut tries = 0;
        loop {
            tries += 1;
            let kept = if tries == 1 { site.folder.kept_port() } else { None };
            let port = kept.map_or_else(port::free, Ok)?;
            match site.launch(port).await {
                Ok(process) => {
                    site.folder.keep_port(port);
                    return Ok(Self { process, site, port });
                }
                Err(LocalError::Ended { last_words, .. })
                    if tries < PORT_TRIES && last_words.contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/0", self.site.password, self.port)
    }
}

impl Site for RedisSite {
    fn leave_to_keeper(&mut self) {
        self.folder.leave_to_keeper();
    }

    async fn launch(&self, port: u16) -> Result<Process, LocalError> {
        let configuration = self.write_configuration(port)?;
        let log_path = self.folder.path.join(LOG);
        let log = File::create(&log_path).map_err(LocalError::file("write", &log_path))?;
        let process = Process::spawn(Launch {
            name: NAME,
            program: self.program.clone(),
            arguments: vec![configuration.into()],
            environment: Vec::new(),
            current_dir: self.folder.path.clone(),
            account: self.account.clone(),
            output: Output::File(log),
            stop_signal: Signal::SIGTERM,
            leftover: self.folder.leftover(),
        })?;
        let probe = async || match ping(port, &self.password).await {
            Ok(answer) if answer.ends_with("+PONG\r\n") => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.trim())),
            Err(error) => Err(error.to_string()),
        };
        Starting { program: NAME, folder: &self.folder, log: LOG }.answered(process, probe).await
    }
}

impl RedisSite {
    /// A file, because others on this machine can read a process's arguments.
    fn write_configuration(&self, port: u16) -> Result<PathBuf, LocalError> {
        let path = self.folder.path.join("redis.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nrequirepass {}\nsave \"\"\nappendonly no\n\
             maxmemory {MEMORY_MAX}\nmaxmemory-policy noeviction\ndaemonize no\n",
            self.folder.path.display(),
            self.password,
        );
        // What a crash left may belong to the account and be beyond reopening with another mode.
        if path.exists() {
            fs::remove_file(&path).map_err(LocalError::file("remove", &path))?;
        }
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(LocalError::file("write", &path))?;
        if let Some(account) = &self.account {
            account.own(&path)?;
        }
        Ok(path)
    }
}

/// AUTH and PING in the inline form of the protocol, and the two lines that answer them.
async fn ping(port: u16, password: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("AUTH {password}\r\nPING\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let mut piece = [0; 256];
    while answer.split(|byte| *byte == b'\n').count() <= 2 && answer.len() < 1_024 {
        match stream.read(&mut piece).await? {
            0 => break,
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::process::Stopped;

    #[tokio::test]
    async fn it_starts_empty_comes_back_on_its_port_and_leaves_nothing() {
        let mut server = PrivateRedis::start(&Home::Temporary).await.unwrap();
        let (folder, port, password) =
            (server.site.folder.path.clone(), server.port(), server.site.password.clone());
        assert!(ping(port, &password).await.unwrap().ends_with("+PONG\r\n"));
        assert!(ping(port, "wrong").await.unwrap().starts_with("-WRONGPASS"));
        server.kill().await.unwrap();
        assert!(ping(port, &password).await.is_err());
        server.restart().await.unwrap();
        assert!(ping(port, &password).await.unwrap().ends_with("+PONG\r\n"));
        assert!(matches!(server.stop().await.unwrap(), Stopped::Asked(_)));
        drop(server);
        assert!(!folder.exists());
    }
}
