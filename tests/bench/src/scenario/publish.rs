//! Events published over gRPC, committed, with no dispatcher beside.

use anyhow::Result;

use super::Bench;
use super::front::{self, Door};
use crate::report::Metric;

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    front::run(bench, Door::Grpc, &[]).await
}
