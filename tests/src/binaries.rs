//! Where the built services are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The services under test are built with this, so that they can be made to die at a chosen point.
const BUILD: &str = "cargo build --workspace --all-targets --features \
                     bowline-ingest/crash-points,bowline-dispatcher/crash-points";

/// The binary of that name, beside the test that runs.
///
/// # Errors
/// When it has not been built, with the command that does.
pub fn find(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("where this test is")?;
    let profile = test
        .ancestors()
        .find(|folder| folder.join(name).is_file())
        .or_else(|| test.parent().and_then(Path::parent))
        .context("a target folder")?;
    let binary = profile.join(name);
    ensure!(binary.is_file(), "{name} is not built: run `tests/run`, or `{BUILD}` and then the tests again");
    Ok(binary)
}
