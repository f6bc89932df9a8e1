//! Receivers that fail: for a while, and for good.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bowline_proto::v1;

use super::Cast;
use crate::receiver::Answer;
use crate::report::Report;
use crate::stage::{ARRIVES_WITHIN, Customer, Stage, Wanted, eventually, failure};

const WAIT: Duration = Duration::from_millis(300);

/// 500, 500, 200.
pub(crate) async fn flaky(stage: &Stage, cast: &Cast, report: &mut Report) -> anyhow::Result<()> {
    report.heading("A receiver that fails for a while");
    let waits = [WAIT; 4];
    let customer = stage
        .customer(Wanted {
            name: "flaky",
            format: "standard",
            event_types: &["demo.flaky"],
            waits: &waits,
            answer: Answer::FailFirst(2),
        })
        .await?;
    let started = Instant::now();
    let outcome = async {
        let id = stage.send(&cast.app, "demo.flaky").await?;
        let arrival = customer.receiver.delivered(&id, ARRIVES_WITHIN).await?;
        let statuses: Vec<u16> = customer.receiver.of(&id).iter().map(|arrival| arrival.status).collect();
        ensure!(arrival.attempt == 3, "it was attempt {} that got through, not 3", arrival.attempt);
        ensure!(statuses == [500, 500, 200], "the answers were {statuses:?}");
        Ok("it answered 500 twice and got the event on the third attempt, each signed anew".to_owned())
    };
    let outcome = outcome.await;
    report.check(started, outcome);
    Ok(())
}

/// Every attempt fails; once mended, Redrive brings it.
pub(crate) async fn dead(stage: &Stage, cast: &Cast, report: &mut Report) -> anyhow::Result<()> {
    report.heading("A receiver that fails for good");
    let waits = [WAIT; 2];
    let customer = stage
        .customer(Wanted {
            name: "broken",
            format: "chimpbase",
            event_types: &["demo.broken"],
            waits: &waits,
            answer: Answer::AlwaysFail,
        })
        .await?;
    let started = Instant::now();
    let id = stage.send(&cast.app, "demo.broken").await?;
    let letter = buried(stage, &customer, &id).await;
    let delivery_id = letter.as_ref().map(|letter| letter.delivery_id.clone()).unwrap_or_default();
    let buried = letter.and_then(|letter| {
        ensure!(letter.reason() == v1::DeadReason::AttemptsExhausted, "it died of {:?}", letter.reason());
        ensure!(letter.attempt_count == 3, "it had {} attempts, not 3", letter.attempt_count);
        Ok("after three attempts its event is a dead letter, with the reason".to_owned())
    });
    if !report.check(started, buried) {
        return Ok(());
    }
    let started = Instant::now();
    let outcome = async {
        customer.receiver.answer(Answer::Accept);
        let request = v1::RedriveDeadLettersRequest {
            delivery_ids: vec![delivery_id],
            ..v1::RedriveDeadLettersRequest::default()
        };
        let response =
            stage.admin.dead_letters().redrive_dead_letters(request).await.map_err(failure)?.into_inner();
        ensure!(response.count == 1, "Redrive took {} dead letters, not 1", response.count);
        customer.receiver.delivered(&id, ARRIVES_WITHIN).await?;
        let left = letters(stage, &customer).await?;
        ensure!(left.is_empty(), "{} dead letters are left", left.len());
        Ok("once it was mended, Redrive brought the event, and no dead letter is left".to_owned())
    };
    let outcome = outcome.await;
    report.check(started, outcome);
    Ok(())
}

async fn buried(stage: &Stage, customer: &Customer, id: &str) -> anyhow::Result<v1::DeadLetter> {
    let look = || async {
        let found = letters(stage, customer).await?;
        Ok(found.into_iter().find(|letter| letter.event_id == id))
    };
    eventually("no dead letter", ARRIVES_WITHIN, look).await.with_context(|| format!("event {id}"))
}

async fn letters(stage: &Stage, customer: &Customer) -> anyhow::Result<Vec<v1::DeadLetter>> {
    let request = v1::ListDeadLettersRequest {
        filter: Some(v1::DeadLetterFilter {
            endpoint_id: customer.endpoint_id.clone(),
            ..v1::DeadLetterFilter::default()
        }),
        ..v1::ListDeadLettersRequest::default()
    };
    let page = stage.admin.dead_letters().list_dead_letters(request).await.map_err(failure)?;
    Ok(page.into_inner().dead_letters)
}
