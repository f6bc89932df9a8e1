//! The generator: numbered webhooks and published events at a steady pace, and what was acknowledged.
//!
//! A sender that gets no 2xx tries again under the same delivery id, as providers do: whether the
//! first try was committed is for the deduplication to know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bowline_proto::v1;
use bowline_tests::admin::{Admin, KEY};
use bowline_tests::{http, sign};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{KINDS, Way};
use crate::clock::now_s;
use crate::site::Sender;

const TRIES: u32 = 8;
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
const UNDER_WAY_MAX: usize = 256;
/// Every so many, a body that does not travel inline.
const LARGE_EVERY: u64 = 40;
const LARGE_BYTES: usize = 300 * 1024;

/// What became of one number.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    pub kind: usize,
    /// When it was first sent.
    pub begun_s: f64,
    /// When the 2xx came, and the ids that 2xx answers named: one, unless something is wrong.
    pub acknowledged_s: Option<f64>,
    pub event_ids: Vec<String>,
}

/// What was sent, by number.
#[derive(Debug, Default)]
pub struct Ledger {
    sent: Mutex<Vec<Sent>>,
    acknowledged: AtomicU64,
}

impl Ledger {
    fn begin(&self, kind: usize) -> u64 {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(Sent { kind, begun_s: now_s(), ..Sent::default() });
        sent.len() as u64 - 1
    }

    fn acknowledge(&self, number: u64, event_id: String) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = &mut sent[number as usize];
        if entry.acknowledged_s.is_none() {
            entry.acknowledged_s = Some(now_s());
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        if !entry.event_ids.contains(&event_id) {
            entry.event_ids.push(event_id);
        }
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub fn all(&self) -> Vec<Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where traffic goes.
#[derive(Debug, Clone)]
pub struct Doors {
    /// Ingest replicas, `address:port`.
    pub http: Vec<String>,
    /// Admin listeners of all replicas.
    pub admin: Vec<String>,
    pub senders: Vec<Sender>,
}

#[derive(Debug)]
struct Generator {
    doors: Doors,
    ledger: Arc<Ledger>,
    operators: Mutex<Vec<Admin>>,
}

/// Runs until it is told to finish.
#[derive(Debug)]
pub struct Traffic {
    pub ledger: Arc<Ledger>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Traffic {
    pub fn start(doors: Doors, per_second: u32) -> Self {
        let ledger = Arc::new(Ledger::default());
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let operators = doors.admin.iter().map(|url| Admin::new(url, Some(KEY))).collect();
        let generator =
            Arc::new(Generator { doors, ledger: ledger.clone(), operators: Mutex::new(operators) });
        tasks.spawn(generate(generator, per_second, stop.clone(), tasks.clone()));
        Self { ledger, stop, tasks }
    }

    /// No more numbers; what is under way is tried to its end.
    pub async fn finish(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn generate(generator: Arc<Generator>, per_second: u32, stop: CancellationToken, tasks: TaskTracker) {
    let mut pace = interval(Duration::from_secs(1) / per_second.max(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let places = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut turn = 0;
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            () = stop.cancelled() => return,
        }
        // When so many are under way, the sender too has its limit.
        let Ok(permit) = Arc::clone(&places).try_acquire_owned() else { continue };
        let kind = turn % KINDS.len();
        turn += 1;
        let number = generator.ledger.begin(kind);
        let generator = generator.clone();
        tasks.spawn(async move {
            generator.send(number, kind).await;
            drop(permit);
        });
    }
}

impl Generator {
    async fn send(&self, number: u64, kind: usize) {
        let body = body(number);
        for attempt in 0..TRIES {
            let sent = match KINDS[kind].way {
                Way::Webhook(source) => {
                    timeout(ANSWER_WITHIN, self.post(number, source, attempt, &body)).await
                }
                Way::Publish => timeout(ANSWER_WITHIN, self.publish(number, kind, attempt, &body)).await,
            };
            if let Ok(Ok(event_id)) = sent {
                return self.ledger.acknowledge(number, event_id);
            }
            tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(attempt.min(5))).await;
        }
    }

    async fn post(&self, number: u64, source: usize, attempt: u32, body: &[u8]) -> Result<String> {
        let sender = &self.doors.senders[source];
        let delivery = format!("number-{number}");
        let headers = match source {
            0 | 1 => sign::github(&sender.secret, &delivery, "push", body),
            _ => sign::standard(&sender.secret, &delivery, sign::unix_now(0), body),
        };
        // Elsewhere each time.
        let door = &self.doors.http[(number as usize + attempt as usize) % self.doors.http.len()];
        let url = format!("http://{door}/in/{}", sender.source_id);
        let answer = http::post(&url, &headers, body.to_vec()).await?;
        ensure!((200..300).contains(&answer.status), "{}", answer.status);
        match serde_json::from_slice::<serde_json::Value>(&answer.body)?["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => bail!("an acknowledgement without an id"),
        }
    }

    async fn publish(&self, number: u64, kind: usize, attempt: u32, body: &[u8]) -> Result<String> {
        let door = (number as usize + attempt as usize) % self.doors.admin.len();
        let operator = self.operators.lock().unwrap_or_else(PoisonError::into_inner)[door].clone();
        let request = v1::PublishEventRequest {
            event_type: KINDS[kind].event_type.to_owned(),
            channel: KINDS[kind].channel.to_owned(),
            body: body.to_vec().into(),
            idempotency_key: format!("number-{number}"),
            ..Default::default()
        };
        match timeout(ANSWER_WITHIN / 2, operator.events().publish_event(request)).await {
            Ok(Ok(published)) => Ok(published.into_inner().event_id),
            other => {
                // A channel over a connection that says nothing would wait for ever.
                let fresh = Admin::new(&self.doors.admin[door], Some(KEY));
                self.operators.lock().unwrap_or_else(PoisonError::into_inner)[door] = fresh;
                bail!("{other:?}")
            }
        }
    }
}

fn body(number: u64) -> Vec<u8> {
    let length =
        if number % LARGE_EVERY == LARGE_EVERY - 1 { LARGE_BYTES } else { (number % 7) as usize * 150 };
    format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(length)).into_bytes()
}
