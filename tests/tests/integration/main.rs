//! End to end, against real Postgres and Redis, real services and real receivers.
//!
//! Each test has its own database and stream prefix; one that stops a store has that store to itself.

#![allow(
    clippy::unwrap_used,
    clippy::unnecessary_wraps,
    clippy::needless_for_each,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::format_push_string,
    reason = "tests: a panic is the failure being reported, and their own helpers need no ceremony"
)]

mod admin;
mod answers;
mod bad_receivers;
mod bindings;
mod by_hand;
mod cli;
mod config;
mod crash;
mod credentials;
mod delivery;
mod delivery_reads;
mod due_rows;
mod edge;
mod egress;
mod endpoint_rates;
mod endpoint_tests;
mod endpoints;
mod event_types;
mod expressions;
mod failing_sources;
mod failures;
mod fairness;
mod faults;
mod forgotten_claims;
mod formats;
mod forward_proxy;
mod handshakes;
mod health;
mod inbound;
mod journal;
mod keys_and_audit;
mod lines;
mod listing;
mod operations;
mod order;
mod parity;
mod pause;
mod payload_queries;
mod plans;
mod policies;
mod presets;
mod publish_batches;
mod receipts;
mod receiver_auth;
mod rejections;
mod reprocess;
mod retention;
mod shutdown;
mod signatures;
mod signed_places;
mod source_secrets;
mod source_setup;
mod sources_over_http;
mod stored_payloads;
mod stores;
mod tenants;
mod timings;
mod unread_answers;
mod waiting;
mod watch;
