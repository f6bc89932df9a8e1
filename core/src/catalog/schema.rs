//! A JSON Schema made ready to check payloads: within limits when it is made, within an allowance when it
//! is used. It refers to nothing outside itself, and its patterns cannot backtrack.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::metered::{GivenUp, Metered, MeteredJson, Prices, within};

/// As JSON.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
const VALUES_MAX: u64 = 10_000;
const PATTERNS_MAX: u64 = 64;
const REFERENCES_MAX: u64 = 500;
/// One pattern, compiled.
const PATTERN_BYTES_MAX: usize = 128 * 1024;

/// A check takes some ten nanoseconds a step.
const STEPS_MAX: u64 = 10_000_000;
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
}

impl Schema {
    /// The error says in a sentence what is wrong with it. Takes some milliseconds at worst.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        let size = Size::of(schema);
        size.check()?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options_for::<MeteredJson>()
            .offline()
            .with_pattern_options(patterns)
            // Drafts up to 7 check formats; this one would compile what a payload says, of any size.
            .with_format("regex", |_: &str| true);
        let validator = options.build(schema).map_err(|fault| told(&fault))?;
        Ok(Self { validator, prices: size.prices() })
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

/// With the place it stands at, and without the value, which may be long or private.
fn told(fault: &ValidationError<'_>) -> String {
    let place = fault.instance_path().to_string();
    let text = fault.masked().to_string();
    let whole = if place.is_empty() { text } else { format!("{place}: {text}") };
    whole.chars().take(FAULT_CHARS_MAX).collect()
}

/// What there is of a schema.
#[derive(Debug, Default)]
struct Size {
    values: u64,
    patterns: u64,
    references: u64,
    /// A pattern repeats something a number of times.
    counted: bool,
    formats: bool,
    /// Postgres keeps no such character in JSON.
    nul: bool,
}

impl Size {
    fn of(schema: &Value) -> Self {
        let mut size = Self::default();
        size.add(schema);
        size
    }

    /// Every value as if it were a schema: what is none counts too, which is on the safe side.
    fn add(&mut self, value: &Value) {
        self.values += 1;
        match value {
            Value::String(text) => self.nul |= text.contains('\0'),
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(members) => {
                for (name, member) in members {
                    self.nul |= name.contains('\0');
                    self.add_keyword(name, member);
                    self.add(member);
                }
            }
            _ => {}
        }
    }

    fn add_keyword(&mut self, name: &str, value: &Value) {
        match (name, value) {
            ("pattern", Value::String(pattern)) => self.add_pattern(pattern),
            ("patternProperties", Value::Object(patterns)) => {
                patterns.keys().for_each(|pattern| self.add_pattern(pattern));
            }
            ("format", Value::String(_)) => self.formats = true,
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(_)) => self.references += 1,
            _ => {}
        }
    }

    fn add_pattern(&mut self, pattern: &str) {
        self.patterns += 1;
        self.counted |= pattern.contains('{');
    }

    fn check(&self) -> Result<(), String> {
        let counted = [
            (self.values, VALUES_MAX, "values"),
            (self.patterns, PATTERNS_MAX, "patterns"),
            (self.references, REFERENCES_MAX, "references"),
        ];
        if let Some((found, most, what)) = counted.into_iter().find(|(found, most, _)| found > most) {
            return Err(format!("it holds {found} {what}; at most {most} are accepted"));
        }
        if self.nul { Err("it holds a NUL character, which cannot be kept".into()) } else { Ok(()) }
    }

    fn prices(&self) -> Prices {
        let byte = if self.counted { COUNTED_BYTE } else { u64::from(self.patterns > 0 || self.formats) };
        Prices { look: 1 + self.values / VALUES_PER_STEP, byte }
    }
}

#[cfg(test)]
mod tests;
