//! A process that cannot outlive the one who started it.
//!
//! Each program is started through a few lines of shell. They leave a *keeper* behind, a shell that
//! waits on a pipe whose other end only we hold, and then become the program (so its process id is
//! the one we know). When we end in whatever way, SIGKILL included, the kernel closes the pipe and
//! the keeper stops the program: asked first, killed after a while.
//!
//! The keeper is a grandchild on purpose: Postgres would take a child it does not know for one of
//! its own that died. Programs get a process group of their own, so that Ctrl-C in a terminal
//! reaches only us and we stop them in order.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::LocalError;
use super::account::Account;

/// Arguments: the signal that asks, tenths of a second until SIGKILL, a folder to remove, the program.
const SCRIPT: &str = r#"
signal=$1 patience=$2 leftover=$3
shift 3
exec 3<&0
(
  (
    trap '' HUP INT TERM
    exec >/dev/null 2>&1 </dev/null
    cd /
    read -r word <&3
    [ "$word" = released ] && exit 0
    kill -s "$signal" $$
    while [ "$patience" -gt 0 ] && kill -0 $$; do
      sleep 0.1
      patience=$((patience - 1))
    done
    kill -s KILL $$
    [ -n "$leftover" ] && rm -rf -- "$leftover"
  ) &
)
exec "$@" 3<&- </dev/null
"#;
const PATIENCE: Duration = Duration::from_secs(10);

/// What to start and how.
#[derive(Debug)]
pub struct Launch {
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// In place of what this process has, apart from `PATH`, `HOME`, `LANG` and `TZ`.
    pub environment: Vec<(String, String)>,
    pub current_dir: PathBuf,
    pub account: Option<Account>,
    pub output: Output,
    /// The signal that asks it to stop.
    pub stop_signal: Signal,
    /// A folder the keeper removes when this process did not live to do it.
    pub leftover: Option<PathBuf>,
}

/// Where a program's standard output and error go.
#[derive(Debug)]
pub enum Output {
    File(File),
    /// To be read through [`Process::take_output`].
    Piped,
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    pid: Pid,
    child: Child,
    stop_signal: Signal,
    /// Its closing is what the keeper waits for.
    lifeline: PipeWriter,
    ended: Option<ExitStatus>,
}

impl Process {
    /// # Errors
    /// When the shell cannot be started; a program that cannot be run ends at once instead.
    pub fn spawn(launch: Launch) -> Result<Self, LocalError> {
        let failed = |source| LocalError::Spawn { program: launch.name.to_owned(), source };
        let (reader, lifeline) = io::pipe().map_err(failed)?;
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(SCRIPT)
            .arg(format!("bowline-keeper-of-{}", launch.name))
            .arg(launch.stop_signal.as_str().trim_start_matches("SIG"))
            .arg((PATIENCE.as_millis() / 100).to_string())
            .arg(launch.leftover.as_deref().map(|path| path.as_os_str().to_owned()).unwrap_or_default())
            .arg(&launch.program)
            .args(&launch.arguments)
            .env_clear()
            .envs(inherited())
            .envs(launch.environment)
            .current_dir(&launch.current_dir)
            .stdin(Stdio::from(reader))
            .process_group(0);
        if let Some(account) = &launch.account {
            command.uid(account.uid).gid(account.gid);
        }
        match launch.output {
            Output::Piped => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
            Output::File(file) => command.stdout(file.try_clone().map_err(failed)?).stderr(file),
        };
        let child = command.spawn().map_err(failed)?;
        // A child that has not been awaited has an id, and it fits: the kernel's limit is 2^22.
        let pid = Pid::from_raw(child.id().unwrap_or_default() as i32);
        Ok(Self { name: launch.name, pid, child, stop_signal: launch.stop_signal, lifeline, ended: None })
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Standard output and error of a program started with [`Output::Piped`], once.
    pub fn take_output(&mut self) -> Option<(tokio::process::ChildStdout, tokio::process::ChildStderr)> {
        Some((self.child.stdout.take()?, self.child.stderr.take()?))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
            self.release_if_ended();
        }
        self.ended
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub async fn wait(&mut self) -> Result<ExitStatus, LocalError> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let status = self
            .child
            .wait()
            .await
            .map_err(|source| LocalError::Signal { program: self.name.to_owned(), source })?;
        self.ended = Some(status);
        self.release_if_ended();
        Ok(status)
    }

