//! The command `bowline`, as a library: a client of the admin API, and all of Bowline on one machine.
//!
//! 1. [`arguments`] says what can be asked; [`secret_input`] how a secret is handed over, `scheme_file`
//!    how a signature scheme is.
//! 2. [`client`] is the connection to the admin API; each file of [`command`] asks for one noun.
//! 3. [`view`] and [`output`] show the answer; [`failure`] says what went wrong and the exit code,
//!    `flag_name` by which flag a field of the API was given, `nearest` what a slip was to be.
//! 4. [`dev`] runs everything on this machine, on the private servers of [`local`] (the tests stand
//!    on these too).

pub mod arguments;
pub mod client;
pub mod command;
pub mod dev;
pub mod failure;
mod flag_name;
pub mod local;
mod nearest;
pub mod output;
mod scheme_file;
pub mod secret_input;
pub mod view;
