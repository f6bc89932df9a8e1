//! The binary `bowline` as a script meets it: exit codes and what is said on which stream.

#![allow(clippy::unwrap_used, reason = "a panic is the failure being reported")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

fn bowline(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BOWLINE_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).envs(environment.iter().copied()).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty(), "a failure prints nothing on standard output");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

const KEY: (&str, &str) = ("BOWLINE_ADMIN_KEY", "bwl_test-key-that-nobody-has");
/// Nobody listens on the port of the "TCP port service multiplexer".
const NOBODY: (&str, &str) = ("BOWLINE_ADMIN_URL", "http://127.0.0.1:1");

#[test]
fn a_missing_setting_ends_with_64_and_names_it() {
    let (code, text) = said(&bowline(&["source", "list"], &[]));
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("BOWLINE_ADMIN_KEY"), "{text}");
    let (code, text) = said(&bowline(&["migrate"], &[]));
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("BOWLINE_POSTGRES_URL"), "{text}");
    let secret = ["source", "create", "a", "--secret-env", "BOWLINE_NOT_THERE"];
    let (code, text) = said(&bowline(&secret, &[KEY, NOBODY]));
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("BOWLINE_NOT_THERE"), "{text}");
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &["source"][..],
        &["delivery", "list", "--limit", "0"],
        &["delivery", "list", "--since", "yesterday"],
        &["trigger", "nobody", "--secret-env", "BOWLINE_ADMIN_KEY"],
        &["trigger", "github"],
        // A secret is no argument.
        &["source", "create", "a", "--secret", "x"],
        &["--admin-key", "x", "source", "list"],
        &["endpoint", "create", "a"],
        &["endpoint", "update", "ep_x", "--clear", "everything"],
        &["source", "update", "src_x"],
        &["source", "get", ""],
        &["publish", "--data", "{}"],
        &["event", "list", "--all", "--limit", "3"],
        &["dead-letter", "redrive"],
        &["dead-letter", "redrive", "--all", "--endpoint", "ep_x"],
        // Everything that is kept is sent again by nobody who did not say so.
        &["replay", "--to", "ep_x"],
        &["replay", "--to", "ep_x", "--only-missing", "--dry-run"],
        &["replay", "--to", "ep_x", "--all", "--since", "1h"],
    ] {
        let (code, text) = said(&bowline(arguments, &[KEY, NOBODY]));
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
    }
}

#[test]
fn a_preset_that_cannot_be_triggered_is_answered_in_two_lines_at_most() {
    for (preset, says) in [
        ("strype", "did you mean stripe?"),
        ("strype", "bowline preset list"),
        ("custom", "docs/schemes.md"),
        ("nobody-at-all", "docs/schemes.md"),
    ] {
        let (code, text) = said(&bowline(&["trigger", preset, "--secret-env", "BOWLINE_ADMIN_KEY"], &[KEY]));
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(says) && text.len() < 300, "{text}");
    }
}

#[test]
fn an_absent_api_ends_with_1_and_the_key_is_not_shown() {
    for arguments in
        [&["source", "list"][..], &["event", "list", "-o", "json"], &["endpoint", "pause", "shop"]]
    {
        let (code, text) = said(&bowline(arguments, &[KEY, NOBODY]));
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
        assert!(text.contains("http://127.0.0.1:1 is not available: Connection refused"), "{text}");
        assert!(text.contains("BOWLINE_ADMIN_URL") && !text.contains(KEY.1), "{text}");
    }
}

/// A server that answers every connection with these bytes, in a thread that ends with the test.
fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 1_024];
            // Whoever called may be gone already.
            let _ = stream.read(&mut asked).and_then(|_| stream.write_all(bytes));
        }
    });
    url
}

#[test]
fn a_port_that_is_no_admin_api_is_called_so() {
    for bytes in [&b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"[..], b"-ERR unknown command\r\n"] {
        let url = answering(bytes);
        let (code, text) = said(&bowline(&["source", "list"], &[KEY, ("BOWLINE_ADMIN_URL", &url)]));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&format!("{url} does not look like a Bowline admin API")), "{text}");
    }
}

#[test]
fn the_key_may_be_in_a_file() {
    let path = std::env::temp_dir().join(format!("bowline-key-{:x}", rand::random::<u64>()));
    let file = path.to_str().unwrap();
    for arguments in [&["source", "list"][..], &["--admin-key-file", file, "source", "list"]] {
        let (code, text) = said(&bowline(arguments, &[("BOWLINE_ADMIN_KEY_FILE", file), NOBODY]));
        assert!(code == Some(64) && text.contains(file), "{text}");
    }
    std::fs::write(&path, format!("{}\n", KEY.1)).unwrap();
    let (code, text) = said(&bowline(&["source", "list"], &[("BOWLINE_ADMIN_KEY_FILE", file), NOBODY]));
    std::fs::remove_file(path).unwrap();
    assert!(code == Some(1) && text.contains("not available") && !text.contains(KEY.1), "{text}");
}

#[test]
fn help_names_every_command_and_hides_the_key() {
    let output = bowline(&["--help"], &[KEY]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0));
    for command in
        ["source", "endpoint", "trigger", "publish", "event", "delivery", "dead-letter", "migrate", "dev"]
    {
        assert!(text.contains(&format!("  {command} ")), "{command} is missing:\n{text}");
    }
    assert!(!text.contains(KEY.1), "{text}");
}
