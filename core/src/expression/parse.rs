//! Text to syntax tree, by the grammar and the macros of the `cel` crate.

use std::thread;

use cel::IdedExpr;
use cel::common::ast::SourceInfo;
use cel::parser::Parser;

use super::error::{ExpressionError, Position};
use super::limits;

/// The crate's parser descends through its whole grammar for each bracket. The deepest it can get
/// within the limits takes some megabytes; pages that are not touched cost nothing.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Parses on a thread of its own and hands the tree to `then` there: only such a stack is sure to
/// hold what walks or frees a tree that was not checked yet. A panic in the parser ends that thread
/// alone.
pub(super) fn with_tree<T: Send + 'static>(
    text: &str,
    then: impl FnOnce(&IdedExpr, &SourceInfo) -> Result<T, ExpressionError> + Send + 'static,
) -> Result<T, ExpressionError> {
    let start = Position { line: 1, column: 1 };
    let refuse = |problem: &str| ExpressionError { position: start, problem: problem.to_owned() };
    if text.trim().is_empty() {
        return Err(refuse("the expression is empty"));
    }
    if text.len() > limits::SOURCE_BYTES_MAX {
        return Err(refuse(&format!("must be at most {} bytes", limits::SOURCE_BYTES_MAX)));
    }
    let text = text.to_owned();
    let parse = move || {
        let parser = Parser::new().max_recursion_depth(limits::NESTING_MAX).error_recovery_limit(1);
        match parser.parse_with_source_info(&text) {
            Ok((tree, positions)) => then(&tree, &positions),
            Err(faults) => Err(first_fault(&faults.errors)),
        }
    };
    thread::Builder::new()
        .name("expression".into())
        .stack_size(STACK_BYTES)
        .spawn(parse)
        .map_err(|_| refuse("there is no memory to read it; try again"))?
        .join()
        .unwrap_or_else(|_| Err(refuse("this text is not understood")))
}

fn first_fault(faults: &[cel::ParseError]) -> ExpressionError {
    let Some(fault) = faults.first() else {
        let position = Position { line: 1, column: 1 };
        return ExpressionError { position, problem: "this text is not understood".into() };
    };
    let count = |number: isize| u32::try_from(number).unwrap_or(1).max(1);
    let position = Position { line: count(fault.pos.0), column: count(fault.pos.1) };
    let problem = if fault.msg.contains("Recursion limit") {
        format!("brackets and conditionals are nested deeper than {}", limits::NESTING_MAX)
    } else {
        let message = fault.msg.strip_prefix("Syntax error: ").unwrap_or(&fault.msg);
        message.chars().take(200).collect()
    };
    ExpressionError { position, problem }
}
