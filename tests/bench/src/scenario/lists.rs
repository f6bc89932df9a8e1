//! Lists of deliveries over ten million attempts, asked of the service: what each filter takes, beside the same over
//! a table that fits into memory.

mod fill;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bowline_proto::v1;
use bowline_tests::admin::Authorized;
use chrono::{DateTime, Utc};
use v1::delivery_service_client::DeliveryServiceClient;

use self::fill::Filled;
use super::{Bench, ms};
use crate::report::{Budget, Metric};
use crate::rig::Rig;
use crate::wire::{Latencies, Quantiles};

/// What a page holds where nothing else is said.
const PAGE: usize = 50;
const PAGE_MAX: i32 = 1_000;
/// An index takes one step more for a table thirty times as large; what reads the table takes thirty times as long.
const RATIO_MAX: f64 = 2.0;

/// A page that is asked for.
struct Question {
    name: &'static str,
    filter: v1::DeliveryFilter,
    /// So many pages of [`PAGE_MAX`] come before it.
    pages_before: usize,
    /// How many it holds at least.
    at_least: usize,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut all = Vec::new();
    for attempts in bench.pick([300_000, 10_000_000], [30_000, 300_000]) {
        all.push((attempts, measure(bench, attempts).await?));
    }
    let (small, large) = (&all[0].1, &all[1].1);
    let metrics = large.iter().zip(small).flat_map(|((name, large), (_, small))| {
        let of = |took: &[Quantiles], at: fn(&Quantiles) -> u64| -> Vec<f64> {
            took.iter().map(|took| ms(at(took))).collect()
        };
        let metric = |what: &str, at: fn(&Quantiles) -> u64| {
            Metric::new(format!("{name}, {what}"), "ms", of(large, at)).against(&of(small, at))
        };
        [
            metric("p50", |took| took.p50_us).budget(Budget::RatioAtMost(RATIO_MAX)),
            metric("p99", |took| took.p99_us),
        ]
    });
    Ok(metrics.collect())
}

/// What each question took in each round, of a table with so many attempts.
async fn measure(bench: &Bench, attempts: u64) -> Result<Vec<(&'static str, Vec<Quantiles>)>> {
    let mut rig = Rig::start_ingest(&bench.stores).await?;
    bench.progress.step(format!("filling {attempts} attempts"));
    let filled = fill::fill(bench, &rig, attempts).await?;
    let questions = questions(&filled);
    let mut client = rig.admin()?.deliveries();
    let mut rounds: Vec<Vec<Quantiles>> = questions.iter().map(|_| Vec::new()).collect();
    let mut tokens = Vec::new();
    for question in &questions {
        tokens.push(question.token(&mut client).await?);
    }
    for round in 0..=bench.rounds() {
        for ((question, token), rounds) in questions.iter().zip(&tokens).zip(&mut rounds) {
            bench.progress.step(format!("{attempts} attempts, {}, round {round}", question.name));
            let mut latencies = Latencies::default();
            for _ in 0..bench.pick(100, 20) {
                latencies.record(question.ask(&mut client, token).await?);
            }
            // The first round is for the connections and the caches.
            if round > 0 {
                rounds.push(latencies.quantiles());
            }
        }
        rig.alive()?;
    }
    rig.end().await?;
    Ok(questions.iter().map(|question| question.name).zip(rounds).collect())
}

