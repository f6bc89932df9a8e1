//! The binary `bowline` as a script meets it: exit codes and what is said on which stream.

#![allow(clippy::unwrap_used, reason = "a panic is the failure being reported")]

use std::process::{Command, Output};

fn bowline(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    for name in ["BOWLINE_ADMIN_URL", "BOWLINE_ADMIN_KEY", "BOWLINE_TENANT", "BOWLINE_POSTGRES_URL"] {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
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
        &["trigger", "nobody", "--secret", "x"],
        &["trigger", "github"],
        &["dead-letter", "redrive"],
        &["dead-letter", "redrive", "--all", "--endpoint", "ep_x"],
    ] {
        let (code, text) = said(&bowline(arguments, &[KEY, NOBODY]));
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
    }
}

#[test]
fn an_absent_api_ends_with_1_and_the_key_is_not_shown() {
    for arguments in
        [&["source", "list"][..], &["event", "list", "-o", "json"], &["trigger", "github", "--secret", "x"]]
    {
        let (code, text) = said(&bowline(arguments, &[KEY, NOBODY]));
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
        assert!(text.contains("admin API is not available") && !text.contains(KEY.1), "{text}");
    }
}

#[test]
fn help_names_every_command_and_hides_the_key() {
    let output = bowline(&["--help"], &[KEY]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0));
    for command in ["source", "endpoint", "trigger", "event", "delivery", "dead-letter", "migrate", "dev"] {
        assert!(text.contains(&format!("  {command} ")), "{command} is missing:\n{text}");
    }
    assert!(!text.contains(KEY.1), "{text}");
}
