//! The steps of the demonstration, in order.
//!
//! 1. [`accept`]: providers' webhooks come in, and arrive in two formats; a repeat does not.
//! 2. [`refuse`]: what is not signed as it should be, or too large, does not come in.
//! 3. [`retry`]: a receiver that fails for a while; one that fails for good, dead letters, Redrive.
//! 4. [`fault`]: the dispatcher is killed, Redis emptied, Redis stopped.

pub(crate) mod accept;
pub(crate) mod fault;
pub(crate) mod refuse;
pub(crate) mod retry;

use std::time::{Duration, Instant};

use crate::receiver::Answer;
use crate::report::Report;
use crate::stage::{Customer, Source, Stage, Wanted};

/// Who plays along from the beginning to the end.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) github: Source,
    pub(crate) stripe: Source,
    /// An app of our own, which signs as Standard Webhooks does.
    pub(crate) app: Source,
    pub(crate) standard: Customer,
    pub(crate) chimpbase: Customer,
}

impl Cast {
    /// Makes them over gRPC.
    pub(crate) async fn assemble(stage: &Stage, report: &mut Report) -> anyhow::Result<Self> {
        report.heading("Sources and endpoints, over gRPC");
        let started = Instant::now();
        let github = stage.source("github", "github").await?;
        let stripe = stage.source("stripe", "stripe").await?;
        let app = stage.source("app", "standard").await?;
        report.check(started, Ok("three sources: GitHub, Stripe, and an app of our own".to_owned()));
        let started = Instant::now();
        let types = ["push", "setup_intent.*", "demo.fence"];
        let waits = [Duration::from_secs(1); 5];
        let standard = stage
            .customer(Wanted {
                name: "standard",
                format: "standard",
                event_types: &types,
                waits: &waits,
                answer: Answer::Accept,
            })
            .await?;
        let chimpbase = stage
            .customer(Wanted {
                name: "chimpbase",
                format: "chimpbase",
                event_types: &types,
                waits: &waits,
                answer: Answer::Accept,
            })
            .await?;
        report.check(
            started,
            Ok("two endpoints, each with a real HTTP receiver that checks signatures by itself".to_owned()),
        );
        Ok(Self { github, stripe, app, standard, chimpbase })
    }

    pub(crate) fn customers(&self) -> [(&'static str, &Customer); 2] {
        [("Standard Webhooks", &self.standard), ("Chimpbase", &self.chimpbase)]
    }
}
