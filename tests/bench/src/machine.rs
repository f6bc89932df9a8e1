//! Where this runs: one line.

use std::fs;
use std::process::Command;

use anyhow::Result;
use bowline_tests::database;

use crate::rig::Stores;

pub(crate) async fn line(stores: &Stores) -> Result<String> {
    let client = database::connect(&stores.postgres.url()).await?;
    let postgres: String = client.query_one("SELECT current_setting('server_version')", &[]).await?.get(0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok(format!(
        "{cores} cores ({}), {} GiB, Linux {}, Postgres {}, Redis {}",
        processor(),
        memory_gib(),
        kernel.trim(),
        postgres.split(' ').next().unwrap_or_default(),
        redis_version()
    ))
}

/// The commit that was measured; with a `+` where files differ from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if changed { commit + "+" } else { commit }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

fn memory_gib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse().ok());
    kib.unwrap_or(0_u64).div_ceil(1024 * 1024)
}

fn redis_version() -> String {
    let found = bowline_cli::local::binaries::redis().ok();
    let output = found.and_then(|path| Command::new(path).arg("--version").output().ok());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("unknown").to_owned()
}
