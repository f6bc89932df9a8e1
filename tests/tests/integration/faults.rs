//! A short course of the fault suite and a small volume of hostile input: `tests/faults/run` has more.

use std::path::PathBuf;
use std::process::{Command, Output};

use bowline_tests::binaries;

fn run(arguments: &[&str]) -> Output {
    let program: PathBuf = binaries::find("bowline-faults").unwrap();
    Command::new(program).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

/// A dispatcher dies, Redis is emptied, a replica is cut off from Postgres: one after the other, then mixed.
#[test]
fn a_short_course_of_faults_is_survived() {
    let faults =
        ["dispatcher.kill", "redis.flush", "net.postgres.cut"].map(|fault| ["--fault", fault]).concat();
    let output = run(&[&["--seed", "4", "--minutes", "0.25", "--rate", "40"], &faults[..]].concat());
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("survived") && !said.contains("VIOLATION"), "{said}");
}

#[test]
fn hostile_requests_are_all_refused() {
    let output = run(&["--hostile", "--seed", "4", "--http", "3000", "--grpc", "300"]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("0 violations"), "{said}");
}

#[test]
fn a_fault_that_nobody_knows_is_named() {
    let output = run(&["--fault", "flood"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("no fault is named flood"), "{}", said(&output));
}
