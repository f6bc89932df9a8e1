//! How much an evaluation may do.

use std::cell::Cell;

use super::error::Fault;
use super::limits;

/// Counted down; once it is used up every further step fails.
#[derive(Debug)]
pub struct Budget {
    steps: Cell<u64>,
    made_bytes: Cell<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: Cell::new(limits::STEPS_MAX), made_bytes: Cell::new(limits::MADE_BYTES_MAX) }
    }
}

impl Budget {
    pub(super) fn step(&self) -> Result<(), Fault> {
        self.steps(1)
    }

    pub(super) fn steps(&self, steps: u64) -> Result<(), Fault> {
        Self::take(&self.steps, steps).ok_or(Fault::Steps)
    }

    /// For looking at so many bytes.
    pub(super) fn look(&self, bytes: usize) -> Result<(), Fault> {
        self.steps(bytes as u64 / 64 + 1)
    }

    /// Before so many bytes are made.
    pub(super) fn make(&self, bytes: usize) -> Result<(), Fault> {
        self.look(bytes)?;
        Self::take(&self.made_bytes, bytes as u64).ok_or(Fault::Bytes)
    }

    fn take(from: &Cell<u64>, amount: u64) -> Option<()> {
        let left = from.get().checked_sub(amount);
        from.set(left.unwrap_or(0));
        left.map(|_| ())
    }

    /// Steps taken so far.
    pub fn used_steps(&self) -> u64 {
        limits::STEPS_MAX - self.steps.get()
    }
}
