//! `bowline migrate`: the one who changes the schema.

use clap::Args;

use crate::failure::Failure;
use crate::output;

#[derive(Args)]
pub struct MigrateArguments {
    /// The database; not through a pooler that shares connections between transactions
    #[arg(long, env = "BOWLINE_POSTGRES_URL", hide_env_values = true, value_name = "URL")]
    postgres_url: Option<String>,
}

impl std::fmt::Debug for MigrateArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MigrateArguments(redacted)")
    }
}

/// # Errors
/// When there is no URL, or the database refuses.
pub async fn run(arguments: MigrateArguments) -> Result<(), Failure> {
    let url = arguments.postgres_url.ok_or_else(|| {
        Failure::Configuration("no database: set BOWLINE_POSTGRES_URL or give --postgres-url".to_owned())
    })?;
    bowline_core::store::migrate(&url)
        .await
        .map_err(|error| anyhow::Error::new(error).context("cannot migrate the schema"))?;
    output::text("the schema is up to date\n")
}
