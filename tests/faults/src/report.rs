//! The table of faults survived.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::check::{Verdict, Violation};
use crate::evidence::Evidence;
use crate::fault::Fault;
use crate::plan::Step;
use crate::replica::Life;

/// A step as it went; it lasts until the next one begins.
#[derive(Debug)]
pub struct Window {
    pub step: Step,
    pub from_s: f64,
    pub until_s: f64,
}

#[derive(Debug, Default)]
struct Row {
    alone: usize,
    mixed: usize,
    acknowledged: usize,
    delivered: usize,
    duplicates: usize,
    dead: usize,
    longest_gap_s: f64,
    violations: usize,
}

/// The window within which something happened: the last for what came after all of them.
pub fn window_at(windows: &[Window], at_s: f64) -> Option<usize> {
    windows.iter().rposition(|window| window.from_s <= at_s)
}

/// A row a fault; what happened under mixed faults counts for each of them.
pub fn table(windows: &[Window], evidence: &Evidence, verdict: &Verdict, violations: &[Violation]) -> String {
    let mut rows: BTreeMap<Fault, Row> = BTreeMap::new();
    let delivered_s = deliveries(evidence);
    for (index, window) in windows.iter().enumerate() {
        let within = |at_s: f64| (window.from_s..window.until_s).contains(&at_s);
        let here = |at_s: f64| window_at(windows, at_s) == Some(index);
        for fault in &window.step.faults {
            let row = rows.entry(*fault).or_default();
            *(if window.step.faults.len() == 1 { &mut row.alone } else { &mut row.mixed }) += 1;
            row.acknowledged +=
                evidence.sent.iter().filter(|sent| sent.acknowledged_s.is_some_and(within)).count();
            row.delivered += delivered_s.iter().filter(|at_s| within(**at_s)).count();
            row.duplicates += verdict.duplicates.iter().filter(|again| here(again.again_s)).count();
            row.dead += evidence.dead.values().filter(|letter| here(letter.died_s)).count();
            row.longest_gap_s = row.longest_gap_s.max(longest_gap_s(&delivered_s, window));
            row.violations += violations.iter().filter(|violation| here(violation.at_s)).count();
        }
    }
    let mut text = format!(
        "{:<22} {:>5} {:>5} {:>9} {:>9} {:>6} {:>5} {:>7}  {}\n",
        "fault", "alone", "mixed", "acknowl.", "delivered", "dupl.", "dead", "gap s", "verdict"
    );
    for (fault, row) in rows {
        let verdict = match row.violations {
            0 => "survived".to_owned(),
            count => format!("{count} VIOLATIONS"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<22} {:>5} {:>5} {:>9} {:>9} {:>6} {:>5} {:>7.1}  {verdict}",
            fault.name(),
            row.alone,
            row.mixed,
            row.acknowledged,
            row.delivered,
            row.duplicates,
            row.dead,
            row.longest_gap_s,
        );
    }
    text
}

/// What was out, and what of it came again, at each moment that may repeat requests.
pub fn repetitions(evidence: &Evidence, verdict: &Verdict) -> String {
    let mut text = String::new();
    for (disturbance, (out, again)) in evidence.disturbances.iter().zip(&verdict.out) {
        let _ = writeln!(text, "{}: {out} requests were out, {again} came again", disturbance.what);
    }
    text
}

/// When each delivery first succeeded, in order.
fn deliveries(evidence: &Evidence) -> Vec<f64> {
    let mut first: BTreeMap<(usize, &str), f64> = BTreeMap::new();
    for (endpoint, arrivals) in evidence.arrivals.iter().enumerate() {
        for arrival in arrivals.iter().filter(|arrival| arrival.is_answered) {
            let at_s = first.entry((endpoint, &arrival.event_id)).or_insert(arrival.at_s);
            *at_s = at_s.min(arrival.at_s);
        }
    }
    let mut all: Vec<f64> = first.into_values().collect();
    all.sort_by(f64::total_cmp);
    all
}

fn longest_gap_s(delivered_s: &[f64], window: &Window) -> f64 {
    let mut last_s = window.from_s;
    let mut longest_s: f64 = 0.0;
    let within = delivered_s.iter().filter(|at_s| (window.from_s..window.until_s).contains(*at_s));
    for at_s in within.chain([&window.until_s]) {
        longest_s = longest_s.max(at_s - last_s);
        last_s = *at_s;
    }
    longest_s
}

/// What each kind of replica took, over all its lives.
pub fn memory(lives: &[&Life]) -> String {
    let mib = |kib: u64| kib as f64 / 1024.0;
    let mut text = String::new();
    for kind in ["ingest", "dispatcher"] {
        let of: Vec<_> = lives.iter().filter(|life| life.name.starts_with(kind)).collect();
        let peak = of.iter().flat_map(|life| &life.samples).map(|(_, kib)| *kib).max().unwrap_or_default();
        let last = of.iter().filter_map(|life| life.samples.last()).map(|(_, kib)| *kib).max();
        let _ = writeln!(
            text,
            "{kind}: {} processes, {:.0} MiB at most, {:.0} MiB at the end",
            of.len(),
            mib(peak),
            mib(last.unwrap_or_default())
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_counts_from_edge_to_edge() {
        let step = Step { faults: vec![Fault::RedisFlush], hold_s: 1, seed: 0 };
        let window = Window { step, from_s: 10.0, until_s: 20.0 };
        let gap = |delivered: &[f64]| (longest_gap_s(delivered, &window) * 10.0).round();
        assert!((gap(&[]) - 100.0).abs() < 0.1);
        assert!((gap(&[5.0, 11.0, 14.0, 19.0, 25.0]) - 50.0).abs() < 0.1);
        assert_eq!(window_at(&[window], 9.0), None);
    }
}
