//! Which endpoints of a tenant an event goes to, found without looking at those it does not go to.
//!
//! An endpoint stands once under each pattern it names and, within, under each of its channels.
//! Patterns that another one of the same endpoint covers are left out, so an event finds an endpoint
//! at most once.

use std::sync::Arc;

use super::live::LiveEndpoint;
use super::sharded::{Sharded, Use};
use crate::event::OWN_EVENTS;
use crate::id::EndpointId;

/// Patterns times channels of one endpoint; beyond, its channels are compared when it matches.
const PLACES_MAX: usize = 1024;

type Listed = Sharded<EndpointId, Arc<LiveEndpoint>>;

/// The endpoints of one tenant, those that are paused or disabled too: they keep a backlog.
#[derive(Debug, Clone, Default)]
pub struct TenantEndpoints {
    listed: Listed,
    /// `*`, and endpoints that name nothing.
    all: ByChannel,
    /// `order.*` stands under `order.`.
    prefixes: Sharded<String, ByChannel>,
    exact: Sharded<String, ByChannel>,
}

#[derive(Debug, Clone, Default)]
struct ByChannel {
    /// Endpoints to which the channel is all the same, or which have too many to stand under each.
    any: Listed,
    named: Sharded<String, Listed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern<'a> {
    All,
    Prefix(&'a str),
    Exact(&'a str),
}

impl<'a> Pattern<'a> {
    fn read(text: &'a str) -> Self {
        match text.strip_suffix('*') {
            Some("") => Self::All,
            Some(prefix) if prefix.ends_with('.') => Self::Prefix(prefix),
            _ => Self::Exact(text),
        }
    }

    /// Whether everything `other` matches is matched by this pattern too.
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::All, Self::Prefix(text) | Self::Exact(text)) => !text.starts_with(OWN_EVENTS),
            (Self::Prefix(prefix), Self::Prefix(text) | Self::Exact(text)) => text.starts_with(prefix),
            (one, other) => one == other,
        }
    }
}

/// The patterns of an endpoint that no other one of it covers: an event type matches at most one.
fn patterns(event_types: &[String]) -> Vec<Pattern<'_>> {
    let mut kept: Vec<Pattern<'_>> = Vec::with_capacity(event_types.len().max(1));
    if event_types.is_empty() {
        kept.push(Pattern::All);
    }
    for pattern in event_types.iter().map(|text| Pattern::read(text)) {
        if !kept.iter().any(|other| other.covers(pattern)) {
            kept.retain(|other| !pattern.covers(*other));
            kept.push(pattern);
        }
    }
    kept
}

impl TenantEndpoints {
    /// The endpoints an event is for, each once, in no particular order. The caller leaves out those
    /// with a `created_version` after the event's (invariant 11).
    pub fn matching<'a>(
        &'a self,
        event_type: &'a str,
        channel: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<LiveEndpoint>> {
        let all = (!event_type.starts_with(OWN_EVENTS)).then_some(&self.all);
        // Nothing to look for where nobody names a prefix.
        let dotted = if self.prefixes.is_empty() { "" } else { event_type };
        let prefixes = dotted.match_indices('.').filter_map(|(at, _)| self.prefixes.get(&event_type[..=at]));
        let exact = self.exact.get(event_type);
        let wants = move |live: &&'a Arc<LiveEndpoint>| live.wants_channel(channel);
        all.into_iter()
            .chain(prefixes)
            .chain(exact)
            .flat_map(move |found| found.any.values().filter(wants).chain(found.named(channel)))
    }

    /// Every endpoint, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<LiveEndpoint>> {
        self.listed.values()
    }

    pub fn len(&self) -> usize {
        self.listed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Adds an endpoint that is not there.
    pub(super) fn insert(&mut self, live: &Arc<LiveEndpoint>) {
        self.listed.insert(live.endpoint.id, Arc::clone(live));
        self.each_place(live, |listed| {
            listed.insert(live.endpoint.id, Arc::clone(live));
        });
    }

    pub(super) fn remove(&mut self, live: &LiveEndpoint) {
        let id = live.endpoint.id;
        self.listed.remove(&id);
        self.each_place(live, |listed| {
            listed.remove(&id);
        });
    }

    fn each_place(&mut self, live: &LiveEndpoint, mut change: impl FnMut(&mut Listed)) {
        let spec = &live.endpoint.spec;
        let patterns = patterns(&spec.event_types);
        let channels: &[String] =
            if patterns.len() * spec.channels.len() <= PLACES_MAX { &spec.channels } else { &[] };
        for pattern in patterns {
            match pattern {
                Pattern::All => {
                    self.all.each_place(channels, &mut change);
                }
                Pattern::Prefix(prefix) => {
                    self.prefixes.change(prefix, |found| found.each_place(channels, &mut change));
                }
                Pattern::Exact(text) => {
                    self.exact.change(text, |found| found.each_place(channels, &mut change));
                }
            }
        }
    }
}

impl ByChannel {
    fn named<'a>(&'a self, channel: Option<&str>) -> impl Iterator<Item = &'a Arc<LiveEndpoint>> + use<'a> {
        channel.and_then(|channel| self.named.get(channel)).into_iter().flat_map(Sharded::values)
    }

    fn each_place(&mut self, channels: &[String], change: &mut impl FnMut(&mut Listed)) -> Use {
        if channels.is_empty() {
            change(&mut self.any);
        }
        for channel in channels {
            self.named.change(channel.as_str(), |listed| {
                change(listed);
                if listed.is_empty() { Use::None } else { Use::Some }
            });
        }
        if self.any.is_empty() && self.named.is_empty() { Use::None } else { Use::Some }
    }
}

#[cfg(test)]
mod tests;
