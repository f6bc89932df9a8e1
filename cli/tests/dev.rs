//! `bowline dev` as a process: what it starts ends with it, however it ends.
//!
//! Only the stores are started here; the services have their part in the integration tests.

#![allow(clippy::unwrap_used, reason = "a panic is the failure being reported")]
#![allow(clippy::zombie_processes, reason = "Dev waits for its process when it is dropped")]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use bowline_cli::dev::Ready;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const BOUND: Duration = Duration::from_secs(60);
const CLIENT_KEY: &str = "bowline-test-key-of-a-client";

struct Dev {
    child: Child,
    ready_file: PathBuf,
    log: PathBuf,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let ready_file = std::env::temp_dir().join(format!("bowline-dev-test-{:x}", rand::random::<u64>()));
        let log = ready_file.with_extension("log");
        let child = Command::new(env!("CARGO_BIN_EXE_bowline"))
            .args(["dev", "--stores-only", "--ready-file"])
            .arg(&ready_file)
            .args(arguments)
            .env_remove("BOWLINE_POSTGRES_URL")
            .env_remove("BOWLINE_REDIS_URL")
            .env_remove("BOWLINE_DEV_ADMIN_KEY")
            // The key of a client is none of ours.
            .env("BOWLINE_ADMIN_KEY", CLIENT_KEY)
            .stdout(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, ready_file, log }
    }

    fn ready(&self) -> Ready {
        until("it is ready", || self.ready_file.exists());
        Ready::read(&self.ready_file).unwrap()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // What a failed test leaves must go too; it is gone already after a good one.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.ready_file);
        let _ = std::fs::remove_file(&self.log);
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {BOUND:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn lives(pid: Option<u32>) -> bool {
    kill(Pid::from_raw(pid.expect("the server is ours") as i32), None).is_ok()
}

#[test]
fn sigterm_stops_all_of_it_and_withdraws_the_ready_file() {
    let mut dev = Dev::start(&[]);
    let ready = dev.ready();
    assert!(ready.admin_key.starts_with("bwl_"));
    assert_eq!(std::fs::read_to_string(&ready.admin_key_file).unwrap().trim(), ready.admin_key);
    assert!(lives(ready.pids.postgres) && lives(ready.pids.redis));
    dev.signal(Signal::SIGTERM);
    assert!(dev.child.wait().unwrap().success());
    assert!(!lives(ready.pids.postgres) && !lives(ready.pids.redis));
    assert!(!dev.ready_file.exists() && !ready.admin_key_file.exists());
}

#[test]
fn a_data_folder_in_use_is_refused_and_kept_over_a_restart() {
    let folder = std::env::temp_dir().join(format!("bowline-data-{:x}", rand::random::<u64>()));
    let data = folder.to_str().unwrap();
    let mut dev = Dev::start(&["--data", data]);
    let first = dev.ready();
    assert_eq!(dev.said().matches("making the database, once").count(), 1, "{}", dev.said());
    assert_eq!(first.admin_key_file, folder.canonicalize().unwrap().join("admin-key"));
    // The same ready file, too.
    let second = Command::new(env!("CARGO_BIN_EXE_bowline"))
        .args(["dev", "--stores-only", "--data", data, "--ready-file"])
        .arg(&dev.ready_file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("in use by another `bowline dev` (process {})", dev.child.id())),
        "{said}"
    );
    assert_eq!(Ready::read(&dev.ready_file).unwrap(), first);
    assert!(lives(first.pids.postgres) && lives(first.pids.redis));
    dev.signal(Signal::SIGTERM);
    assert!(dev.child.wait().unwrap().success());

    let mut again = Dev::start(&["--data", data]);
    let ready = again.ready();
    assert!(!again.said().contains("making the database"), "{}", again.said());
    assert_eq!((&ready.admin_key, &ready.postgres_url), (&first.admin_key, &first.postgres_url));
    again.signal(Signal::SIGTERM);
    assert!(again.child.wait().unwrap().success());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn sigkill_leaves_no_process_either() {
    let mut dev = Dev::start(&[]);
    let ready = dev.ready();
    dev.signal(Signal::SIGKILL);
    dev.child.wait().unwrap();
    until("its servers are gone", || !lives(ready.pids.postgres) && !lives(ready.pids.redis));
}

#[test]
fn a_redis_that_dies_comes_back_and_the_ready_file_follows() {
    let mut dev = Dev::start(&["--redis-restart-after", "100ms"]);
    let first = dev.ready();
    kill(Pid::from_raw(first.pids.redis.unwrap() as i32), Signal::SIGKILL).unwrap();
    until("redis is back", || {
        Ready::read(&dev.ready_file)
            .is_ok_and(|now| now.pids.redis.is_some_and(|pid| Some(pid) != first.pids.redis))
    });
    let second = Ready::read(&dev.ready_file).unwrap();
    assert_eq!(second.redis_url, first.redis_url);
    dev.signal(Signal::SIGINT);
    assert!(dev.child.wait().unwrap().success());
    assert!(!lives(second.pids.redis));
}
