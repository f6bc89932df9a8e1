//! What a JSONPath may cost, told from its text: how many times it may look at each value of a payload.
//!
//! - Names, indices, slices and `*` lead one level down: however many there are, each value is passed once.
//! - A list in brackets may lead to the same values once for each comma, and so does all that follows.
//! - `..` leads to all values at once: each part from there on passes over all of them. A second one would begin
//!   anew below each of them: as often as the payload is deep.
//! - A filter does each of its conditions for each value, and each part of a condition where `..` is before it.
//!   A filter inside would do all of that again for each of these.
//! - Two places are compared with all that is below them. Behind `..` that would be compared for each level above.
//! - `$` in a filter begins at the top for each value. `match` and `search` cost what their pattern wants.
//! - `length`, `count` and `value` look once at what they are given.

use super::PathError;

/// So much a JSONPath may cost.
pub(super) const PASSES_MAX: u32 = 16;
/// In each other. The parser tries several ways for each, and within each of these all that is inside.
pub(super) const PARENTHESES_MAX: u32 = 3;
/// The functions of JSONPath whose work depends on a pattern, not on the payload.
const PATTERN_FUNCTIONS: [&str; 2] = ["match", "search"];

/// Of a path that is none, what it is told does not matter: the parser says what it is not.
pub(super) fn check(path: &str) -> Result<(), PathError> {
    let mut scan = Scan { text: path, at: 1, descents: 0 };
    let passes = scan.parts(false, false)?;
    if passes > PASSES_MAX { Err(PathError::Costly { passes }) } else { Ok(()) }
}

struct Scan<'p> {
    text: &'p str,
    at: usize,
    descents: u32,
}

impl Scan<'_> {
    /// Nothing stands behind the end: 0.
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    /// What the parts of a path cost that begins at one value of each place; `everywhere` where those may be below
    /// each other.
    fn parts(&mut self, in_filter: bool, mut everywhere: bool) -> Result<u32, PathError> {
        let (mut passes, mut ways) = (1u32, 1u32);
        loop {
            let (selectors, conditions) = match self.peek() {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.at += 1;
                    continue;
                }
                b'.' => {
                    self.at += 1;
                    if self.peek() == b'.' {
                        self.descents += 1;
                        if self.descents > 1 {
                            return Err(PathError::Descents);
                        }
                        self.at += 1;
                        everywhere = true;
                    }
                    if self.peek() == b'[' {
                        continue;
                    }
                    self.name();
                    (1, 0)
                }
                b'[' => self.brackets(in_filter, everywhere)?,
                _ => return Ok(passes),
            };
            let again = if everywhere { selectors } else { selectors - 1 };
            passes = passes.saturating_add(ways.saturating_mul(conditions + again));
            ways = ways.saturating_mul(selectors);
        }
    }

    fn name(&mut self) {
        while matches!(self.peek(), b'*' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | 0x80..) {
            self.at += 1;
        }
    }

    /// How many selectors there are, and what their conditions cost.
    fn brackets(&mut self, in_filter: bool, everywhere: bool) -> Result<(u32, u32), PathError> {
        self.at += 1;
        let (mut selectors, mut conditions) = (1, 0);
        loop {
            match self.peek() {
                b'?' if in_filter => return Err(PathError::FilterInFilter),
                b'?' => {
                    self.at += 1;
                    conditions += self.filter(everywhere)?;
                    continue;
                }
                quote @ (b'\'' | b'"') => {
                    self.quoted(quote);
                    continue;
                }
                b',' => selectors += 1,
                b']' | 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok((selectors, conditions))
    }

    /// Up to the comma or the bracket that ends it.
    fn filter(&mut self, everywhere: bool) -> Result<u32, PathError> {
        // Of the condition it is in: the places it names, and whether it compares.
        let (mut cost, mut depth, mut places, mut compares) = (1u32, 0u32, 0, false);
        loop {
            match self.peek() {
                0 => return Ok(cost),
                b']' | b',' if depth == 0 => return Ok(cost),
                quote @ (b'\'' | b'"') => {
                    self.quoted(quote);
                    continue;
                }
                b'$' => return Err(PathError::Roots),
                b'@' => {
                    self.at += 1;
                    places += 1;
                    cost += self.parts(true, everywhere)?;
                    if everywhere && compares && places > 1 {
                        return Err(PathError::ComparedPlaces);
                    }
                    continue;
                }
                b'(' => {
                    let before = &self.text[..self.at];
                    if PATTERN_FUNCTIONS.iter().any(|function| before.ends_with(function)) {
                        return Err(PathError::Pattern);
                    }
                    depth += 1;
                    cost += 1;
                    if depth > PARENTHESES_MAX {
                        return Err(PathError::Parentheses);
                    }
                }
                b')' => depth = depth.saturating_sub(1),
                b'=' | b'<' | b'>' => compares = true,
                b'&' | b'|' => {
                    self.at += 1;
                    cost += 1;
                    (places, compares) = (0, false);
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn quoted(&mut self, quote: u8) {
        self.at += 1;
        loop {
            match self.peek() {
                b'\\' => self.at += 2,
                0 => return,
                other => {
                    self.at += 1;
                    if other == quote {
                        return;
                    }
                }
            }
        }
    }
}
