//! Which statements Postgres spent its time on, where a budget is missed and the cause is looked for.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use bowline_cli::local::PrivatePostgres;
use bowline_tests::database;

use crate::rig::Stores;

const SHOWN: i64 = 12;
const TEXT_CHARS: usize = 90;

/// Turns the counting on; that takes a restart.
pub(crate) async fn enable(postgres: &mut PrivatePostgres) -> Result<()> {
    let client = database::connect(&postgres.url()).await?;
    let preload = "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'";
    client.batch_execute(preload).await?;
    drop(client);
    postgres.restart().await?;
    let client = database::connect(&postgres.url()).await?;
    for statement in [
        "CREATE EXTENSION IF NOT EXISTS pg_stat_statements",
        "ALTER SYSTEM SET pg_stat_statements.track_planning = on",
        "SELECT pg_reload_conf()",
    ] {
        client
            .batch_execute(statement)
            .await
            .context("pg_stat_statements, of the package postgresql-contrib")?;
    }
    Ok(())
}

/// The statements of all databases since the last call, those that took longest first.
pub(crate) async fn longest(stores: &Stores) -> Result<String> {
    const SQL: &str = "
        SELECT sum(calls)::bigint, sum(plans)::bigint, sum(total_exec_time), sum(total_plan_time),
               sum(rows)::bigint, sum(wal_bytes)::bigint, query
          FROM pg_stat_statements GROUP BY query
         ORDER BY sum(total_exec_time + total_plan_time) DESC LIMIT $1";
    let client = database::connect(&stores.postgres.url()).await?;
    let rows = client.query(SQL, &[&SHOWN]).await?;
    let mut text = "     calls      plans    exec ms    plan ms       rows     WAL KiB\n".to_owned();
    for row in rows {
        let (calls, plans, made, wal): (i64, i64, i64, i64) =
            (row.get(0), row.get(1), row.get(4), row.get(5));
        let (exec_ms, plan_ms): (f64, f64) = (row.get(2), row.get(3));
        let query: String = row.get(6);
        let query: String =
            query.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TEXT_CHARS).collect();
        writeln!(
            text,
            "{calls:>10} {plans:>10} {exec_ms:>10.0} {plan_ms:>10.0} {made:>10} {:>11}  {query}",
            wal / 1024
        )?;
    }
    client.execute("SELECT pg_stat_statements_reset()", &[]).await?;
    Ok(text)
}
