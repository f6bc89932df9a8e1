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
    /// Of these, the columns that a list leaves out where none of its rows has anything in them.
    const SPARSE: &'static [&'static str] = &[];
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
    lines.extend(rows.iter().map(printable_cells));
    let said =
        |column: usize| lines[1..].iter().any(|line| line.get(column).is_some_and(|it| !it.is_empty()));
    let shown: Vec<bool> =
        T::HEADINGS.iter().enumerate().map(|(at, name)| !T::SPARSE.contains(name) || said(at)).collect();
    for line in &mut lines {
        let mut column = shown.iter();
        line.retain(|_| column.next().copied().unwrap_or(true));
    }
    let mut widths = Vec::new();
    for line in &lines {
        widen(&mut widths, line);
    }
    lines.iter().map(|line| padded(line, &widths)).collect()
}

fn printable_cells<T: Row>(row: &T) -> Vec<String> {
    row.cells().iter().map(|cell| printable(cell)).collect()
}

/// Makes room for a line.
fn widen(widths: &mut Vec<usize>, line: &[String]) {
    widths.resize(widths.len().max(line.len()), 0);
    for (width, cell) in widths.iter_mut().zip(line) {
        *width = (*width).max(cell.chars().count());
    }
}

fn padded(line: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    format!("{}\n", cells.join("  ").trim_end())
}

/// A table that goes on: its headings once, then a line a row. What is there is not printed again, so a column
/// is as wide as the widest cell so far.
#[derive(Debug, Default)]
pub struct Growing {
    widths: Vec<usize>,
}

impl Growing {
    /// # Errors
    /// When standard output is gone.
    pub fn show<T: Row>(&mut self, row: &T) -> Result<(), Failure> {
        text(&self.line(row))
    }

    fn line<T: Row>(&mut self, row: &T) -> String {
        let cells = printable_cells(row);
        if !self.widths.is_empty() {
            widen(&mut self.widths, &cells);
            return padded(&cells, &self.widths);
        }
        let headings: Vec<String> = T::HEADINGS.iter().map(ToString::to_string).collect();
        widen(&mut self.widths, &headings);
        widen(&mut self.widths, &cells);
        padded(&headings, &self.widths) + &padded(&cells, &self.widths)
    }
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
        const SPARSE: &'static [&'static str] = &["URL"];
        fn cells(&self) -> Vec<String> {
            vec![self.0.to_owned(), self.1.to_owned()]
        }
    }

    #[test]
    fn columns_line_up_and_control_characters_do_not_reach_the_terminal() {
        let shown = table(&[Pair("a-long-name", "http://x"), Pair("b", "\u{1b}[2J")]);
        assert_eq!(shown, "NAME         URL\na-long-name  http://x\nb            \u{fffd}[2J\n");
    }

    #[test]
    fn a_column_without_a_word_is_left_out_where_it_may_be() {
        assert_eq!(table(&[Pair("a", ""), Pair("b", "")]), "NAME\na\nb\n");
        assert_eq!(table(&[Pair("", "x"), Pair("", "")]), "NAME  URL\n      x\n\n");
    }

    #[test]
    fn a_table_that_goes_on_has_its_headings_once() {
        let mut growing = Growing::default();
        let shown: String = [Pair("a", ""), Pair("a-long-name", "x"), Pair("b", "y")]
            .iter()
            .map(|row| growing.line(row))
            .collect();
        assert_eq!(shown, "NAME  URL\na\na-long-name  x\nb            y\n");
    }
}
