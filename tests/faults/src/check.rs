//! The checker: proves from the evidence that nothing was lost, nothing went astray, nothing came
//! twice without a reason, and nothing is stuck.

mod order;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::catalog::{ENDPOINTS, KINDS};
use crate::evidence::{Evidence, Pair};
use crate::replica::Life;
use crate::sink::Arrival;

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    pub what: &'static str,
    /// When, to find the fault that was under way.
    pub at_s: f64,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.detail)
    }
}

/// A request that came again.
#[derive(Debug, Clone)]
pub struct Duplicate {
    pub again_s: f64,
    /// The index of the disturbance that explains it.
    pub because: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    pub duplicates: Vec<Duplicate>,
    /// Deliveries that had to happen.
    pub owed: usize,
    /// For each disturbance: how many requests were out, and how many of them came again.
    pub out: Vec<(usize, usize)>,
}

/// Judges all of it.
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    acknowledged_is_delivered(evidence, &mut verdict);
    nothing_went_astray(evidence, &mut verdict);
    nothing_twice_without_reason(evidence, &mut verdict);
    no_more_than_was_out(evidence, &mut verdict);
    nothing_is_stuck(evidence, &mut verdict);
    order::was_kept(evidence, &mut verdict);
    verdict
}

impl Verdict {
    fn add(&mut self, what: &'static str, at_s: f64, detail: String) {
        self.violations.push(Violation { what, at_s, detail });
    }
}

/// Invariants 1, 2 and 6.
fn acknowledged_is_delivered(evidence: &Evidence, verdict: &mut Verdict) {
    let arrived: Vec<HashMap<&str, bool>> = evidence
        .arrivals
        .iter()
        .map(|arrivals| {
            let mut answered = HashMap::new();
            for arrival in arrivals {
                *answered.entry(arrival.event_id.as_str()).or_insert(false) |= arrival.is_answered;
            }
            answered
        })
        .collect();
    for (number, sent) in evidence.sent.iter().enumerate() {
        let Some(at_s) = sent.acknowledged_s else { continue };
        if sent.event_ids.len() != 1 {
            let detail = format!("number {number} was acknowledged as {:?}", sent.event_ids);
            verdict.add("one webhook became several events", at_s, detail);
        }
        for event_id in &sent.event_ids {
            if !evidence.events.contains(event_id) {
                let detail = format!("{event_id} (number {number})");
                verdict.add("acknowledged, and not in Postgres", at_s, detail);
            }
            for (endpoint, kind) in ENDPOINTS.iter().enumerate() {
                if !kind.wants(&KINDS[sent.kind]) {
                    continue;
                }
                verdict.owed += 1;
                let pair = (event_id.clone(), endpoint);
                let is_dead = evidence.dead.get(&pair).is_some_and(|letter| !letter.reason.is_empty());
                let is_recorded = evidence
                    .attempts
                    .get(&pair)
                    .is_some_and(|attempts| attempts.iter().any(|attempt| attempt.decision == "delivered"));
                let has_arrived = arrived[endpoint].get(event_id.as_str()).copied();
                let what = match (is_dead || is_recorded, has_arrived) {
                    (false, Some(true)) => "delivered, and nobody wrote it down",
                    (false, _) => "acknowledged, and not delivered",
                    (true, _) if is_dead => continue,
                    (true, Some(true)) => continue,
                    (true, Some(false)) => "recorded as delivered, and was never answered 2xx",
                    (true, None) => "recorded as delivered, and never arrived",
                };
                let detail = format!("{event_id} for {}: {}", kind.name, evidence.says(&pair));
                verdict.add(what, at_s, detail);
            }
        }
    }
}

fn nothing_went_astray(evidence: &Evidence, verdict: &mut Verdict) {
    let mut ids: HashMap<u64, BTreeSet<&str>> = HashMap::new();
    for (arrivals, endpoint) in evidence.arrivals.iter().zip(ENDPOINTS) {
        for arrival in arrivals {
            let detail = format!("{} (number {}) at {}", arrival.event_id, arrival.number, endpoint.name);
            let Some(sent) = evidence.sent.get(arrival.number as usize) else {
                verdict.add("something arrived that was never sent", arrival.at_s, detail);
                continue;
            };
            ids.entry(arrival.number).or_default().insert(&arrival.event_id);
            if !endpoint.wants(&KINDS[sent.kind]) {
                verdict.add("sent to an endpoint it does not match", arrival.at_s, detail);
            } else if !arrival.is_signed {
                verdict.add("wrongly signed", arrival.at_s, detail);
            }
        }
    }
    for (number, ids) in ids.into_iter().filter(|(_, ids)| ids.len() > 1) {
        let at_s = evidence.sent[number as usize].acknowledged_s.unwrap_or_default();
        verdict.add("one webhook became several events", at_s, format!("number {number}: {ids:?}"));
    }
}

