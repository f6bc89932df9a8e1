//! What must hold for any input from outside, whatever a fuzzer makes of it.
//!
//! Each module has a `check`, which panics when one of its properties does not hold, `SEEDS` to begin with,
//! and `WORDS` that a guess rarely hits. The targets of cargo-fuzz (`fuzz/` at the top of the tree) call
//! `check` for as long as one likes; the tests here call it for a fixed number of inputs that [`generate`]
//! makes, the same ones each time.
//!
//! 1. [`signature_headers`]: what was not signed with the secret is not accepted.
//! 2. [`scheme_files`]: what is read is written and read again; what is refused names its field.
//! 3. [`cel_inputs`]: an evaluation is bounded, gives the same again, and tells no value.
//! 4. [`http_edge`]: what is taken for requests is what a strict reader sees, however it is cut.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that is looked for")]

pub mod cel_inputs;
pub mod generate;
pub mod http_edge;
pub mod scheme_files;
pub mod signature_headers;
mod strict;
