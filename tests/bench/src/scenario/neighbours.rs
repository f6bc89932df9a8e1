use super::Bench;
use crate::report::Metric;
use anyhow::Result;
pub(super) async fn run(_: &Bench) -> Result<Vec<Metric>> {
    Ok(Vec::new())
}
