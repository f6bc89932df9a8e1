//! How a command answers: a table for people, or one stable JSON document for scripts.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Table,
    /// One document for scripts; its fields stay
    Json,
}

/// A list as a table.
pub trait Row {
    const HEADINGS: &'static [&'static str];
    fn cells(&self) -> Vec<String>;
}

/// Prints a list: a table, or `{"<noun>": [...], "next_page_token": "..."}`.
///
/// # Errors
/// When standard output is gone.
pub fn list<T: Row + Serialize>(
    form: Form,
    noun: &str,
    rows: &[T],
    next_page_token: &str,
) -> Result<(), Failure> {
    match form {
        Form::Json => json(&serde_json::json!({ noun: rows, "next_page_token": next_page_token })),
        Form::Table if rows.is_empty() => text(&format!("no {}\n", noun.replace('_', " "))),
        Form::Table => text(&table(rows)),
    }
}

/// Prints one thing: lines of `name  value`, or its JSON.
///
/// # Errors
/// When standard output is gone.
pub fn one<T: Serialize>(form: Form, value: &T, lines: &[(&str, String)]) -> Result<(), Failure> {
    match form {
        Form::Json => json(value),
        Form::Table => {
            let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            lines
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .try_for_each(|(name, value)| text(&format!("{name:width$}  {}\n", printable(value))))
        }
    }
}

/// Prints that one thing is gone.
///
/// # Errors
/// When standard output is gone.
pub fn deleted(form: Form, id: String) -> Result<(), Failure> {
    one(form, &serde_json::json!({ "id": id }), &[("deleted", id)])
}

/// # Errors
/// When standard output is gone.
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let document = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
    text(&format!("{document}\n"))
}

/// # Errors
/// When standard output is gone.
pub fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// # Errors
/// When standard output is gone.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // The reader of a pipe (`head`) has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::Other(error.into())),
    }
}

fn table<T: Row>(rows: &[T]) -> String {
    let mut lines: Vec<Vec<String>> = vec![T::HEADINGS.iter().map(ToString::to_string).collect()];
    lines.extend(rows.iter().map(|row| row.cells().iter().map(|cell| printable(cell)).collect::<Vec<_>>()));
    let widths: Vec<usize> = (0..T::HEADINGS.len())
        .map(|column| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut shown = String::new();
    for line in lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        shown.push_str(padded.join("  ").trim_end());
        shown.push('\n');
    }
    shown
}

/// What came from outside must not move the terminal's cursor.
pub fn printable(value: &str) -> String {
    value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pair(&'static str, &'static str);

    impl Row for Pair {
        const HEADINGS: &'static [&'static str] = &["NAME", "URL"];
        fn cells(&self) -> Vec<String> {
            vec![self.0.to_owned(), self.1.to_owned()]
        }
    }

    #[test]
    fn columns_line_up_and_control_characters_do_not_reach_the_terminal() {
        let shown = table(&[Pair("a-long-name", "http://x"), Pair("b", "\u{1b}[2J")]);
        assert_eq!(shown, "NAME         URL\na-long-name  http://x\nb            \u{fffd}[2J\n");
    }
}
