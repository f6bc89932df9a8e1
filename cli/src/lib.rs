//! The library behind the command `bowline`.
//!
//! 1. [`local`] runs a private Postgres and a private Redis, for `bowline dev` and for the tests.

pub mod local;
