//! The table of what the reference systems have is complete: every row says what shows it, or `open:`.
//!
//! A row is `| what their page has | ours | shown by |`. The last cell names tests in backticks, by
//! function name with or without its path, and each must exist; or it is `open:` and what is missing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names of all functions in the Rust sources of the project.
fn functions(folder: &Path, found: &mut HashSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            functions(&path, found);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let named = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(named.map(str::to_owned));
        }
    }
}

/// What is wrong with the last two cells of a row.
fn fault(cells: &[&str], known: &HashSet<String>) -> Option<String> {
    let [_, .., ours, shown] = cells else { return Some("fewer than three cells".to_owned()) };
    let open = |cell: &str| cell.strip_prefix("open:").is_some_and(|missing| !missing.trim().is_empty());
    if open(shown) || open(ours) {
        return None;
    }
    if ours.is_empty() {
        return Some("says neither what is ours nor `open:`".to_owned());
    }
    let tests: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
    if tests.is_empty() {
        return Some("names neither a test nor `open:`".to_owned());
    }
    let missing = |test: &&&str| !known.contains(test.rsplit("::").next().unwrap_or(test));
    tests.iter().find(missing).map(|test| format!("names `{test}`, and there is no such test"))
}

#[test]
fn every_row_of_the_parity_table_is_shown_or_open() {
    let table = std::fs::read_to_string(root().join("tests/reference/PARITY.md")).expect("PARITY.md");
    let mut known = HashSet::new();
    functions(&root(), &mut known);
    let (mut rows, mut faults) = (0, Vec::new());
    let lines: Vec<_> = table.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let next_is_rule =
            lines.get(number + 1).is_some_and(|next| next.starts_with("|-") || next.starts_with("| -"));
        let is_rule = line.starts_with("|-") || line.starts_with("| -");
        if !line.starts_with('|') || is_rule || next_is_rule {
            continue;
        }
        rows += 1;
        // A bar within a cell is written `\|`.
        let line = line.replace("\\|", "\u{a6}");
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        faults.extend(fault(&cells, &known).map(|fault| format!("line {}: {fault}", number + 1)));
    }
    assert!(rows > 100, "five systems have more to them than {rows} rows");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_row_with_neither_is_found() {
    let known = HashSet::from(["a_test".to_owned()]);
    for (row, sound) in [
        (&["signature", "`verify`", "`presets::a_test`"][..], true),
        (&["signature", "", "open: not built"], true),
        (&["signature", "verify", ""], false),
        (&["signature", "verify", "open:"], false),
        (&["signature", "verify", "`no_such_test`"], false),
        (&["signature", "", "`a_test`"], false),
        (&["signature", "`a_test`"], false),
    ] {
        assert_eq!(fault(row, &known).is_none(), sound, "{row:?}");
    }
}
