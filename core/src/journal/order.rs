//! What of a batch is for ordered endpoints. It takes its places as it is committed, and the rows of its
//! channels are locked until then: so it is committed apart, and nobody else's events wait for it.

use super::chunk::Placement;
use super::fold::Group;
use crate::snapshot::OrderedEndpoints;
use crate::store::journal::{Orders, Place};

/// Those that are for no ordered endpoint first, then the others; each part in the order it had.
pub(super) fn part(groups: Vec<Group>, known: &OrderedEndpoints) -> [Vec<Group>; 2] {
    if known.is_empty() {
        return [groups, Vec::new()];
    }
    let (ordered, free) = groups.into_iter().partition(|group| known.places(group.event()).next().is_some());
    [free, ordered]
}

/// The places of a batch.
pub(super) fn places<'a>(
    groups: &'a [Group],
    placements: &[Placement],
    known: &'a OrderedEndpoints,
) -> Orders<'a> {
    let places = groups.iter().zip(placements).flat_map(|(group, placement)| {
        let (event, chunk) = (group.event(), placement.chunk);
        known.places(event).map(move |(endpoint, channel)| Place { event, chunk, endpoint, channel })
    });
    Orders { version: known.version(), places: places.collect() }
}
