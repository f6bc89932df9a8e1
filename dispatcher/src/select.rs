//! Which of the endpoints that an event's type and channel lead to want it, by their filters.
//!
//! A filter is asked when an event is matched, and again before each attempt. So the first asking may
//! leave one for later: what fails then is a dead letter of its endpoint alone, and what is too much to
//! ask at once for one event is asked in the lanes, each by itself (invariants 5 and 12).

use std::sync::Arc;

use bowline_core::event::Event;
use bowline_core::expression::Scope;
use bowline_core::snapshot::LiveEndpoint;

/// For all filters of one event; those beyond are asked in their lanes.
const STEPS_PER_EVENT_MAX: u64 = 4_000_000;
/// Then other tasks have their turn.
const STEPS_AT_ONCE: u64 = 20_000;

/// What a filter says of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Yes,
    No,
    /// It fails on this event.
    Unknown(String),
}

pub(crate) fn wanted(live: &LiveEndpoint, event: &Event) -> Wanted {
    if !live.has_filter() {
        return Wanted::Yes;
    }
    match live.select(&Scope::of_event(event)).selected {
        Ok(true) => Wanted::Yes,
        Ok(false) => Wanted::No,
        Err(fault) => Wanted::Unknown(format!("the endpoint's filter fails on this event: {fault}")),
    }
}

/// Leaves out those whose filter says no.
pub(crate) async fn leave_out_unwanted(
    endpoints: Vec<Arc<LiveEndpoint>>,
    event: &Event,
) -> Vec<Arc<LiveEndpoint>> {
    if !endpoints.iter().any(|live| live.has_filter()) {
        return endpoints;
    }
    // One scope, so that the body is read once for all.
    let scope = Scope::of_event(event);
    let (mut steps, mut turns) = (0_u64, 1);
    let mut kept = Vec::with_capacity(endpoints.len());
    for live in endpoints {
        let mut wanted = true;
        if live.has_filter() && steps < STEPS_PER_EVENT_MAX {
            let selection = live.select(&scope);
            steps += selection.steps;
            wanted = !matches!(selection.selected, Ok(false));
        }
        if wanted {
            kept.push(live);
        }
        if steps > STEPS_AT_ONCE * turns {
            turns += 1;
            tokio::task::yield_now().await;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use bowline_core::endpoint::{Endpoint, EndpointSpec, EndpointState};
    use bowline_core::id::{EndpointId, EventId, TenantId};
    use bytes::Bytes;
    use chrono::Utc;

    use super::*;

    fn live(filter: Option<&str>) -> Arc<LiveEndpoint> {
        let mut spec = EndpointSpec::new("https://hooks.example.com/in", "standard");
        spec.filter = filter.map(str::to_owned);
        let endpoint = Endpoint {
            id: EndpointId::new(),
            tenant_id: TenantId::new(),
            name: "e".into(),
            display_name: String::new(),
            labels: std::collections::BTreeMap::new(),
            spec,
            state: EndpointState::Enabled,
            disabled_reason: String::new(),
            config_version: 1,
            created_version: 1,
            create_time: Utc::now(),
            update_time: Utc::now(),
        };
        Arc::new(LiveEndpoint::new(endpoint, Vec::new()))
    }

    fn event(body: &str) -> Event {
        Event {
            id: EventId::new(),
            tenant_id: TenantId::new(),
            source_id: None,
            event_type: "order.paid".into(),
            channel: None,
            content_type: "application/json".into(),
            headers: Bytes::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            time: Utc::now(),
        }
    }

    #[tokio::test]
    async fn a_filter_that_fails_is_asked_again_and_fails_alone() {
        let endpoints =
            [None, Some("event.data.total > 5"), Some("event.data.total < 5"), Some("event.data.none == 1")]
                .map(live);
        let event = event(r#"{"total": 9}"#);
        let kept = leave_out_unwanted(endpoints.to_vec(), &event).await;
        let ids: Vec<_> = kept.iter().map(|live| live.endpoint.id).collect();
        assert_eq!(ids, [0, 1, 3].map(|at: usize| endpoints[at].endpoint.id));
        let said = endpoints.each_ref().map(|live| wanted(live, &event));
        assert!(matches!(said, [Wanted::Yes, Wanted::Yes, Wanted::No, Wanted::Unknown(_)]), "{said:?}");
        let Wanted::Unknown(why) = &said[3] else { unreachable!("it was matched") };
        assert!(why.ends_with("line 1, column 11: there is no `none`"), "{why}");
    }

    #[tokio::test]
    async fn filters_that_cost_much_are_left_for_their_lanes() {
        let costly = "event.data.all(a, event.data.all(b, event.data.all(c, true))) && false";
        let endpoints: Vec<_> = (0..100).map(|_| live(Some(costly))).collect();
        let list = format!("[{}1]", "1,".repeat(99));
        let kept = leave_out_unwanted(endpoints, &event(&list)).await;
        assert_eq!(kept.len(), 100, "each fails, or is left for later: none is lost");
        let cheap: Vec<_> = (0..1000).map(|_| live(Some("event.type == 'other'"))).collect();
        let kept = leave_out_unwanted(cheap, &event("{}")).await;
        assert!(kept.len() < 1000, "those that were asked are left out");
    }
}
