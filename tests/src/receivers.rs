//! Receivers that others have written: programs in `tests/receivers`, with the packages they use.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::receiver::Recorded;

const NODE_PACKAGE: &str = "standardwebhooks@1.1.1";
const PYTHON_PACKAGE: &str = "standardwebhooks==1.1.0";

/// A request as these programs read it.
pub fn seen(request: &Recorded) -> Value {
    let headers: serde_json::Map<String, Value> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    serde_json::json!({"headers": headers, "body": String::from_utf8_lossy(&request.body)})
}

/// The folder in which Node finds the package `standardwebhooks`, fetched at the first use. `None`, with a
/// line that says why, where there is no Node or no way to fetch.
pub async fn node_packages() -> Option<PathBuf> {
    let fetch = async || {
        let folder = folder("node")?;
        if !folder.join("node_modules/standardwebhooks").is_dir() {
            let prefix = folder.to_string_lossy();
            let quietly =
                ["install", "--silent", "--no-audit", "--no-fund", "--prefix", &prefix, NODE_PACKAGE];
            run("npm", &quietly).await?;
        }
        Ok(folder)
    };
    or_skipped("Node's standardwebhooks", fetch().await)
}

/// The folder in which Python finds its package of that name; as [`node_packages`].
pub async fn python_packages() -> Option<PathBuf> {
    let fetch = async || {
        let folder = folder("python")?;
        if !folder.join("standardwebhooks").is_dir() {
            let target = folder.to_string_lossy();
            let quietly =
                ["-m", "pip", "install", "--quiet", "--no-deps", "--target", &target, PYTHON_PACKAGE];
            run("python3", &quietly).await?;
        }
        Ok(folder)
    };
    or_skipped("Python's standardwebhooks", fetch().await)
}

/// Gives `input` to a program that needs no package, as [`ask`]. `None`, with a line that says why, where there is no
/// Node.
pub async fn node(script: &str, input: &Value) -> Option<Result<Value>> {
    or_skipped("Node", run("node", &["--version"]).await)?;
    Some(ask(Path::new("node"), script, &[], input).await)
}

/// Beside what was built.
fn folder(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let built = test.parent().and_then(Path::parent).context("a target folder")?;
    let folder = built.join("receivers").join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn or_skipped<T>(what: &str, fetched: Result<T>) -> Option<T> {
    fetched.inspect_err(|error| eprintln!("skipped: {what} is not to be had here: {error:#}")).ok()
}

async fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await;
    let output = output.with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Gives `input` to a program of `tests/receivers`; what it prints, or what it complains of.
///
/// # Errors
/// When it refuses the request.
pub async fn ask(program: &Path, script: &str, arguments: &[&Path], input: &Value) -> Result<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("receivers").join(script);
    let mut child = Command::new(program)
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| program.display().to_string())?;
    let mut stdin = child.stdin.take().context("its standard input")?;
    stdin.write_all(input.to_string().as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
