//! Each promise, broken on purpose: the checker has to see it.

use super::*;
use crate::evidence::{Attempt, DeadLetter};
use crate::fault::Disturbance;
use crate::traffic::Sent;

const PUSH: usize = 5;
const FLAKY: usize = 6;
const NEVER: usize = 9;

fn arrival(number: u64, attempt: u32, at_s: f64) -> Arrival {
    let event_id = format!("evt_{number}");
    Arrival { at_s, event_id, number, attempt, is_answered: true, is_signed: true }
}

fn attempt(number: u32, decision: &str, recorded_s: f64) -> Attempt {
    Attempt {
        number,
        kind: "request".into(),
        decision: decision.into(),
        error_kind: String::new(),
        begun_s: None,
        recorded_s,
    }
}

/// One push, acknowledged at 10 s, delivered to both who want it.
fn fine() -> Evidence {
    let mut evidence = Evidence {
        sent: vec![Sent {
            kind: 0,
            begun_s: 9.9,
            acknowledged_s: Some(10.0),
            event_ids: vec!["evt_0".into()],
        }],
        arrivals: vec![Vec::new(); ENDPOINTS.len()],
        ..Evidence::default()
    };
    evidence.events.insert("evt_0".into());
    for endpoint in [PUSH, FLAKY] {
        evidence.arrivals[endpoint].push(arrival(0, 1, 10.1));
        evidence.attempts.insert(("evt_0".into(), endpoint), vec![attempt(1, "delivered", 10.2)]);
    }
    evidence
}

fn found(evidence: &Evidence) -> Vec<&'static str> {
    judge(evidence).violations.into_iter().map(|violation| violation.what).collect()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let verdict = judge(&fine());
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
    assert_eq!((verdict.owed, verdict.duplicates.len()), (2, 0));
}

#[test]
fn what_is_lost_is_found() {
    let mut lost = fine();
    lost.arrivals[PUSH].clear();
    assert_eq!(found(&lost), ["recorded as delivered, and never arrived"]);
    lost.attempts.clear();
    lost.arrivals[FLAKY].clear();
    assert_eq!(found(&lost), ["acknowledged, and not delivered"; 2]);
    lost.events.clear();
    assert!(found(&lost).contains(&"acknowledged, and not in Postgres"));
    // A dead letter is an answer, if it says why.
    let mut dead = fine();
    dead.attempts.remove(&("evt_0".into(), PUSH));
    dead.arrivals[PUSH].clear();
    let letter = |reason: &str| DeadLetter { reason: reason.into(), died_s: 11.0 };
    dead.dead.insert(("evt_0".into(), PUSH), letter("attempts_exhausted"));
    assert!(found(&dead).is_empty());
    dead.dead.insert(("evt_0".into(), PUSH), letter(""));
    assert_eq!(found(&dead), ["acknowledged, and not delivered"]);
}

#[test]
fn a_success_that_nobody_saw_or_wrote_down_is_found() {
    let mut lied = fine();
    lied.arrivals[PUSH][0].is_answered = false;
    assert_eq!(found(&lied), ["recorded as delivered, and was never answered 2xx"]);
    let mut unwritten = fine();
    unwritten.attempts.remove(&("evt_0".into(), PUSH));
    assert_eq!(found(&unwritten), ["delivered, and nobody wrote it down"]);
}

#[test]
fn what_went_astray_is_found() {
    let mut astray = fine();
    astray.arrivals[NEVER].push(arrival(0, 1, 10.1));
    assert_eq!(found(&astray), ["sent to an endpoint it does not match"]);
    let mut unsigned = fine();
    unsigned.arrivals[PUSH][0].is_signed = false;
    assert_eq!(found(&unsigned), ["wrongly signed"]);
    let mut unknown = fine();
    unknown.arrivals[PUSH].push(arrival(7, 1, 10.1));
    assert_eq!(found(&unknown), ["something arrived that was never sent"]);
    let mut doubled = fine();
    doubled.arrivals[PUSH].push(Arrival { event_id: "evt_9".into(), ..arrival(0, 1, 10.3) });
    assert_eq!(found(&doubled), ["one webhook became several events"]);
    let mut renamed = fine();
    renamed.sent[0].event_ids.push("evt_9".into());
    assert!(found(&renamed).contains(&"one webhook became several events"));
}