/// Never more came again than were out at the time.
fn no_more_than_was_out(evidence: &Evidence, verdict: &mut Verdict) {
    for (index, disturbance) in evidence.disturbances.iter().enumerate() {
        let mut out: HashSet<(&str, usize, u32)> = HashSet::new();
        for (endpoint, arrivals) in evidence.arrivals.iter().enumerate() {
            // What was recorded before, or came after, is not out: most of what arrived.
            for arrival in arrivals.iter().filter(|arrival| arrival.at_s <= disturbance.until_s) {
                let recorded = evidence.recorded(&(arrival.event_id.clone(), endpoint), arrival.attempt);
                if disturbance.explains(arrival.at_s, recorded, f64::MAX) {
                    out.insert((&arrival.event_id, endpoint, arrival.attempt));
                }
            }
        }
        for (pair, attempts) in &evidence.attempts {
            let numbers = attempts.iter().map(|attempt| attempt.number);
            for number in numbers.filter(|number| evidence.was_under_way(pair, *number, disturbance)) {
                out.insert((&pair.0, pair.1, number));
            }
        }
        let again = verdict.duplicates.iter().filter(|again| again.because == Some(index)).count();
        if again > out.len() {
            let detail = format!("{}: {again} came again of {} that were out", disturbance.what, out.len());
            verdict.add("more came again than was out", disturbance.from_s, detail);
        }
        verdict.out.push((out.len(), again));
    }
}

/// Invariant 3: what comes again was out, and unrecorded, when a dispatcher died, was stopped, or was
/// cut off from Postgres. `Bowline-Attempt` tells a repetition from a retry: a retry has the next number.
fn nothing_twice_without_reason(evidence: &Evidence, verdict: &mut Verdict) {
    for (endpoint, arrivals) in evidence.arrivals.iter().enumerate() {
        let mut by_event: HashMap<&str, Vec<&Arrival>> = HashMap::new();
        for arrival in arrivals {
            by_event.entry(&arrival.event_id).or_default().push(arrival);
        }
        for (event_id, mut arrivals) in by_event.into_iter().filter(|(_, arrivals)| arrivals.len() > 1) {
            arrivals.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
            let pair = (event_id.to_owned(), endpoint);
            duplicates_of(evidence, &pair, &arrivals, verdict);
        }
    }
}

fn duplicates_of(evidence: &Evidence, pair: &Pair, arrivals: &[&Arrival], verdict: &mut Verdict) {
    let attempts = evidence.attempts.get(pair).map(Vec::as_slice).unwrap_or_default();
    let delivered = attempts.iter().filter(|a| a.decision == "delivered").map(|a| a.number).min();
    let mut first: HashMap<u32, f64> = HashMap::new();
    for arrival in arrivals {
        let of = match delivered {
            Some(delivered) if delivered < arrival.attempt => delivered,
            _ => arrival.attempt,
        };
        let Some(first_s) = first.get(&of).copied() else {
            first.insert(arrival.attempt, arrival.at_s);
            continue;
        };
        let because = evidence.disturbances.iter().position(|disturbance| {
            disturbance.explains(first_s, evidence.recorded(pair, of), arrival.at_s)
                || (disturbance.from_s <= arrival.at_s && evidence.was_under_way(pair, of, disturbance))
        });
        if because.is_none() {
            let detail = format!("{} for {}: {}", pair.0, ENDPOINTS[pair.1].name, evidence.says(pair));
            verdict.add("sent again without a reason", arrival.at_s, detail);
        }
        let again_s = arrival.at_s;
        verdict.duplicates.push(Duplicate { again_s, because });
    }
}

fn nothing_is_stuck(evidence: &Evidence, verdict: &mut Verdict) {
    for (event_id, row) in &evidence.outbox {
        verdict.add("stuck in the outbox", f64::MAX, format!("{event_id}: {row}"));
    }
    for ((event_id, endpoint), row) in &evidence.queue {
        let name = ENDPOINTS[*endpoint].name;
        verdict.add("stuck in the queue", f64::MAX, format!("{event_id} for {name}: {row}"));
    }
}

/// Warm-up, after which memory should not grow.
const WARM_S: f64 = 20.0;
const JUDGED_S: f64 = 45.0;
const GROWTH_KIB: u64 = 64 * 1024;
const PEAK_KIB: u64 = 512 * 1024;

/// Invariant 7: memory is flat.
pub fn memory(lives: &[&Life]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for life in lives {
        let (Some(first), Some(last)) = (life.samples.first(), life.samples.last()) else { continue };
        let warm = life.samples.iter().take_while(|(at_s, _)| at_s - first.0 <= WARM_S);
        let warm_kib = warm.map(|(_, kib)| *kib).max().unwrap_or_default();
        let peak_kib = life.samples.iter().map(|(_, kib)| *kib).max().unwrap_or_default();
        let shown = format!("{}: {warm_kib} KiB warm, {peak_kib} at most, {} at the end", life.name, last.1);
        if peak_kib > PEAK_KIB {
            violations.push(Violation { what: "took too much memory", at_s: last.0, detail: shown });
        } else if last.0 - first.0 > JUDGED_S && last.1 > (warm_kib * 3 / 2).max(warm_kib + GROWTH_KIB) {
            violations.push(Violation { what: "memory grew", at_s: last.0, detail: shown });
        }
    }
    violations
}

#[cfg(test)]
mod tests;
