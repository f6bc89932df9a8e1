//! No statement of the hot path reads a large table from end to end, however much is in it.
//!
//! The product's own calls run against a database that has been at work for a week ([`FILL`]), and
//! Postgres tells what it did for each ([`tap`]). The tables hold some hundred thousand rows, and Postgres plans for
//! ten million ([`plan_for_ten_millions`]).

use bowline_core::id::{EndpointId, EventId, ReplicaId, TenantId};
use bowline_core::store::claim_session::ClaimSession;
use bowline_core::store::{self, journal, partitions};
use bowline_tests::database::{self, Database};
use bowline_tests::{BOUND, eventually, stores};
use futures_util::future::try_join_all;
use uuid::Uuid;

use self::tap::{Plan, Tap};

mod channels;
mod claims;
mod lists;
mod payloads;
mod tap;
mod watches;
mod writes;

const FILL: &str = include_str!("plans/fill.sql");
const DAYS: u32 = 8;
const EVENTS: u32 = 120_000;
/// Sessions plan a prepared statement anew so often, and a little longer, before they settle for one plan.
const ROUNDS: u128 = 7;
const LARGE: [&str; 6] = ["queue", "channels", "outbox", "dead_letters", "dedup_keys", "rejections"];
const LIVE: ReplicaId = ReplicaId(id_of(4, 1));
const SMALL_TENANT: TenantId = TenantId(id_of(1, 99));
const SMALL_ENDPOINT: EndpointId = EndpointId(id_of(2, 500));
const BUSY_ENDPOINT: EndpointId = EndpointId(id_of(2, 0));
const ENDPOINT: EndpointId = EndpointId(id_of(2, 5));

/// As the function of this name in [`FILL`].
const fn id_of(kind: u128, number: u128) -> Uuid {
    Uuid::from_u128(kind << 96 | 0x7000_8000_0000_0000_0000 | number)
}

/// What is in [`FILL`], in its three parts.
struct Fill {
    before: String,
    side_by_side: String,
    after: String,
}

impl Fill {
    fn new(events: u32) -> Self {
        let fill = FILL.replace("{rows}", &events.to_string());
        let (before, rest) = fill.split_once("-- Side by side.\n").unwrap();
        let (side_by_side, after) = rest.split_once("-- At the end.\n").unwrap();
        let [before, side_by_side, after] = [before, side_by_side, after].map(str::to_owned);
        Self { before, side_by_side, after }
    }

    async fn begin(&self) -> Database {
        let database = Database::create(&stores::shared().await.postgres_url).await.unwrap();
        let first = chrono::Utc::now().date_naive() - chrono::Days::new(u64::from(DAYS) - 1);
        partitions::ensure(database.sql(), first, DAYS).await.unwrap();
        database.sql().batch_execute(&self.before).await.unwrap();
        database
    }

    async fn rows(&self, database: &Database) {
        let run = async |statement: &str| {
            let client = database::connect(&database.url).await?;
            client.batch_execute("SET synchronous_commit = off").await?;
            anyhow::Ok(client.batch_execute(statement).await?)
        };
        try_join_all(self.side_by_side.split_inclusive(";\n").map(run)).await.unwrap();
    }
}

async fn filled(events: u32) -> Database {
    let fill = Fill::new(events);
    let database = fill.begin().await;
    fill.rows(&database).await;
    database.sql().batch_execute(&fill.after).await.unwrap();
    database
}

/// From here on Postgres plans for ten million deliveries: it reckons the rows of a table by its pages, and by
/// how many rows it has noted for each.
async fn plan_for_ten_millions(database: &Database) {
    const SQL: &str = "UPDATE pg_class SET reltuples = reltuples * 80
                        WHERE relkind = 'r' AND reltuples > 0
                          AND (relname ~ '^(events|attempts)_p' OR relname IN ('queue', 'outbox', 'dead_letters'))";
    let updated = database.sql().execute(SQL, &[]).await.unwrap();
    assert!(updated > 2 * u64::from(DAYS), "{updated}");
}

/// Everything that the tests below ask for.
struct Site {
    tap: Tap,
    database: Database,
    pool: store::Pool,
    /// The last day of what is filled, `20261121`: another may begin meanwhile.
    today: String,
    faults: Vec<String>,
}

fn is_large(relation: &str) -> bool {
    LARGE.contains(&relation) || day_of(relation).is_some()
}

/// `20261121` of `events_p20261121`.
fn day_of(relation: &str) -> Option<&str> {
    relation.strip_prefix("events_p").or_else(|| relation.strip_prefix("attempts_p"))
}

