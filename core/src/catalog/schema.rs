//! A JSON Schema made ready to check payloads: within limits when it is made, within an allowance when it
//! is used. It refers to nothing outside itself, and its patterns cannot backtrack.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::metered::{GivenUp, Metered, MeteredJson, Prices, within};
use super::shape::Shape;

/// As JSON.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// One pattern, compiled, and what it may fill while it matches.
const PATTERN_BYTES_MAX: usize = 512 * 1024;
const PATTERN_CACHE_BYTES_MAX: usize = 512 * 1024;
/// What a pattern weighs beside its text.
const PATTERN_WEIGHT: u64 = 64 * 1024;
const VALUE_WEIGHT: u64 = 64;

/// A check takes some tens of nanoseconds a step.
const STEPS_MAX: u64 = 5_000_000;
/// While all that does not fit is gathered, each fault of it takes memory.
const GATHERING_STEPS_MAX: u64 = 100_000;
/// So many values of a schema make a look a step dearer.
const VALUES_PER_STEP: u64 = 64;
/// A pattern that counts may be in as many states at once.
const COUNTED_BYTE: u64 = 8;

/// Of one payload, what is said at most.
const FAULTS_MAX: usize = 10;
const FAULT_CHARS_MAX: usize = 300;

/// A schema, ready to check payloads.
#[derive(Debug)]
pub struct Schema {
    validator: Validator<MeteredJson>,
    prices: Prices,
    weight: u32,
}

impl Schema {
    /// The error says in a sentence what is wrong with it. Takes some milliseconds at worst.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        let shape = Shape::of(schema)?;
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_CACHE_BYTES_MAX);
        let options = jsonschema::options_for::<MeteredJson>()
            .offline()
            .with_pattern_options(patterns)
            // Drafts up to 7 check formats; this one would compile what a payload says, of any size.
            .with_format("regex", |_: &str| true);
        let validator = options.build(schema).map_err(|fault| placed(&fault, &fault.to_string()))?;
        Ok(Self { validator, prices: prices(&shape), weight: weight(&shape) })
    }

    /// What it takes of memory, beside others.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// All that does not fit, up to a number.
    pub fn check(&self, payload: &Value) -> Result<(), Vec<String>> {
        let payload = Metered(payload);
        match within(STEPS_MAX, self.prices, || self.validator.is_valid(payload)) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(GivenUp::Steps) => {
                return Err(vec![
                    "takes too much work to check against the schema of its type: make one of them smaller"
                        .into(),
                ]);
            }
            Err(GivenUp::Depth) => {
                return Err(vec!["is nested too deep to be checked against the schema of its type".into()]);
            }
        }
        let gathered = within(GATHERING_STEPS_MAX, self.prices, || {
            self.validator.iter_errors(payload).take(FAULTS_MAX).map(|fault| told(&fault)).collect()
        });
        let faults = gathered.or_else(|_| {
            let first = || self.validator.validate(payload).err().map(|fault| told(&fault));
            within(STEPS_MAX, self.prices, first).map(|fault| fault.into_iter().collect())
        });
        Err(match faults {
            Ok(faults) if !Vec::is_empty(&faults) => faults,
            _ => vec!["does not fit the schema of its type".into()],
        })
    }
}

/// Without the value, which may be long or private.
fn told(fault: &ValidationError<'_>) -> String {
    placed(fault, &fault.masked().to_string())
}

/// With the place it stands at.
fn placed(fault: &ValidationError<'_>, text: &str) -> String {
    let place = fault.instance_path().to_string();
    let whole = if place.is_empty() { text.to_owned() } else { format!("{place}: {text}") };
    whole.chars().take(FAULT_CHARS_MAX).collect()
}

fn prices(shape: &Shape) -> Prices {
    let byte = if shape.counted { COUNTED_BYTE } else { u64::from(shape.patterns > 0 || shape.formats) };
    Prices { look: 1 + (shape.values + shape.widest) / VALUES_PER_STEP, byte }
}

fn weight(shape: &Shape) -> u32 {
    let schemas = shape.values.max(shape.unfolded) * VALUE_WEIGHT;
    u32::try_from(schemas + shape.patterns * PATTERN_WEIGHT).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