    /// Sends a signal to a program that has not ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<(), LocalError> {
        // Until it has been awaited its id belongs to nobody else.
        if self.ended().is_some() {
            return Ok(());
        }
        signal::kill(self.pid, signal)
            .map_err(|errno| LocalError::Signal { program: self.name.to_owned(), source: errno.into() })
    }

    /// Asks it to stop, waits, and kills it if it has not by `within`. Says whether it had to.
    ///
    /// # Errors
    /// When it cannot be signalled or awaited.
    pub async fn stop(&mut self, within: Duration) -> Result<Stopped, LocalError> {
        self.signal(self.stop_signal)?;
        // One that was paused would never see the other signal.
        self.signal(Signal::SIGCONT)?;
        if let Ok(status) = tokio::time::timeout(within, self.wait()).await {
            return status.map(Stopped::Asked);
        }
        self.kill().await?;
        Ok(Stopped::Killed)
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be signalled or awaited.
    pub async fn kill(&mut self) -> Result<(), LocalError> {
        self.signal(Signal::SIGKILL)?;
        self.wait().await.map(drop)
    }

    fn release_if_ended(&mut self) {
        if self.ended.is_some() {
            // Its id may soon be another's: the keeper must not signal it. A keeper that is gone
            // has nothing to be told.
            let _ = self.lifeline.write_all(b"released\n");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either it has ended, or the closing lifeline has the keeper stop it.
        self.ended();
    }
}

/// How a program stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// By itself, when asked.
    Asked(ExitStatus),
    Killed,
}

/// An exit status in words: `exit code 1`, `signal 9`.
pub fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}

fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    ["PATH", "HOME", "LANG", "TZ", "RUST_BACKTRACE"]
        .into_iter()
        .filter_map(|name| std::env::var_os(name).map(|value| (name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(script: &str) -> Launch {
        Launch {
            name: "test",
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            current_dir: "/".into(),
            account: None,
            output: Output::Piped,
            stop_signal: Signal::SIGTERM,
            leftover: None,
        }
    }

    fn lives(pid: u32) -> bool {
        signal::kill(Pid::from_raw(pid as i32), None).is_ok()
    }

    #[tokio::test]
    async fn a_program_that_listens_stops_when_asked_and_a_deaf_one_is_killed() {
        let mut obedient = Process::spawn(launch("exec sleep 600")).unwrap();
        assert!(matches!(obedient.stop(Duration::from_secs(20)).await.unwrap(), Stopped::Asked(_)));
        let mut deaf =
            Process::spawn(launch("trap '' TERM; echo deaf; while :; do read -r x < /dev/zero; done"))
                .unwrap();
        let (mut stdout, _stderr) = deaf.take_output().unwrap();
        let mut word = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut word).await.unwrap();
        assert_eq!(deaf.stop(Duration::from_millis(100)).await.unwrap(), Stopped::Killed);
        assert!(!lives(deaf.pid()));
    }

    #[tokio::test]
    async fn the_keeper_stops_a_program_whose_starter_is_gone_and_removes_its_folder() {
        let folder = std::env::temp_dir().join(format!("bowline-keeper-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut launch = launch("exec sleep 600");
        launch.leftover = Some(folder.clone());
        let process = Process::spawn(launch).unwrap();
        let pid = process.pid();
        assert!(lives(pid));
        drop(process);
        let gone = async {
            while lives(pid) || folder.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the keeper did its work");
    }
}
