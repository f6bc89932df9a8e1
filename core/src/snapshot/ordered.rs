//! The ordered endpoints of one moment, for the journal: which of them an event is for, and in which of
//! their channels its place is.

use std::sync::Arc;

use super::configuration::Configuration;
use crate::event::Event;
use crate::id::EndpointId;

#[derive(Debug)]
pub struct OrderedEndpoints {
    of: Arc<Configuration>,
}

impl OrderedEndpoints {
    pub(super) fn of(of: Arc<Configuration>) -> Self {
        Self { of }
    }

    /// Of the configuration.
    pub fn version(&self) -> i64 {
        self.of.version
    }

    pub fn is_empty(&self) -> bool {
        self.of.ordered.is_empty()
    }

    /// The endpoints an event is for by type and channel, each with the event's channel there. What a strict
    /// catalog lacks is for nobody.
    pub fn places<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = (EndpointId, &'a str)> {
        let channel = event.channel.as_deref();
        let of_tenant = self.of.ordered.get(&event.tenant_id).filter(|_| !self.lacks(event)).into_iter();
        of_tenant
            .flat_map(move |endpoints| endpoints.matching(&event.event_type, channel))
            .filter_map(move |live| Some((live.endpoint.id, live.endpoint.spec.ordering.place(channel)?)))
    }
    fn lacks(&self, event: &Event) -> bool {
        let catalog = self.of.catalogs.get(&event.tenant_id);
        event.source_id.is_some() && catalog.is_some_and(|catalog| catalog.lacks(&event.event_type))
    }
}
