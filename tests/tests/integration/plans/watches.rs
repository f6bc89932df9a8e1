//! What those who watch read, round by round.

use bowline_core::id::DEFAULT_TENANT;
use bowline_core::store::deliveries::{self, DeliveryQuery};
use bowline_core::store::events::{self, EventQuery};
use bowline_core::store::watching::{self, Log, Part, Reading, Span};
use chrono::{DateTime, TimeDelta, Utc};

use super::{DAYS, ENDPOINT, SMALL_TENANT, Site};

const PAGE: i64 = 51;

pub(super) async fn spans(site: &mut Site) {
    let client = site.pool.get().await.unwrap();
    let newest = "SELECT at FROM filled ORDER BY n DESC LIMIT 1";
    let newest: DateTime<Utc> = site.database.sql().query_one(newest, &[]).await.unwrap().get(0);
    // Everything is of a few transactions here: the time is what bounds a look. The newest 18 minutes are others.
    let span = Span { from: 1, until: u64::MAX / 2, low: newest - TimeDelta::minutes(20), high: newest };
    let days = DAYS as usize;
    for (what, tenant, found_min) in [("", DEFAULT_TENANT, 5), (" of a small tenant", SMALL_TENANT, 0)] {
        let reading = Reading { span, known: None, part: Part::Others(None), limit: PAGE };
        let found = events::in_span(&client, tenant, &EventQuery::default(), &reading).await.unwrap();
        assert!(found.len() >= found_min && found.len() < PAGE as usize, "{found:?}");
        site.check(&format!("events of a span{what}"), 100, 2);
        let keys: Vec<_> = found.iter().map(|found| found.key).collect();
        if !keys.is_empty() {
            events::read_all(&client, &keys, Some(1024)).await.unwrap();
            site.check(&format!("events of a span{what}, whole"), 100, 2);
        }
        let reading = Reading { part: Part::Strays(None), ..reading };
        events::in_span(&client, tenant, &EventQuery::default(), &reading).await.unwrap();
        site.check(&format!("strays of a span{what}"), 3000, days);

        let of_endpoint = DeliveryQuery { endpoint_id: Some(ENDPOINT), ..DeliveryQuery::default() };
        for (how, query) in [("", DeliveryQuery::default()), (", for an endpoint", of_endpoint)] {
            let reading = Reading { span, known: None, part: Part::Others(None), limit: PAGE };
            let found = deliveries::in_span(&client, tenant, &query, &reading).await.unwrap();
            site.check(&format!("attempts of a span{what}{how}"), 300, 2);
            let keys: Vec<_> = found.iter().map(|found| found.key).collect();
            if !keys.is_empty() {
                deliveries::read_all(&client, &keys).await.unwrap();
                site.check(&format!("attempts of a span{what}{how}, whole"), 100, 2);
            }
            let reading = Reading { part: Part::Strays(None), ..reading };
            deliveries::in_span(&client, tenant, &query, &reading).await.unwrap();
            site.check(&format!("strays of attempts{what}{how}"), 8000, days);
        }
    }
    // Tenants with nothing new, which were looked at before the session settled for a plan.
    let span = Span { from: u64::MAX / 4, ..span };
    for round in 0..7 {
        for (what, log) in [("events", Log::Events), ("attempts", Log::Attempts)] {
            let tenants = [DEFAULT_TENANT, SMALL_TENANT];
            assert!(watching::news(&client, log, &tenants, &span).await.unwrap().is_empty());
            site.check(&format!("news of {what}, round {round}"), 500, days);
        }
    }
}
