//! What there is to judge by: what was acknowledged, what arrived, and what the database says.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use bowline_core::id::{EndpointId, EventId};
use bowline_tests::database;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::fault::Disturbance;
use crate::sink::Arrival;
use crate::site::Site;
use crate::traffic::Sent;

/// An event and the index of an endpoint in the catalog.
pub type Pair = (String, usize);

/// A row of `attempts`.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub number: u32,
    pub kind: String,
    pub decision: String,
    pub error_kind: String,
    /// By the clock of its dispatcher; `None` where that clock was wrong.
    pub begun_s: Option<f64>,
    pub recorded_s: f64,
}

/// A row of `dead_letters`.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub reason: String,
    pub died_s: f64,
}

#[derive(Debug, Default)]
pub struct Evidence {
    pub sent: Vec<Sent>,
    /// By endpoint, in the order of the catalog.
    pub arrivals: Vec<Vec<Arrival>>,
    pub disturbances: Vec<Disturbance>,
    pub events: HashSet<String>,
    pub attempts: HashMap<Pair, Vec<Attempt>>,
    pub dead: HashMap<Pair, DeadLetter>,
    /// What is still in the queue, and what the row says.
    pub queue: HashMap<Pair, String>,
    /// Events whose chunk is not settled, and what the row says.
    pub outbox: HashMap<String, String>,
}

impl Evidence {
    /// Gathers what the customers and the database know.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn gather(site: &Site, sent: Vec<Sent>, disturbances: Vec<Disturbance>) -> Result<Self> {
        let client = database::connect(&site.database_url).await?;
        let mut endpoints = HashMap::new();
        for (index, customer) in site.customers.iter().enumerate() {
            endpoints.insert(customer.endpoint_id.parse::<EndpointId>()?.0, index);
        }
        let mut evidence = Self {
            sent,
            arrivals: site.customers.iter().map(|customer| customer.sink.arrivals()).collect(),
            disturbances,
            ..Self::default()
        };
        evidence.read_log(&client, &endpoints).await?;
        evidence.read_state(&client, &endpoints).await?;
        Ok(evidence)
    }

    async fn read_log(&mut self, client: &Client, endpoints: &HashMap<Uuid, usize>) -> Result<()> {
        for row in client.query("SELECT id FROM events", &[]).await? {
            self.events.insert(event(row.get(0)));
        }
        let attempts = "SELECT event_id, endpoint_id, attempt, kind, decision, coalesce(error_kind, ''),
                               extract(epoch FROM recorded_at)::float8,
                               CASE WHEN started_at BETWEEN recorded_at - interval '60 seconds' AND recorded_at
                                    THEN extract(epoch FROM started_at)::float8 END
                          FROM attempts ORDER BY recorded_at";
        for row in client.query(attempts, &[]).await? {
            let Some(endpoint) = endpoints.get(&row.get::<_, Uuid>(1)) else { continue };
            self.attempts.entry((event(row.get(0)), *endpoint)).or_default().push(Attempt {
                number: row.get::<_, i32>(2) as u32,
                kind: row.get(3),
                decision: row.get(4),
                error_kind: row.get(5),
                recorded_s: row.get(6),
                begun_s: row.get(7),
            });
        }
        Ok(())
    }

    async fn read_state(&mut self, client: &Client, endpoints: &HashMap<Uuid, usize>) -> Result<()> {
        let dead =
            "SELECT event_id, endpoint_id, reason, extract(epoch FROM died_at)::float8 FROM dead_letters";
        for row in client.query(dead, &[]).await? {
            let Some(endpoint) = endpoints.get(&row.get::<_, Uuid>(1)) else { continue };
            let letter = DeadLetter { reason: row.get(2), died_s: row.get(3) };
            self.dead.insert((event(row.get(0)), *endpoint), letter);
        }
        let queue = "SELECT q.event_id, q.endpoint_id,
                            format('due in %s s, attempt %s, owner %s (dead at %s)',
                                   round(extract(epoch FROM q.due_at - now())), q.attempt, q.owner, r.dead_at)
                       FROM queue AS q LEFT JOIN replicas AS r ON r.id = q.owner";
        for row in client.query(queue, &[]).await? {
            let Some(endpoint) = endpoints.get(&row.get::<_, Uuid>(1)) else { continue };
            self.queue.insert((event(row.get(0)), *endpoint), row.get(2));
        }
        let outbox = "SELECT unnest(o.event_ids),
                             format('chunk %s, owner %s (dead at %s), %s takeovers', o.id, o.owner, r.dead_at,
                                    o.takeovers)
                        FROM outbox AS o LEFT JOIN replicas AS r ON r.id = o.owner";
        for row in client.query(outbox, &[]).await? {
            self.outbox.insert(event(row.get(0)), row.get(1));
        }
        Ok(())
    }

    /// When that attempt was first written down, if it was.
    pub fn recorded(&self, pair: &Pair, number: u32) -> Option<f64> {
        let attempts = self.attempts.get(pair)?;
        attempts.iter().find(|attempt| attempt.number == number).map(|attempt| attempt.recorded_s)
    }

    /// Whether a request of that attempt was under way when something happened to its dispatcher.
    pub fn was_under_way(&self, pair: &Pair, number: u32, disturbance: &Disturbance) -> bool {
        self.attempts.get(pair).into_iter().flatten().any(|attempt| {
            let begun_s = attempt.begun_s.filter(|_| attempt.number == number);
            begun_s.is_some_and(|begun_s| disturbance.found_under_way(begun_s, attempt.recorded_s))
        })
    }

    /// What the database says of a delivery, in a few lines.
    pub fn says(&self, pair: &Pair) -> String {
        let mut lines: Vec<String> = Vec::new();
        if !self.events.contains(&pair.0) {
            lines.push("no such event".into());
        }
        for attempt in self.attempts.get(pair).into_iter().flatten() {
            lines.push(format!(
                "attempt {} {} {} {} begun {:.3} recorded {:.3}",
                attempt.number,
                attempt.kind,
                attempt.decision,
                attempt.error_kind,
                attempt.begun_s.unwrap_or_default(),
                attempt.recorded_s
            ));
        }
        lines.extend(self.dead.get(pair).map(|letter| format!("dead letter: {}", letter.reason)));
        lines.extend(self.queue.get(pair).map(|row| format!("in the queue: {row}")));
        lines.extend(self.outbox.get(&pair.0).map(|row| format!("in the outbox: {row}")));
        for arrival in self.arrivals[pair.1].iter().filter(|arrival| arrival.event_id == pair.0) {
            lines.push(format!(
                "arrived {:.3} as attempt {}, {}",
                arrival.at_s,
                arrival.attempt,
                if arrival.is_answered { "answered 2xx" } else { "not answered 2xx" }
            ));
        }
        if lines.is_empty() { "nothing".into() } else { lines.join("; ") }
    }
}

fn event(id: Uuid) -> String {
    EventId(id).to_string()
}
