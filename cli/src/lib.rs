//! The command `bowline`, as a library: a client of the admin API, and all of Bowline on one machine.
//!
//! 1. [`arguments`] says what can be asked; [`secret_input`] how a secret is handed over.
//! 2. [`client`] is the connection to the admin API; each file of [`command`] asks for one noun.
//! 3. [`view`] and [`output`] show the answer; [`failure`] says what went wrong and the exit code.
//! 4. [`dev`] runs everything on this machine, on the private servers of [`local`] (the tests stand
//!    on these too).

pub mod arguments;
pub mod client;
pub mod command;
pub mod dev;
pub mod failure;
pub mod local;
pub mod output;
pub mod secret_input;
pub mod view;
