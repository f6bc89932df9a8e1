//! What must not come in.

use std::time::Instant;

use anyhow::ensure;
use bowline_proto::v1;

use super::Cast;
use crate::payload;
use crate::report::Report;
use crate::signature::{self, Headers};
use crate::stage::{Source, Stage, failure};

/// The presets of Stripe and Standard Webhooks allow a MiB, and five minutes.
const BODY_LIMIT_BYTES: usize = 1024 * 1024;
const TOLERANCE_S: u64 = 300;

struct Attempt<'a> {
    what: &'a str,
    source: &'a Source,
    headers: Headers,
    body: Vec<u8>,
    expected: u16,
}

pub(crate) async fn run(stage: &Stage, cast: &Cast, report: &mut Report) -> anyhow::Result<()> {
    report.heading("What is refused");
    let push = payload::github_push();
    let (old, _) = payload::stripe_event(&stage.id("evt_"))?;
    let order = payload::order("demo.refused", 0);
    let large = vec![b' '; BODY_LIMIT_BYTES + 1];
    let now = signature::unix_now();
    let mut unsigned = signature::standard(&cast.app.secret, &stage.id("msg_"), now, &order)?;
    unsigned.retain(|(name, _)| *name != "webhook-signature");
    let attempts = [
        Attempt {
            what: "a wrong signature",
            source: &cast.github,
            headers: signature::github("not-the-secret", "push", &stage.id(""), &push),
            body: push,
            expected: 401,
        },
        Attempt {
            what: "an old timestamp, correctly signed",
            source: &cast.stripe,
            headers: signature::stripe(&cast.stripe.secret, now - TOLERANCE_S - 60, &old),
            body: old,
            expected: 401,
        },
        Attempt {
            what: "no signature header",
            source: &cast.app,
            headers: unsigned,
            body: order,
            expected: 400,
        },
        Attempt {
            what: "a body one byte over the limit, correctly signed",
            source: &cast.app,
            headers: signature::standard(&cast.app.secret, &stage.id("msg_"), now, &large)?,
            body: large,
            expected: 413,
        },
    ];
    for attempt in attempts {
        let started = Instant::now();
        let answered = stage.post(&attempt.source.url, attempt.headers, attempt.body).await;
        let outcome = answered.and_then(|answered| {
            let status = answered.status.as_u16();
            ensure!(
                status == attempt.expected,
                "{}: answered {status} {}, not {}",
                attempt.what,
                answered.text,
                attempt.expected
            );
            Ok(format!("{}: {status} {}", attempt.what, answered.text.trim()))
        });
        report.check(started, outcome);
    }
    let started = Instant::now();
    let outcome = kept(stage, cast).await;
    report.check(started, outcome);
    Ok(())
}

/// None of them became an event: of each provider there is the one that was accepted.
async fn kept(stage: &Stage, cast: &Cast) -> anyhow::Result<String> {
    for source in [&cast.github, &cast.stripe] {
        let request = v1::ListEventsRequest {
            filter: Some(v1::EventFilter { source_id: source.id.clone(), ..v1::EventFilter::default() }),
            ..v1::ListEventsRequest::default()
        };
        let page = stage.admin.events().list_events(request).await.map_err(failure)?.into_inner();
        ensure!(page.events.len() == 1, "{} holds {} events, not 1", source.name, page.events.len());
    }
    Ok("none of these became an event: each provider's source holds the one that was accepted".to_owned())
}
