use std::collections::BTreeSet;

use chrono::DateTime;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::endpoint::{Endpoint, EndpointSpec, EndpointState};
use crate::id::DEFAULT_TENANT;

fn live(number: u128, event_types: &[&str], channels: &[&str]) -> Arc<LiveEndpoint> {
    let mut spec = EndpointSpec::new("https://receiver.example/", "standard");
    spec.event_types = event_types.iter().map(|text| (*text).to_owned()).collect();
    spec.channels = channels.iter().map(|text| (*text).to_owned()).collect();
    let endpoint = Endpoint {
        id: EndpointId(Uuid::from_u128(number)),
        tenant_id: DEFAULT_TENANT,
        name: format!("endpoint-{number}"),
        display_name: String::new(),
        labels: std::collections::BTreeMap::new(),
        spec,
        state: EndpointState::Enabled,
        disabled_reason: String::new(),
        config_version: 1,
        created_version: 1,
        create_time: DateTime::UNIX_EPOCH,
        update_time: DateTime::UNIX_EPOCH,
    };
    let live = LiveEndpoint::new(endpoint, Vec::new());
    assert_eq!(live.fault, None);
    Arc::new(live)
}

fn tenant(endpoints: &[Arc<LiveEndpoint>]) -> TenantEndpoints {
    let mut tenant = TenantEndpoints::default();
    for live in endpoints {
        tenant.insert(live);
    }
    tenant
}

/// In order, repeated ones repeated.
fn found(tenant: &TenantEndpoints, event_type: &str, channel: Option<&str>) -> Vec<u128> {
    let mut ids: Vec<u128> =
        tenant.matching(event_type, channel).map(|live| live.endpoint.id.0.as_u128()).collect();
    ids.sort_unstable();
    ids
}

/// What matching means, said the slow way.
fn wants(live: &LiveEndpoint, event_type: &str, channel: Option<&str>) -> bool {
    let spec = &live.endpoint.spec;
    let own = event_type.starts_with("bowline.");
    let named = spec.event_types.iter().any(|pattern| match pattern.strip_suffix(".*") {
        Some(prefix) => event_type.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')),
        None if pattern == "*" => !own,
        None => pattern == event_type,
    });
    let typed = named || (spec.event_types.is_empty() && !own);
    typed
        && (spec.channels.is_empty()
            || channel.is_some_and(|channel| spec.channels.iter().any(|c| c == channel)))
}

#[test]
fn patterns_and_channels() {
    let tenant = tenant(&[
        live(1, &[], &[]),
        live(2, &["*"], &["a"]),
        live(3, &["order.*"], &[]),
        live(4, &["order.created", "order.*", "*", "order.created"], &["a", "b", "a"]),
        live(5, &["order.created"], &["b"]),
        live(6, &["orders.*", "order"], &[]),
        live(7, &["order.item.*"], &[]),
    ]);
    assert_eq!(found(&tenant, "order.created", None), [1, 3]);
    assert_eq!(found(&tenant, "order.created", Some("a")), [1, 2, 3, 4]);
    assert_eq!(found(&tenant, "order.created", Some("b")), [1, 3, 4, 5]);
    assert_eq!(found(&tenant, "order.created", Some("c")), [1, 3]);
    assert_eq!(found(&tenant, "order.item.added", None), [1, 3, 7]);
    assert_eq!(found(&tenant, "order", None), [1, 6]);
    assert_eq!(found(&tenant, "push", Some("b")), [1, 4]);
}

#[test]
fn bowlines_own_events_go_only_to_those_that_name_them() {
    let tenant = tenant(&[
        live(1, &[], &[]),
        live(2, &["*"], &[]),
        live(3, &["*", "bowline.delivery.dead"], &[]),
        live(4, &["bowline.*"], &[]),
        live(5, &["bowline.endpoint.*", "*"], &["a"]),
    ]);
    assert_eq!(found(&tenant, "bowline.delivery.dead", None), [3, 4]);
    assert_eq!(found(&tenant, "bowline.endpoint.disabled", Some("a")), [4, 5]);
    assert_eq!(found(&tenant, "bowlines.x", Some("a")), [1, 2, 3, 5]);
}

