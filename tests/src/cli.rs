//! The command line as a person or a script uses it: the built binary, and what it says on which stream.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::admin::KEY;
use crate::binaries;

/// `bowline`, pointed at one admin API.
#[derive(Debug, Clone)]
pub struct Cli {
    admin_url: String,
}

/// A command that goes on. Killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// The next line of its output.
    ///
    /// # Panics
    /// When none comes.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(crate::BOUND, self.out.next_line()).await.expect("a line in time");
        line.expect("its output").expect("a line before the end")
    }

    /// Ctrl-C; its exit code, and what it said on standard error.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn interrupt(self) -> (Option<i32>, String) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("a process that runs");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGINT).expect("a signal");
        let ended = tokio::time::timeout(crate::BOUND, self.child.wait_with_output()).await;
        let output = ended.expect("it ends").expect("its output");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Said {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Cli {
    pub fn new(admin_url: &str) -> Self {
        Self { admin_url: admin_url.to_owned() }
    }

    /// Starts one that goes on until it is stopped.
    ///
    /// # Panics
    /// When the command cannot be run at all.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self.spawn(arguments);
        let out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Running { child, out }
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(binaries::find("bowline").expect("the command line is built"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BOWLINE_"))
        {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("BOWLINE_ADMIN_URL", &self.admin_url)
            .env("BOWLINE_ADMIN_KEY", KEY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process")
    }

    /// # Panics
    /// When the command cannot be run at all.
    pub async fn run(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut child = self.spawn(arguments);
        let mut stdin = child.stdin.take().expect("a pipe");
        // A command that reads nothing has closed it.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        let output = tokio::time::timeout(crate::BOUND, child.wait_with_output())
            .await
            .expect("it ends")
            .expect("its output");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Said { code: output.status.code(), out: output.stdout, err }
    }

    /// Does what is asked.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ok(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments, b"").await;
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        said
    }

    /// The document of `--output json`.
    ///
    /// # Panics
    /// When the command fails.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        self.ok(&[arguments, &["--output", "json"]].concat()).await.json()
    }

    /// What a refused command says.
    ///
    /// # Panics
    /// When it is not refused with this code.
    pub async fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let said = self.run(arguments, b"").await;
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        assert!(said.out.is_empty(), "{said:?}");
        said.err
    }
}

/// The fenced block that a document marks with `<!-- tested: NAME -->`.
///
/// # Panics
/// When there is none.
pub fn tested_block(document: &str, name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let text = std::fs::read_to_string(format!("{path}/{document}")).expect("a document of this tree");
    let marked = text.split(&format!("<!-- tested: {name} -->\n```")).nth(1);
    let block =
        marked.and_then(|rest| rest.split_once('\n')).and_then(|(_, rest)| rest.split("\n```").next());
    format!("{}\n", block.unwrap_or_else(|| panic!("{document} has no block {name}")))
}
