//! What can be asked.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::server::Kind;

/// Measures Bowline on this machine, against what the machine itself can do.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// Which scenarios; default: all
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenarios: Vec<Scenario>,
    /// Also write the results here
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// One short round of each, with smaller tables
    #[arg(long)]
    pub(crate) quick: bool,
    /// After each scenario, also show the statements that took Postgres longest
    #[arg(long)]
    pub(crate) statements: bool,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What the bench's own processes do.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    #[command(hide = true)]
    Serve { kind: Kind },
    #[command(hide = true)]
    Load { spec: String },
}

/// In the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// The whole way: POST in, committed, POST out, recorded
    Through,
    /// From POST in to POST out, at a steady rate
    Latency,
    /// A healthy endpoint beside bad ones
    Neighbours,
    /// Webhooks verified, deduplicated and committed
    Ingest,
    /// Webhooks under each kind of verification
    Verify,
    /// Events published over gRPC
    Publish,
    /// First attempts of events that are there already
    Deliver,
    /// CPU time, commits and bytes of WAL
    Cost,
    /// Memory of the services
    Memory,
    /// Claiming from a long queue
    Backlog,
    /// Matching an event to many endpoints
    Match,
    /// The journal beside many deduplication keys
    Keys,
    /// Latest, aggregate and list over full windows of payloads
    Query,
    /// Deliveries in order, over few and many channels
    Ordered,
    /// Pages of deliveries by each filter, over ten million attempts
    Lists,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Through => "through",
            Self::Latency => "latency",
            Self::Neighbours => "neighbours",
            Self::Ingest => "ingest",
            Self::Verify => "verify",
            Self::Publish => "publish",
            Self::Deliver => "deliver",
            Self::Cost => "cost",
            Self::Memory => "memory",
            Self::Backlog => "backlog",
            Self::Match => "match",
            Self::Keys => "keys",
            Self::Query => "query",
            Self::Ordered => "ordered",
            Self::Lists => "lists",
        }
    }
}
