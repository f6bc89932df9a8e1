//! What the integration tests stand on: real servers, real processes, real sockets.
//!
//! 1. [`stores`] gives one private Postgres and Redis for the whole run, or a test's own;
//!    [`database`] a fresh migrated database for each test.
//! 2. [`binaries`] finds the services, [`service`] runs one as a process of its own,
//!    [`stack`] a set of them over one database.
//! 3. [`cli`] runs the command line. [`provider`] plays the provider with [`http`] and [`sign`], [`receiver`] the customer,
//!    with certificates of an [`authority`], and [`raw`] one that misbehaves, [`admin`] the operator; [`receivers`] are
//!    customers that others have written.
//! 4. [`connect_proxy`] is the only way out of a network; [`proxy`] breaks connections where a test wants them broken.
//! 5. [`eventually`](fn@eventually::eventually) waits for a condition, with a bound: no test sleeps.
//!
//! Signatures are computed here by hand, from the providers' pages, and never by the engine under test.

pub mod admin;
pub mod authority;
pub mod binaries;
pub mod cli;
pub mod connect_proxy;
pub mod database;
pub mod eventually;
pub mod http;
pub mod provider;
pub mod proxy;
pub mod raw;
pub mod receiver;
pub mod receivers;
pub mod service;
pub mod sign;
pub mod stack;
pub mod stores;

pub use authority::Authority;
pub use cli::Cli;
pub use connect_proxy::ConnectProxy;
pub use eventually::{BOUND, eventually};
pub use provider::Provider;
pub use raw::RawReceiver;
pub use receiver::{Receiver, Reply};
pub use stack::Stack;
