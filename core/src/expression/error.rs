//! What can be wrong with an expression, and where. No message holds a value: it may be a secret.

use std::fmt;

use super::limits;
use crate::json::JsonFault;

const ALTERED: &str = "a text with half of a surrogate pair or a number beyond the range of a double";

/// Both count from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

impl Position {
    /// Where the byte `offset` of `text` stands.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let mut position = Self { line: 1, column: 1 };
        for (_, character) in text.char_indices().take_while(|(at, _)| *at < offset) {
            if character == '\n' {
                position = Self { line: position.line + 1, column: 1 };
            } else {
                position.column += 1;
            }
        }
        position
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why an expression is refused when it is saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {problem}")]
pub struct ExpressionError {
    pub position: Position,
    pub problem: String,
}

/// Why an expression has no value for this request or event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {fault}")]
pub struct EvaluationError {
    pub position: Position,
    pub fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it takes more than {} steps", limits::STEPS_MAX)]
    Steps,
    #[error("it makes more than {} bytes", limits::MADE_BYTES_MAX)]
    Bytes,
    #[error("there is no `{0}`")]
    NoSuchField(String),
    #[error("there is no such key")]
    NoSuchKey,
    #[error("the index is out of bounds")]
    OutOfBounds,
    #[error("{0}")]
    Kind(String),
    #[error("the number overflows")]
    Overflow,
    #[error("division by zero")]
    DivisionByZero,
    #[error("the body {0}")]
    Json(JsonFault),
    #[error("it looks at {ALTERED}, of which two different ones could be taken for the same")]
    Altered,
    #[error("the body is larger than the {} bytes that expressions read as JSON", limits::JSON_BYTES_MAX)]
    BodyTooLarge,
    #[error("this text is no {0}")]
    Unreadable(&'static str),
    #[error("there is no usable secret named `{0}`")]
    NoSecret(String),
    #[error("{0}")]
    Result(String),
}

impl Fault {
    /// The evaluation is over, whatever an `||` or `exists` would make of it.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Steps | Self::Bytes)
    }
}