#[test]
fn many_patterns_times_many_channels_are_compared_instead() {
    let types: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let channels: Vec<String> = (0..200).map(|n| format!("c{n}")).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
    let wide = live(1, &types, &channels);
    let mut tenant = tenant(&[Arc::clone(&wide)]);
    assert_eq!(found(&tenant, "t7", Some("c199")), [1]);
    assert_eq!(found(&tenant, "t7", Some("c200")), [0u128; 0]);
    assert_eq!(found(&tenant, "t7", None), [0u128; 0]);
    tenant.remove(&wide);
    assert!(tenant.exact.is_empty() && tenant.is_empty());
}

#[test]
fn an_endpoint_this_build_cannot_send_to_keeps_its_backlog() {
    let mut endpoint = live(1, &["a"], &[]).endpoint.clone();
    endpoint.spec.format = "of-a-later-version".into();
    let held = LiveEndpoint::new(endpoint, Vec::new());
    assert_eq!(held.fault.as_deref(), Some("the format `of-a-later-version` is not in this version"));
    assert_eq!(held.endpoint.state, EndpointState::Paused);
    assert_eq!(held.url.host(), None);
    assert_eq!(found(&tenant(&[Arc::new(held)]), "a", None), [1]);
}

const TYPES: [&str; 7] = ["a", "a.b", "a.b.c", "b", "ab.c", "bowline.a", "bowline.a.b"];
const PATTERNS: [&str; 11] =
    ["*", "a", "a.*", "a.b", "a.b.*", "a.b.c", "b", "ab.*", "bowline.*", "bowline.a", "bowline.a.*"];
const CHANNELS: [&str; 3] = ["x", "y", "z"];

fn some_endpoints() -> impl Strategy<Value = Vec<Arc<LiveEndpoint>>> {
    let patterns = prop::collection::vec(prop::sample::select(&PATTERNS[..]), 0..5);
    let channels = prop::collection::vec(prop::sample::select(&CHANNELS[..]), 0..4);
    prop::collection::vec((patterns, channels), 0..12).prop_map(|specs| {
        specs.iter().enumerate().map(|(n, (types, channels))| live(n as u128, types, channels)).collect()
    })
}

proptest! {
    #[test]
    fn finds_what_looking_at_each_one_finds(
        endpoints in some_endpoints(),
        event_type in prop::sample::select(&TYPES[..]),
        channel in prop::option::of(prop::sample::select(&["x", "y", "none"][..])),
        gone in prop::collection::btree_set(0usize..12, 0..6),
    ) {
        let before = tenant(&endpoints);
        let mut after = before.clone();
        for (number, live) in endpoints.iter().enumerate() {
            if gone.contains(&number) {
                after.remove(live);
            }
        }
        let expected = |gone: &BTreeSet<usize>| -> Vec<u128> {
            let kept = endpoints.iter().enumerate().filter(|(number, _)| !gone.contains(number));
            kept.filter(|(_, live)| {
                let says = live.endpoint.spec.wants(event_type, channel);
                assert_eq!(says, wants(live, event_type, channel), "{event_type} {channel:?}");
                says
            }).map(|(n, _)| n as u128).collect()
        };
        prop_assert_eq!(found(&before, event_type, channel), expected(&BTreeSet::new()));
        prop_assert_eq!(found(&after, event_type, channel), expected(&gone));
    }

    #[test]
    fn removing_all_leaves_nothing(endpoints in some_endpoints()) {
        let mut tenant = tenant(&endpoints);
        for live in &endpoints {
            tenant.remove(live);
        }
        prop_assert!(tenant.is_empty() && tenant.exact.is_empty() && tenant.prefixes.is_empty());
        prop_assert!(tenant.all.any.is_empty() && tenant.all.named.is_empty());
    }
}
