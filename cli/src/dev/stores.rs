//! A Postgres or a Redis of ours, kept running until it is stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::logs::say;
use super::ready::{Board, Ready};
use super::service::say_how_stopped;
use crate::local::process::Stopped;
use crate::local::{LocalError, PrivatePostgres, PrivateRedis};

/// A server of ours that is kept running.
trait Server: Send + 'static {
    const NAME: &'static str;
    fn pid(&self) -> u32;
    fn tell(ready: &mut Ready, pid: Option<u32>);
    fn ended(&mut self) -> impl Future<Output = Result<String, LocalError>> + Send;
    fn restart(&mut self) -> impl Future<Output = Result<(), LocalError>> + Send;
    fn stop(&mut self) -> impl Future<Output = Result<Stopped, LocalError>> + Send;
}

macro_rules! server {
    ($server:ty, $name:literal, $field:ident) => {
        impl Server for $server {
            const NAME: &'static str = $name;
            fn pid(&self) -> u32 {
                Self::pid(self)
            }
            fn tell(ready: &mut Ready, pid: Option<u32>) {
                ready.pids.$field = pid;
            }
            async fn ended(&mut self) -> Result<String, LocalError> {
                Self::ended(self).await
            }
            async fn restart(&mut self) -> Result<(), LocalError> {
                Self::restart(self).await
            }
            async fn stop(&mut self) -> Result<Stopped, LocalError> {
                Self::stop(self).await
            }
        }
    };
}

server!(PrivatePostgres, "postgres", postgres);
server!(PrivateRedis, "redis", redis);

/// A server being kept; [`Kept::stop`] ends it.
#[derive(Debug)]
pub(super) struct Kept {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Kept {
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            say(&format!("what watched a server failed: {error}"));
        }
    }
}

/// Keeps Postgres running: nothing works without it, so it comes back at once.
pub(super) fn keep_postgres(server: PrivatePostgres, board: Arc<Board>, restart: bool) -> Kept {
    keep(server, board, restart.then_some(Duration::from_millis(500)))
}

/// Keeps Redis running; it stays away for `pause`, so that one can see that nothing is lost without it.
pub(super) fn keep_redis(server: PrivateRedis, board: Arc<Board>, pause: Option<Duration>) -> Kept {
    keep(server, board, pause)
}

fn keep<S: Server>(server: S, board: Arc<Board>, pause: Option<Duration>) -> Kept {
    // Before the ready file can be written, not when the task has its turn.
    tell::<S>(&board, Some(server.pid()));
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch(server, board, pause, stop.clone()));
    Kept { task, stop }
}

async fn watch<S: Server>(
    mut server: S,
    board: Arc<Board>,
    pause: Option<Duration>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            ended = server.ended() => {
                let how = ended.unwrap_or_else(|error| error.to_string());
                tell::<S>(&board, None);
                let Some(pause) = pause else {
                    say(&format!("{} ended ({how}) and stays down (--no-restart)", S::NAME));
                    stop.cancelled().await;
                    break;
                };
                say(&format!("{} ended ({how}): starting it again in {:.1} s", S::NAME, pause.as_secs_f64()));
                if timeout(pause, stop.cancelled()).await.is_ok() {
                    break;
                }
                match server.restart().await {
                    Ok(()) => {
                        tell::<S>(&board, Some(server.pid()));
                        say(&format!("{} is back, process {}", S::NAME, server.pid()));
                    }
                    // The loop sees that it has ended, and tries again after the pause.
                    Err(error) => say(&format!("{}: {error}", S::NAME)),
                }
            }
        }
    }
    match server.stop().await {
        Ok(stopped) => say_how_stopped(S::NAME, stopped),
        Err(error) => say(&format!("{}: {error}", S::NAME)),
    }
}

fn tell<S: Server>(board: &Board, pid: Option<u32>) {
    if let Err(error) = board.change(|ready| S::tell(ready, pid)) {
        say(&format!("{error:#}"));
    }
}
