//! The load generator, a process of its own.
//!
//! 1. [`prepare`] builds and signs the requests, off the clock.
//! 2. [`call`] sends one of them over a connection that stays.
//! 3. [`pace`] says when: as soon as the last answer is there, or at a time of its own.

mod call;
mod pace;
mod prepare;

use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::payload::NUMBER_MAX;
use crate::wire::{LoadReport, LoadSpec};

const CONNECTIONS_MAX: usize = 4096;
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// More would take work from the services on a small machine, fewer could not keep them busy.
const THREADS_MAX: usize = 2;

/// Makes the load and says what came of it.
pub(crate) fn run(spec: LoadSpec) -> Result<LoadReport> {
    ensure!((1..=CONNECTIONS_MAX).contains(&spec.connections), "1 to {CONNECTIONS_MAX} connections");
    ensure!(spec.body_bytes <= BODY_BYTES_MAX, "bodies of at most {BODY_BYTES_MAX} bytes");
    ensure!(spec.pace.numbered().unwrap_or(0) <= NUMBER_MAX, "at most {NUMBER_MAX} requests");
    // That one was installed before is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = THREADS_MAX.min(cores).min(spec.connections);
    let prepared = Arc::new(prepare::Requests::prepare(spec)?);
    pace::run(&prepared, threads)
}
