//! Inputs without a fuzzer: seeds that are changed here and there, the same ones each time.

/// `SplitMix64`: what matters is that it is always the same.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }
}

/// Longer inputs find nothing that shorter ones do not.
const BYTES_MAX: usize = 4096;
const CHANGES_MAX: usize = 6;

/// Every seed as it is, and then `count` inputs that are made of them.
pub fn inputs<'a>(
    seeds: &'a [&'a [u8]],
    words: &'a [&'a str],
    count: usize,
) -> impl Iterator<Item = Vec<u8>> + 'a {
    let mut dice = Dice::new(count as u64);
    let made = (0..count).map(move |_| {
        let mut input = seeds[dice.below(seeds.len())].to_vec();
        for _ in 0..=dice.below(CHANGES_MAX) {
            change(&mut input, seeds, words, &mut dice);
        }
        input.truncate(BYTES_MAX);
        input
    });
    seeds.iter().map(|seed| seed.to_vec()).chain(made)
}

fn change(input: &mut Vec<u8>, seeds: &[&[u8]], words: &[&str], dice: &mut Dice) {
    let at = dice.below(input.len() + 1);
    let end = at + dice.below((input.len() - at).min(32) + 1);
    match dice.below(8) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = dice.below(256) as u8,
        2 => drop(input.drain(at..end)),
        3 => {
            let again = input[at..end].to_vec();
            drop(input.splice(at..at, again));
        }
        4 => {
            let other = seeds[dice.below(seeds.len())];
            let from = dice.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        5 => {
            let digits = dice.below(1 << 20).to_string();
            drop(input.splice(at..end, digits.bytes()));
        }
        // In place of something, or beside it.
        6 => drop(input.splice(at..end, words[dice.below(words.len())].bytes())),
        _ => drop(input.splice(at..at, words[dice.below(words.len())].bytes())),
    }
}

/// Reads choices from an input, as far as it goes; then all of them are 0.
#[derive(Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    #[must_use]
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> usize {
        self.take(1).first().copied().unwrap_or_default().into()
    }

    /// At most so many bytes.
    pub fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A few bytes, as many as the input says.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = self.byte();
        self.take(length)
    }
}
