//! Processes die, Redis forgets, Redis goes away: everything still arrives.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::AsyncCommands;

use super::Cast;
use crate::receiver::Answer;
use crate::report::Report;
use crate::stage::{ARRIVES_WITHIN, RECOVERED_WITHIN, Stage, Wanted, eventually};

const BEFORE: usize = 40;
const AFTER: usize = 20;
const WAITS: [Duration; 6] = [Duration::from_secs(1); 6];

/// SIGKILL between receipt and delivery.
pub(crate) async fn dispatcher_killed(stage: &Stage, cast: &Cast, report: &mut Report) -> anyhow::Result<()> {
    report.heading("The dispatcher is killed between receipt and delivery");
    let customer = stage
        .customer(Wanted {
            name: "crash",
            format: "standard",
            event_types: &["demo.crash"],
            waits: &WAITS,
            answer: Answer::Hold,
        })
        .await?;
    let receiver = &customer.receiver;
    let mut ids = stage.send_many(&cast.app, "demo.crash", BEFORE).await?;
    receiver.until("no request went out", ARRIVES_WITHIN, |arrivals| !arrivals.is_empty()).await?;
    let killed = stage.ready_now()?.pids.dispatcher;
    let started = Instant::now();
    signal_all(&killed, Signal::SIGKILL)?;
    ids.extend(stage.send_many(&cast.app, "demo.crash", AFTER).await?);
    receiver.answer(Answer::Accept);
    let outcome = async {
        let back = || async {
            let now = stage.ready_now()?.pids.dispatcher;
            Ok(now.iter().all(|pid| !killed.contains(pid)).then_some(()))
        };
        eventually("the dispatcher was not started again", RECOVERED_WITHIN, back).await?;
        Ok(format!("killed with SIGKILL ({BEFORE} events accepted before, {AFTER} after) and started again"))
    };
    let outcome = outcome.await;
    report.check(started, outcome);
    let outcome = receiver.all_delivered(&ids, RECOVERED_WITHIN).await.map(|twice| {
        let requests = receiver.arrivals().len();
        format!(
            "all {} events arrived; {twice} of them more than once ({requests} requests): they were out when it died",
            ids.len()
        )
    });
    report.check(started, outcome);
    Ok(())
}

/// FLUSHALL while events wait in the streams.
pub(crate) async fn redis_emptied(stage: &Stage, cast: &Cast, report: &mut Report) -> anyhow::Result<()> {
    report.heading("Redis is emptied while events wait in it");
    let customer = stage
        .customer(Wanted {
            name: "flush",
            format: "standard",
            event_types: &["demo.flush"],
            waits: &WAITS,
            answer: Answer::Accept,
        })
        .await?;
    let dispatchers = stage.ready_now()?.pids.dispatcher;
    // Nobody takes the events from the streams meanwhile.
    signal_all(&dispatchers, Signal::SIGSTOP)?;
    let started = Instant::now();
    let emptied = async {
        let ids = stage.send_many(&cast.app, "demo.flush", BEFORE).await?;
        let waiting = flush(&stage.ready.redis_url).await?;
        ensure!(waiting > 0, "nothing waited in Redis");
        Ok((ids, waiting))
    };
    let emptied = emptied.await;
    signal_all(&dispatchers, Signal::SIGCONT)?;
    let (ids, waiting) = emptied?;
    report.check(
        started,
        Ok(format!("{} events accepted, {waiting} stream entries waited: FLUSHALL", ids.len())),
    );
    let outcome = customer.receiver.all_delivered(&ids, RECOVERED_WITHIN).await;
    report.check(started, outcome.map(|twice| arrived(ids.len(), twice)));
    Ok(())
}

/// Redis is gone altogether.
pub(crate) async fn redis_stopped(stage: &Stage, cast: &Cast, report: &mut Report) -> anyhow::Result<()> {
    report.heading("Redis is stopped");
    let customer = stage
        .customer(Wanted {
            name: "away",
            format: "standard",
            event_types: &["demo.away"],
            waits: &WAITS,
            answer: Answer::Accept,
        })
        .await?;
    let started = Instant::now();
    let pid = stage
        .ready_now()?
        .pids
        .redis
        .context("this deployment's Redis is not its own, so it is not ours to stop")?;
    signal_all(&[pid], Signal::SIGKILL)?;
    let url = &stage.ready.redis_url;
    let gone = || async { Ok((!answers(url).await).then_some(())) };
    eventually("Redis still answers", ARRIVES_WITHIN, gone).await?;
    report.check(started, Ok("Redis is stopped and refuses connections".to_owned()));
    let started = Instant::now();
    let outcome = async {
        let ids = stage.send_many(&cast.app, "demo.away", BEFORE).await?;
        let twice = customer.receiver.all_delivered(&ids, RECOVERED_WITHIN).await?;
        ensure!(!answers(url).await, "Redis came back meanwhile, so this shows nothing");
        Ok(format!("{}; Redis was away all the while", arrived(ids.len(), twice)))
    };
    let outcome = outcome.await;
    report.check(started, outcome);
    Ok(())
}

fn arrived(count: usize, twice: usize) -> String {
    match twice {
        0 => format!("all {count} events arrived, none of them twice"),
        twice => format!("all {count} events arrived, {twice} of them more than once"),
    }
}

fn signal_all(pids: &[u32], signal: Signal) -> anyhow::Result<()> {
    for pid in pids {
        ensure!(*pid > 1, "the ready file names no process to signal");
        kill(Pid::from_raw(*pid as i32), signal).with_context(|| format!("cannot send {signal} to {pid}"))?;
    }
    Ok(())
}

/// Empties Redis; how many stream entries it held.
async fn flush(url: &str) -> anyhow::Result<usize> {
    let client = redis::Client::open(url).context("the Redis URL")?;
    let mut connection = client.get_multiplexed_async_connection().await.context("Redis")?;
    let keys: Vec<String> = connection.keys("*").await?;
    let mut waiting = 0;
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await?;
        if kind == "stream" {
            let entries: usize = connection.xlen(&key).await?;
            waiting += entries;
        }
    }
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await?;
    Ok(waiting)
}

async fn answers(url: &str) -> bool {
    let Ok(client) = redis::Client::open(url) else { return false };
    let connected =
        tokio::time::timeout(Duration::from_secs(2), client.get_multiplexed_async_connection()).await;
    matches!(connected, Ok(Ok(_)))
}
