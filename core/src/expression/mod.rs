//! CEL, the one expression language: names and verifies what comes in, filters and transforms what
//! goes out.
//!
//! 1. [`parse`] turns text into a syntax tree with the `cel` crate: its grammar and its macros.
//! 2. [`check`] gives every node a [`Kind`](kind::Kind) by the variables of its [`Place`], and refuses
//!    what cannot work with the position where it stands; [`call`] knows the functions.
//! 3. [`evaluate`] computes a [`Value`] of a [`Scope`] within a [`Budget`].
//!
//! The crate's own interpreter is not used: it has no type check and no bound on what an expression
//! costs, and its errors carry the values they are about. Here a text has a length, a tree a depth
//! and a number of nodes, a regular expression a size, and an evaluation a number of steps and of
//! bytes it may make, so an expression fails alone (invariant 12), and an error never holds a value.
//! Secrets have a kind of their own that only `constant_time_eq` can compare (invariant 8).

mod budget;
mod call;
mod check;
mod compute;
mod error;
mod evaluate;
mod function;
mod kind;
mod loops;
mod node;
mod operate;
mod parse;
mod program;
mod scope;
mod value;

#[cfg(test)]
mod tests;

pub use budget::Budget;
pub use error::{EvaluationError, ExpressionError, Fault, Position};
pub use kind::Place;
pub use program::{LooksAt, Program};
pub use scope::{DeliveryScope, RequestScope, Scope, SecretLookup};
pub use value::Value;

/// What is kept within these fails alone.
pub mod limits {
    /// Of the text of an expression.
    pub const SOURCE_BYTES_MAX: usize = 4096;
    /// Of brackets and conditionals in each other.
    pub const NESTING_MAX: u16 = 32;
    /// Of nodes below each other; chains such as `a + b + c` are as deep as they are long.
    pub const DEPTH_MAX: usize = 64;
    /// Of nodes, macros expanded.
    pub const NODES_MAX: usize = 1024;
    /// Of the pattern of `matches`, compiled.
    pub const REGEX_BYTES_MAX: usize = 256 * 1024;
    /// Nodes visited, elements looped over, and bytes looked at (64 count as one step).
    pub const STEPS_MAX: u64 = 100_000;
    /// Of all text, bytes, lists and maps that one evaluation makes.
    pub const MADE_BYTES_MAX: u64 = 4 * 1024 * 1024;
    /// Of a body that is read as JSON.
    pub const JSON_BYTES_MAX: usize = 1024 * 1024;
    /// Of the name of an event or a channel.
    pub const NAME_BYTES_MAX: usize = 256;
    /// Of a deduplication key.
    pub const KEY_BYTES_MAX: usize = 4096;
}