/// With its connections made: a busy machine may take longer for one than a pool waits.
async fn opened(pool: store::Pool) -> store::Pool {
    let made = async || try_join_all((0..pool.status().max_size).map(|_| pool.get())).await;
    drop(eventually(BOUND, made).await);
    pool
}

impl Site {
    async fn new(database: Database) -> Self {
        let tap = Tap::start(&database).await;
        let pool = opened(store::connect(tap.url(), 2).unwrap()).await;
        let today = "SELECT to_char(max(at) AT TIME ZONE 'UTC', 'YYYYMMDD') FROM filled";
        let today = database.sql().query_one(today, &[]).await.unwrap().get(0);
        Self { tap, database, pool, today, faults: Vec::new() }
    }

    /// Those that keep their plans for as long as they live.
    async fn sessions(&self) -> (journal::Connection, store::Pool, ClaimSession) {
        let url = self.tap.url();
        let records = opened(store::connect_planned_ahead(url, 1).unwrap()).await;
        (journal::Connection::open(url).await.unwrap(), records, ClaimSession::open(url).await.unwrap())
    }

    /// What ran since the last look may look at so many rows of large tables, on so many days.
    fn check(&mut self, what: &str, rows_max: u32, days_max: usize) {
        let plans = self.tap.take();
        if plans.is_empty() {
            self.faults.push(format!("{what}: nothing ran"));
        }
        for plan in &plans {
            if let Err(fault) = judge(plan, rows_max, days_max, &self.today) {
                self.faults.push(format!("{what}: {fault}\n{plan:?}"));
            }
        }
    }

    async fn event_ids(&self, condition: &str) -> Vec<EventId> {
        let sql = format!("SELECT id FROM filled WHERE {condition} ORDER BY n DESC");
        let rows = self.database.sql().query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| EventId(row.get(0))).collect()
    }
}

fn judge(plan: &Plan, rows_max: u32, days_max: usize, today: &str) -> Result<(), String> {
    let large: Vec<_> = plan.scans.iter().filter(|scan| is_large(&scan.relation)).collect();
    if let Some(scan) = large.iter().find(|scan| scan.kind.contains("Seq Scan") && scan.rows > 0.0) {
        return Err(format!("reads {} from end to end", scan.relation));
    }
    let rows: f64 = large.iter().map(|scan| scan.rows).sum();
    if rows > f64::from(rows_max) {
        return Err(format!("looks at {rows} rows, and {rows_max} would do"));
    }
    let mut days: Vec<_> = large.iter().filter_map(|scan| day_of(&scan.relation)).collect();
    days.retain(|day| *day <= today);
    days.sort_unstable();
    days.dedup();
    if days.len() > days_max {
        return Err(format!("looks into the partitions of {days:?}, and {days_max} would do"));
    }
    Ok(())
}

#[tokio::test]
async fn nothing_hot_reads_a_large_table_from_end_to_end() {
    let database = filled(EVENTS).await;
    plan_for_ten_millions(&database).await;
    let mut site = Site::new(database).await;
    let (journal, records, claims) = site.sessions().await;
    claims::claims_of_chunks(&mut site, &claims).await;
    claims::claims_of_deliveries(&mut site).await;
    lists::lists_of_events(&mut site).await;
    lists::lists_of_receipts(&mut site).await;
    lists::lists_of_deliveries(&mut site).await;
    payloads::queries(&mut site).await;
    watches::spans(&mut site).await;
    lists::lists_of_dead_letters(&mut site).await;
    channels::held(&mut site).await;
    claims::rest(&mut site).await;
    writes::journal(&mut site, &journal).await;
    writes::record(&mut site, &records.get().await.unwrap()).await;
    assert!(site.faults.is_empty(), "{} faults\n{}", site.faults.len(), site.faults.join("\n"));
}

/// A session may have settled for its plan in a quiet night, when Postgres knew every table to be empty.
#[tokio::test]
async fn what_was_planned_when_nothing_waited_holds_when_much_does() {
    let fill = Fill::new(EVENTS);
    let database = fill.begin().await;
    database.sql().batch_execute("VACUUM ANALYZE").await.unwrap();
    let mut site = Site::new(database).await;
    let (journal, records, claims) = site.sessions().await;
    writes::idle(&journal, &records.get().await.unwrap()).await;
    claims::idle(&site.pool, &claims).await;
    fill.rows(&site.database).await;
    site.tap.take();
    claims::claims_of_chunks(&mut site, &claims).await;
    claims::claims_of_deliveries(&mut site).await;
    writes::journal(&mut site, &journal).await;
    writes::record(&mut site, &records.get().await.unwrap()).await;
    assert!(site.faults.is_empty(), "{} faults\n{}", site.faults.len(), site.faults.join("\n"));
}