fn questions(filled: &Filled) -> Vec<Question> {
    let all = v1::DeliveryFilter::default;
    let of_endpoint = |id: &str| v1::DeliveryFilter { endpoint_id: id.to_owned(), ..all() };
    let of_type = |name: &str| v1::DeliveryFilter { event_type: name.to_owned(), ..all() };
    let of_channel = |name: &str| v1::DeliveryFilter { channel: name.to_owned(), ..all() };
    let in_state = |state: v1::DeliveryState| v1::DeliveryFilter { state: state.into(), ..all() };
    let with_status = |status_code| v1::DeliveryFilter { status_code, ..all() };
    let hour = v1::DeliveryFilter {
        start_time: Some(timestamp(filled.noon)),
        end_time: Some(timestamp(filled.noon + chrono::TimeDelta::hours(6))),
        ..all()
    };
    let narrow = v1::DeliveryFilter {
        event_type: fill::COMMON_TYPE.to_owned(),
        state: v1::DeliveryState::Dead.into(),
        ..of_endpoint(&filled.busy)
    };
    let full = |name, filter| Question { name, filter, pages_before: 0, at_least: PAGE };
    // A table for a quick look holds less of what is rare than a page.
    let rare = |name, filter, one_in: u64| {
        let expected = usize::try_from(filled.attempts / one_in / 2).unwrap_or(PAGE);
        Question { at_least: expected.min(PAGE), ..full(name, filter) }
    };
    vec![
        full("the newest", all()),
        rare("of an endpoint", of_endpoint(&filled.one_of_many), 1000),
        full("of the busiest endpoint", of_endpoint(&filled.busy)),
        full("of a common type", of_type(fill::COMMON_TYPE)),
        rare("of a type of 1 in 500", of_type(fill::RARE_TYPE), 500),
        rare("of a channel of 1 in 300", of_channel(fill::CHANNEL), 300),
        full("dead", in_state(v1::DeliveryState::Dead)),
        full("waiting", in_state(v1::DeliveryState::Waiting)),
        full("delivered", in_state(v1::DeliveryState::Delivered)),
        full("status 500", with_status(500)),
        rare("status 410, 1 in 2000 attempts", with_status(410), 2000),
        // It looks at as much as a page may look at, and leaves the rest to the next one.
        Question { at_least: 0, ..full("a status that nothing has", with_status(599)) },
        full("of six hours, days ago", hour),
        rare("dead, of a type and an endpoint", narrow, 2000),
        Question {
            pages_before: (filled.attempts / 6000).min(50) as usize,
            ..full("a page far back", all())
        },
    ]
}

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.timestamp(), nanos: 0 }
}

impl Question {
    /// Of the page that is asked for.
    async fn token(&self, client: &mut DeliveryServiceClient<Authorized>) -> Result<String> {
        let mut token = String::new();
        for page in 0..self.pages_before {
            let answer = self.page(client, &token, PAGE_MAX).await?;
            ensure!(answer.deliveries.len() == PAGE_MAX as usize, "{}: page {page} is not full", self.name);
            token = answer.next_page_token;
        }
        Ok(token)
    }

    async fn page(
        &self,
        client: &mut DeliveryServiceClient<Authorized>,
        token: &str,
        page_size: i32,
    ) -> Result<v1::ListDeliveriesResponse> {
        let request = v1::ListDeliveriesRequest {
            page_size,
            page_token: token.to_owned(),
            filter: Some(self.filter.clone()),
            ..Default::default()
        };
        Ok(client.list_deliveries(request).await.context(self.name)?.into_inner())
    }

    /// An answer that is not what it must be measures nothing.
    async fn ask(&self, client: &mut DeliveryServiceClient<Authorized>, token: &str) -> Result<Duration> {
        let start = Instant::now();
        let answer = self.page(client, token, 0).await?;
        let took = start.elapsed();
        let found = answer.deliveries.len();
        ensure!(found >= self.at_least && found <= PAGE, "{}: a page of {found}", self.name);
        let key = |delivery: &v1::Delivery| (delivery.event_id.clone(), delivery.endpoint_id.clone());
        // Ids sort as their events came.
        let in_order = answer.deliveries.windows(2).all(|pair| {
            let ((event, endpoint), (next_event, next_endpoint)) = (key(&pair[0]), key(&pair[1]));
            event > next_event || event == next_event && endpoint < next_endpoint
        });
        ensure!(in_order, "{}: not the newest first", self.name);
        for delivery in &answer.deliveries {
            ensure!(self.is_of(delivery), "{}: {delivery:?} is not asked for", self.name);
        }
        Ok(took)
    }

    fn is_of(&self, delivery: &v1::Delivery) -> bool {
        let filter = &self.filter;
        let text = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        let time = delivery.create_time.as_ref().map_or(0, |time| time.seconds);
        text(&filter.endpoint_id, &delivery.endpoint_id)
            && text(&filter.event_type, &delivery.event_type)
            && text(&filter.channel, &delivery.channel)
            && (filter.state == 0 || filter.state == delivery.state)
            && (filter.status_code == 0 || filter.status_code == delivery.last_status_code)
            && filter.start_time.as_ref().is_none_or(|start| time >= start.seconds)
            && filter.end_time.as_ref().is_none_or(|end| time < end.seconds)
    }
}