#[test]
fn a_repetition_needs_a_reason_and_a_retry_does_not() {
    let mut again = fine();
    again.arrivals[PUSH].push(arrival(0, 1, 15.0));
    assert_eq!(found(&again), ["sent again without a reason"]);
    again.disturbances.push(Disturbance { what: "crash".into(), from_s: 10.15, until_s: 10.5, stops: false });
    let verdict = judge(&again);
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
    assert_eq!((verdict.duplicates[0].because, &verdict.out[..]), (Some(0), &[(2, 1)][..]));
    // One request was out, and it came twice more.
    again.arrivals[FLAKY].clear();
    again.attempts.remove(&("evt_0".into(), FLAKY));
    again.arrivals[PUSH].push(arrival(0, 1, 16.0));
    assert!(found(&again).contains(&"more came again than was out"));

    // Begun before its dispatcher was stopped, sent when it went on; another one had taken over.
    let mut stopped = fine();
    stopped.arrivals[PUSH].push(arrival(0, 1, 25.0));
    stopped.disturbances.push(Disturbance { what: "stop".into(), from_s: 9.5, until_s: 9.8, stops: true });
    assert_eq!(found(&stopped), ["sent again without a reason"]);
    let late = Attempt { begun_s: Some(9.4), ..attempt(1, "delivered", 25.1) };
    stopped.attempts.entry(("evt_0".into(), PUSH)).or_default().push(late);
    assert!(found(&stopped).is_empty());

    let mut retried = fine();
    retried.arrivals[PUSH].push(arrival(0, 2, 15.0));
    retried
        .attempts
        .insert(("evt_0".into(), PUSH), vec![attempt(1, "retry", 10.2), attempt(2, "delivered", 15.1)]);
    assert!(found(&retried).is_empty());
    // After a success there is nothing to try again.
    let mut needless = fine();
    needless.arrivals[PUSH].push(arrival(0, 2, 15.0));
    assert_eq!(found(&needless), ["sent again without a reason"]);
}

/// `user.created`, of the channel green; three who want it.
const IN_TURN: usize = 8;

#[test]
fn what_is_sent_out_of_turn_is_found() {
    let mut ordered = Evidence { arrivals: vec![Vec::new(); ENDPOINTS.len()], ..Evidence::default() };
    for number in 0..3 {
        let event_id = format!("evt_{number}");
        let begun_s = 10.0 + number as f64;
        let sent =
            Sent { kind: 5, begun_s, acknowledged_s: Some(begun_s + 0.5), event_ids: vec![event_id.clone()] };
        ordered.sent.push(sent);
        ordered.arrivals[IN_TURN].push(arrival(number, 1, 20.0 + number as f64));
        ordered.events.insert(event_id);
    }
    let out_of_turn =
        |evidence: &Evidence| found(evidence).iter().filter(|what| **what == "sent out of turn").count();
    assert_eq!(out_of_turn(&ordered), 0);
    // The second comes while the first is still tried.
    ordered.arrivals[IN_TURN][0].is_answered = false;
    ordered.arrivals[IN_TURN].push(arrival(0, 2, 20.5));
    assert_eq!(out_of_turn(&ordered), 0);
    ordered.arrivals[IN_TURN][3].at_s = 21.5;
    assert_eq!(out_of_turn(&ordered), 1);
    ordered.arrivals[IN_TURN][3].at_s = 22.5;
    assert_eq!(out_of_turn(&ordered), 2);
    // Nobody had heard of the first when the others were sent.
    ordered.sent[0].acknowledged_s = Some(30.0);
    assert_eq!(out_of_turn(&ordered), 0);
    // One that died has made room.
    ordered.sent[0].acknowledged_s = Some(10.5);
    ordered.arrivals[IN_TURN].pop();
    let letter = DeadLetter { reason: "attempts_exhausted".into(), died_s: 20.5 };
    ordered.dead.insert(("evt_0".into(), IN_TURN), letter);
    assert_eq!(out_of_turn(&ordered), 0);
}

#[test]
fn what_is_stuck_is_found() {
    let mut stuck = fine();
    stuck.queue.insert(("evt_0".into(), PUSH), "due".into());
    stuck.outbox.insert("evt_0".into(), "chunk".into());
    assert_eq!(found(&stuck), ["stuck in the outbox", "stuck in the queue"]);
}

#[test]
fn memory_that_grows_is_found() {
    let life = |kib: fn(u32) -> u64| Life {
        name: "ingest-0.1".into(),
        samples: (0..100).map(|second| (f64::from(second), kib(second))).collect(),
    };
    assert!(memory(&[&life(|_| 50_000), &life(|second| 50_000 + u64::from(second))]).is_empty());
    assert_eq!(memory(&[&life(|second| 50_000 + 2_000 * u64::from(second))])[0].what, "memory grew");
    assert_eq!(
        memory(&[&life(|second| if second == 50 { 600_000 } else { 50_000 })])[0].what,
        "took too much memory"
    );
}
