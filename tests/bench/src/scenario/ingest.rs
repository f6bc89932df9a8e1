//! Webhooks verified, deduplicated and committed, with no dispatcher beside.

use anyhow::Result;

use super::Bench;
use super::front::{self, Door};
use crate::report::{Budget, Metric};

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    front::run(bench, Door::Http, &[Budget::RatioAtLeast(0.33), Budget::AtLeast(25_000.0)]).await
}
