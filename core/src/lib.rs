//! What both services of Bowline stand on.
//!
//! A webhook becomes an *event* here and nowhere else. The way of the data through this crate:
//!
//! 1. [`scheme`] verifies what came in and signs what goes out, from one declarative description;
//!    [`preset`] holds those descriptions for providers, [`format`] those of outbound bodies and headers.
//!    [`inbound`] judges a whole request by them.
//! 2. [`journal`] commits events, deduplication keys and outbox rows in one transaction.
//! 3. [`streams`] hints committed chunks to dispatchers over Redis.
//! 4. [`store`] is all SQL; [`snapshot`] is the configuration each process keeps in memory;
//!    [`replica`] is the life and death of a process as the others see it.
//! 5. [`query`] answers questions about the payloads of a source, a [`binding`] keeps an answer fresh;
//!    [`expression`] is CEL, by which events are named, verified, filtered and transformed.
//!    [`stored_payloads`] lets bodies go that a source does not keep. [`watch`] tells those who watch a log how far
//!    it has come. What takes long is done [`apart`], by tenants in turns.
//! 6. [`egress`] is the only door through which a request leaves; [`fetched_keys`] asks providers for
//!    theirs through it, and [`access_token`] authorization servers for tokens.
//! 7. [`secrets`] seals what must not be read; [`bootstrap`] starts and stops a process.
//!
//! The nouns are in [`tenant`], [`source`], [`catalog`], [`endpoint`], [`event`] (with its [`headers`]),
//! [`delivery`] and [`operation`];
//! [`own_event`] is what Bowline tells about itself; every default is in [`defaults`].

pub mod access_token;
pub mod apart;
pub mod binding;
pub mod bootstrap;
pub mod catalog;
pub mod crash;
pub mod defaults;
pub mod delivery;
pub mod egress;
pub mod endpoint;
pub mod endpoint_auth;
pub mod event;
pub mod expression;
pub mod fetched_keys;
pub mod format;
pub mod headers;
pub mod id;
pub mod inbound;
pub mod journal;
mod json;
pub mod operation;
pub mod own_event;
pub mod preset;
pub mod query;
pub mod replica;
pub mod scheme;
pub mod secrets;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod stored_payloads;
pub mod streams;
pub mod tenant;
pub mod trace_context;
pub mod watch;
