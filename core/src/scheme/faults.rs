//! Collects every fault of a description, so that all are named at once.

use super::error::{SchemeError, SchemeFault};
use super::limits;

#[derive(Default)]
pub(super) struct Faults(Vec<SchemeFault>);

impl Faults {
    pub(super) fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(SchemeFault { field: field.into(), problem: problem.into() });
    }

    pub(super) fn limit(&mut self, field: &str, len: usize) {
        if len > limits::LIST_MAX {
            self.add(field, format!("more than {} entries", limits::LIST_MAX));
        }
    }

    pub(super) fn text(&mut self, field: &str, text: &str) {
        if text.len() > limits::TEXT_BYTES_MAX {
            self.add(field, format!("longer than {} bytes", limits::TEXT_BYTES_MAX));
        }
        // What signing writes must fit a header.
        if text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
            self.add(field, "holds something other than printable ASCII");
        }
    }

    pub(super) fn into_result(self) -> Result<(), SchemeError> {
        if self.0.is_empty() { Ok(()) } else { Err(SchemeError { faults: self.0 }) }
    }
}
