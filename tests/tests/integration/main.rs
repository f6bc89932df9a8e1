//! End to end, against real Postgres and Redis, real services and real receivers.
//!
//! Each test has its own database and stream prefix; one that stops a store has that store to itself.

mod admin;
mod config;
mod crash;
mod delivery;
mod egress;
mod endpoints;
mod failures;
mod formats;
mod inbound;
mod journal;
mod parity;
mod pause;
mod presets;
mod shutdown;
mod stores;
