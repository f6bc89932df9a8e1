//! What the kernel says of a process: its CPU time and its memory.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const KIB: u64 = 1024;
/// The kernel counts CPU time in these.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process so far, that of its ended children included.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    cpu_of(&fs::read_to_string(format!("/proc/{pid}/stat")).context("the state of a process")?)
}

/// The same for a process and all its children, as Postgres has one for each connection.
pub(crate) fn cpu_of_family(pid: u32) -> Result<Duration> {
    let mut sum = cpu(pid)?;
    for entry in fs::read_dir("/proc")?.flatten() {
        // One that has just ended counts with its parent.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if fields(&stat).and_then(|fields| fields.get(1)?.parse().ok()) == Some(pid) {
            sum += cpu_of(&stat)?;
        }
    }
    Ok(sum)
}

/// The share of all processors that is in use, watched for a while.
pub(crate) async fn busy(sample: Duration) -> Result<f64> {
    let (before, start) = (idle_ticks()?, Instant::now());
    tokio::time::sleep(sample).await;
    let idle = TICK.as_secs_f64() * idle_ticks()?.saturating_sub(before) as f64;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok((1.0 - idle / (start.elapsed().as_secs_f64() * cores as f64)).clamp(0.0, 1.0))
}

/// Of all processors since the machine started; waiting for a disk is idle too.
fn idle_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("the state of the processors")?;
    let all = text.lines().next().context("a line for all processors")?;
    // cpu user nice system idle iowait …
    Ok(all.split_whitespace().skip(4).take(2).flat_map(str::parse::<u64>).sum())
}

/// Bytes of memory a process has now.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// The most it ever had.
pub(crate) fn resident_peak(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, field: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the state of a process")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("a line about memory")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * KIB)
}

/// What follows the name, which may itself hold blanks and brackets: state, parent, …
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(") ")?.1.split(' ').collect())
}

fn cpu_of(stat: &str) -> Result<Duration> {
    // utime, stime, cutime, cstime are fields 14 to 17 of proc_pid_stat(5), in ticks of 10 ms.
    let fields = fields(stat).context("a line of /proc/PID/stat")?;
    let ticks: u32 =
        fields.get(11..15).context("CPU times")?.iter().flat_map(|text| text.parse::<u32>()).sum();
    Ok(TICK * ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_some_cpu_and_memory() {
        let pid = std::process::id();
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 50 25 15 10 20 0 1 0 9";
        assert_eq!(cpu_of(stat).unwrap(), Duration::from_secs(1));
        assert_eq!(fields(stat).unwrap()[1], "1");
        assert!(cpu_of_family(pid).unwrap() >= Duration::ZERO);
        assert!(resident(pid).unwrap() <= resident_peak(pid).unwrap());
        assert!(resident(pid).unwrap() > 100 * KIB);
    }
}
