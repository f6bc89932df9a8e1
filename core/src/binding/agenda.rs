//! When each binding is due, and whose turn it is. Pure.
//!
//! Each tenant has a line of its own bindings, those first that are due first. The tenants have turns, and none
//! has all the places: a tenant with thousands of bindings, or with slow ones, keeps nobody waiting for longer
//! than one refresh of each other tenant takes (invariant 5).

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::id::{BindingId, TenantId};

/// Between two refreshes of one binding.
pub(crate) const PACE: Duration = Duration::from_millis(250);
/// Refreshes at a time; each holds a connection of the pool.
const AT_ONCE: usize = 3;
const OF_A_TENANT_MAX: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Agenda {
    lines: HashMap<TenantId, Line>,
    due: HashMap<BindingId, Instant>,
    begun: HashMap<BindingId, Instant>,
    /// With when each is due again.
    running: HashMap<BindingId, (TenantId, Option<Instant>)>,
    turns: u64,
}

/// What one tenant has; there only as long as that is something.
#[derive(Debug)]
struct Line {
    due: BTreeSet<(Instant, BindingId)>,
    running: usize,
    /// The tenant whose is the smallest is next.
    turn: u64,
}

impl Line {
    /// When its first one could begin.
    fn next(&self) -> Option<Instant> {
        self.due.first().filter(|_| self.running < OF_A_TENANT_MAX).map(|(at, _)| *at)
    }
}

impl Agenda {
    /// What is due already stays so.
    pub(super) fn want(&mut self, tenant: TenantId, id: BindingId, now: Instant) {
        let at = self.begun.get(&id).map_or(now, |begun| (*begun + PACE).max(now));
        self.put(tenant, id, at);
    }

    fn put(&mut self, tenant: TenantId, id: BindingId, at: Instant) {
        if let Some((_, again)) = self.running.get_mut(&id) {
            again.get_or_insert(at);
        } else if let Entry::Vacant(free) = self.due.entry(id) {
            free.insert(at);
            let turns = &mut self.turns;
            // Who comes anew stands behind those who wait.
            let line = self.lines.entry(tenant).or_insert_with(|| Line {
                due: BTreeSet::new(),
                running: 0,
                turn: next_turn(turns),
            });
            line.due.insert((at, id));
        }
    }

    /// When one could begin; `None` where only an end can change that.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.running.len() >= AT_ONCE {
            return None;
        }
        self.lines.values().filter_map(Line::next).min()
    }

    /// Takes one that is due and not being refreshed.
    pub(super) fn begin(&mut self, now: Instant) -> Option<BindingId> {
        if self.running.len() >= AT_ONCE {
            return None;
        }
        let due = self.lines.iter_mut().filter(|(_, line)| line.next().is_some_and(|at| at <= now));
        let (tenant, line) = due.min_by_key(|(_, line)| line.turn)?;
        let (_, id) = line.due.pop_first()?;
        line.running += 1;
        line.turn = next_turn(&mut self.turns);
        self.due.remove(&id);
        self.running.insert(id, (*tenant, None));
        self.begun.retain(|_, begun| *begun + PACE > now);
        self.begun.insert(id, now);
        Some(id)
    }

    /// It is refreshed; `again` where that has to be tried once more.
    pub(super) fn end(&mut self, id: BindingId, again: Option<Instant>) {
        let Some((tenant, wanted)) = self.running.remove(&id) else { return };
        if let Some(at) = wanted.or(again) {
            self.put(tenant, id, at);
        }
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.running -= 1;
            if line.running == 0 && line.due.is_empty() {
                self.lines.remove(&tenant);
            }
        }
    }
}

fn next_turn(turns: &mut u64) -> u64 {
    *turns += 1;
    *turns
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ANYBODY: TenantId = TenantId(uuid::Uuid::nil());

    fn tenant(number: u128) -> TenantId {
        TenantId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_burst_is_one_refresh_each_pace_and_one_at_the_end() {
        let (mut agenda, id, start) = (Agenda::default(), BindingId::new(), Instant::now());
        let (mut refreshes, mut last) = (Vec::new(), start);
        for step in 0..1000u64 {
            let now = start + Duration::from_millis(step);
            if step < 600 {
                agenda.want(ANYBODY, id, now);
                last = now;
            }
            while agenda.begin(now).is_some() {
                refreshes.push(now);
                agenda.end(id, None);
            }
        }
        let after: Vec<_> = refreshes.iter().map(|at| (*at - start).as_millis()).collect();
        assert_eq!(after, [0, 250, 500, 750]);
        assert!(refreshes.last().is_some_and(|at| *at > last));
        assert_eq!((agenda.next(), agenda.lines.len(), agenda.due.len()), (None, 0, 0));
    }

    #[test]
    fn what_comes_during_a_refresh_is_refreshed_after_it() {
        let (mut agenda, id, start) = (Agenda::default(), BindingId::new(), Instant::now());
        agenda.want(ANYBODY, id, start);
        assert_eq!(agenda.begin(start), Some(id));
        agenda.want(ANYBODY, id, start);
        assert_eq!((agenda.begin(start + 2 * PACE), agenda.next()), (None, None));
        agenda.end(id, None);
        assert_eq!(agenda.begin(start + 2 * PACE), Some(id));
        agenda.end(id, Some(start + 3 * PACE));
        assert_eq!(agenda.next(), Some(start + 3 * PACE));
    }

    #[test]
    fn tenants_have_turns_however_many_bindings_they_have() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        let mut owners = HashMap::new();
        let mut want = |agenda: &mut Agenda, number: u128, count: usize| {
            for _ in 0..count {
                let id = BindingId::new();
                owners.insert(id, number);
                agenda.want(tenant(number), id, start);
            }
        };
        want(&mut agenda, 1, 1000);
        want(&mut agenda, 2, 3);
        want(&mut agenda, 3, 1);
        let mut order = Vec::new();
        while let Some(id) = agenda.begin(start) {
            order.push(id);
            agenda.end(id, None);
        }
        let order: Vec<u128> = order.iter().map(|id| owners[id]).collect();
        assert_eq!((&order[..8], order.len()), (&[1, 2, 3, 1, 2, 1, 2, 1][..], 1004));
        assert!(agenda.lines.is_empty());
    }

    #[test]
    fn a_tenant_does_not_have_all_places() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        for _ in 0..10 {
            agenda.want(tenant(1), BindingId::new(), start);
        }
        let first = [agenda.begin(start), agenda.begin(start)];
        assert!(first.iter().all(Option::is_some));
        // Nothing to wake up for, though eight are due.
        assert_eq!((agenda.begin(start), agenda.next()), (None, None));
        let other = BindingId::new();
        agenda.want(tenant(2), other, start);
        assert_eq!((agenda.next(), agenda.begin(start)), (Some(start), Some(other)));
        agenda.want(tenant(3), BindingId::new(), start);
        assert_eq!((agenda.next(), agenda.begin(start)), (None, None), "all places are taken");
        agenda.end(other, None);
        assert_eq!(agenda.next(), Some(start));
    }
}
