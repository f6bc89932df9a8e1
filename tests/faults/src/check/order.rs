//! Order: of two events of one channel, of which one was acknowledged before the other was sent, that one is
//! decided before the other arrives.

use std::collections::HashMap;

use super::Verdict;
use crate::catalog::{ENDPOINTS, KINDS};
use crate::evidence::Evidence;

/// One event at an ordered endpoint.
struct Turn<'a> {
    event_id: &'a str,
    begun_s: f64,
    acknowledged_s: f64,
    /// When it first arrived; when it was first answered 2xx, or became a dead letter.
    arrived_s: Option<f64>,
    decided_s: f64,
}

pub(super) fn was_kept(evidence: &Evidence, verdict: &mut Verdict) {
    for (endpoint, kind) in ENDPOINTS.iter().enumerate().filter(|(_, kind)| kind.ordered) {
        let mut arrived: HashMap<&str, f64> = HashMap::new();
        let mut answered: HashMap<&str, f64> = HashMap::new();
        for arrival in &evidence.arrivals[endpoint] {
            let id = arrival.event_id.as_str();
            arrived.entry(id).and_modify(|at_s| *at_s = at_s.min(arrival.at_s)).or_insert(arrival.at_s);
            if arrival.is_answered {
                answered.entry(id).and_modify(|at_s| *at_s = at_s.min(arrival.at_s)).or_insert(arrival.at_s);
            }
        }
        let mut channels: HashMap<&str, Vec<Turn<'_>>> = HashMap::new();
        for sent in evidence.sent.iter().filter(|sent| kind.wants(&KINDS[sent.kind])) {
            for event_id in &sent.event_ids {
                let dead = evidence.dead.get(&(event_id.clone(), endpoint)).map(|letter| letter.died_s);
                channels.entry(KINDS[sent.kind].channel).or_default().push(Turn {
                    event_id,
                    begun_s: sent.begun_s,
                    acknowledged_s: sent.acknowledged_s.unwrap_or(f64::MAX),
                    arrived_s: arrived.get(event_id.as_str()).copied(),
                    // What is not decided at all is told by another check.
                    decided_s: answered.get(event_id.as_str()).copied().or(dead).unwrap_or_default(),
                });
            }
        }
        for (channel, turns) in channels {
            in_channel(&format!("{} at {}", channel, kind.name), turns, verdict);
        }
    }
}

fn in_channel(name: &str, mut turns: Vec<Turn<'_>>, verdict: &mut Verdict) {
    let mut by_acknowledgement: Vec<usize> = (0..turns.len()).collect();
    turns.sort_by(|a, b| a.begun_s.total_cmp(&b.begun_s));
    by_acknowledgement.sort_by(|a, b| turns[*a].acknowledged_s.total_cmp(&turns[*b].acknowledged_s));
    let mut before = by_acknowledgement.into_iter().peekable();
    let mut last: Option<usize> = None;
    for turn in &turns {
        // The latest decision of all that were acknowledged before this one was sent.
        while let Some(other) = before.next_if(|other| turns[*other].acknowledged_s < turn.begun_s) {
            if last.is_none_or(|last| turns[last].decided_s < turns[other].decided_s) {
                last = Some(other);
            }
        }
        let (Some(last), Some(arrived_s)) = (last, turn.arrived_s) else { continue };
        if turns[last].decided_s > arrived_s {
            let detail = format!(
                "{name}: {} arrived {arrived_s:.3}, {} before it was decided {:.3}",
                turn.event_id, turns[last].event_id, turns[last].decided_s
            );
            verdict.add("sent out of turn", arrived_s, detail);
        }
    }
}
