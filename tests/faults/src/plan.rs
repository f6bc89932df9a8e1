//! What happens when: made of a seed, so that a run can be repeated.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::fault::Fault;

/// Between the end of a step and the next one, for takeovers to show.
pub const REST_S: u32 = 4;
const MIXED_MAX: usize = 3;

/// Faults that happen together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub faults: Vec<Fault>,
    pub hold_s: u32,
    /// Decides which replica, which link, how far.
    pub seed: u64,
}

/// Every fault alone, in an order of the seed's, and mixed from then on, until the time is full.
pub fn plan(seed: u64, seconds: u32, faults: &[Fault]) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut steps = Vec::new();
    let mut left_s = i64::from(seconds);
    let mut alone: Vec<Fault> = faults.to_vec();
    alone.shuffle(&mut random);
    while left_s > 0 && !faults.is_empty() {
        let chosen = match alone.pop() {
            Some(fault) => vec![fault],
            None => mixture(&mut random, faults),
        };
        let hold_s = chosen.iter().map(|fault| random.random_range(fault.hold_s())).max().unwrap_or_default();
        left_s -= i64::from(hold_s + REST_S);
        steps.push(Step { faults: chosen, hold_s, seed: random.random() });
    }
    steps
}

fn mixture(random: &mut StdRng, faults: &[Fault]) -> Vec<Fault> {
    let count = random.random_range(2..=MIXED_MAX);
    let mut order = faults.to_vec();
    order.shuffle(random);
    let mut chosen: Vec<Fault> = Vec::new();
    for fault in order {
        if chosen.len() < count && chosen.iter().all(|other| other.part() != fault.part()) {
            chosen.push(fault);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FAULTS;

    #[test]
    fn a_seed_makes_one_plan_with_every_fault_alone_first() {
        let steps = plan(7, 3600, FAULTS);
        assert_eq!(steps, plan(7, 3600, FAULTS));
        assert_ne!(steps, plan(8, 3600, FAULTS));
        let mut alone: Vec<Fault> = steps[..FAULTS.len()].iter().map(|step| step.faults[0]).collect();
        alone.sort();
        assert_eq!(alone, FAULTS);
        let mixed = &steps[FAULTS.len()..];
        assert!(mixed.len() > 50);
        for step in mixed {
            assert!((2..=3).contains(&step.faults.len()), "{step:?}");
        }
    }

    #[test]
    fn a_short_plan_is_short_and_one_fault_can_be_had_alone() {
        assert!(plan(1, 30, FAULTS).len() < 6);
        let steps = plan(1, 60, &[Fault::RedisFlush]);
        assert!(steps.iter().all(|step| step.faults == [Fault::RedisFlush]));
        assert!(plan(1, 60, &[]).is_empty());
    }
}
