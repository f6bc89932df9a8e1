//! Crash points: in builds with the feature `crash-points`, `BOWLINE_CRASH_AT=name` (or `name:N`)
//! ends the process at once, as SIGKILL would, at the first (N-th) pass of that point. Other builds
//! carry none of this.

#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSES: AtomicU64 = AtomicU64::new(0);

    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("BOWLINE_CRASH_AT").ok()?;
        Some(match text.split_once(':') {
            Some((name, nth)) => (name.to_owned(), nth.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    if let Some((wanted, nth)) = wanted
        && wanted == name
        && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *nth
    {
        std::process::abort();
    }
}

#[cfg(not(feature = "crash-points"))]
pub fn point(_name: &str) {}
