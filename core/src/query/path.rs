//! Where in a payload a query looks: a dotted path (`order.total`, `items[0].price`, `[0].price`) or a
//! JSONPath (RFC 9535, beginning with `$`).
//!
//! A path of names and indices reads the body as a stream and makes nothing of what it passes; only a
//! JSONPath with wildcards, filters and the like has the whole body parsed.

use std::cell::OnceCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use serde_json_path::JsonPath;

use crate::json;

mod cost;

const PATH_BYTES_MAX: usize = 256;
const STEPS_MAX: usize = 32;
/// Values of one payload that a JSONPath may lead to; it passes over those beyond.
const PLACES_MAX: usize = 1000;
/// A JSONPath that needs a body parsed finds nothing in a larger one: parsed it takes some thirty times as much.
const PARSED_BYTES_MAX: usize = 1024 * 1024;

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {PATH_BYTES_MAX} bytes")]
    TooLong,
    #[error("must have at most {STEPS_MAX} parts")]
    TooDeep,
    #[error(
        "has a part that is empty or has brackets without a number: write `a.b[0].c`, `[0].c`, or a JSONPath: `$['a b']`"
    )]
    Part,
    #[error("is no JSONPath: {0}")]
    JsonPath(String),
    #[error(
        "asks for too much: `match` and `search` are not allowed in a JSONPath: compare with `==` or `<`"
    )]
    Pattern,
    #[error(
        "asks for too much: at most {max} parentheses may stand in each other in a JSONPath",
        max = cost::PARENTHESES_MAX
    )]
    Parentheses,
    #[error(
        "asks for too much: only one `..` is allowed in a JSONPath: name the parts between, as in `$.orders..id`"
    )]
    Descents,
    #[error("asks for too much: a filter must not look at `$`: it may look at what is below `@`")]
    Roots,
    #[error(
        "asks for too much: a filter must not stand in a filter: join conditions with `&&`, or filter one level after the other, as in `$.orders[?@.open].items[?@.count > 1]`"
    )]
    FilterInFilter,
    #[error(
        "asks for too much: behind `..` a filter compares with constants alone, as in `$..items[?@.count > 1]`"
    )]
    ComparedPlaces,
    #[error(
        "asks for too much: it would pass over a payload {passes} times, and {max} are allowed: write fewer conditions and commas, and fewer parts behind `..`",
        max = cost::PASSES_MAX
    )]
    Costly { passes: u32 },
}

/// A checked path.
#[derive(Debug, Clone)]
pub struct FieldPath {
    text: String,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Steps(Vec<Step>),
    Query(Box<JsonPath>),
    /// Stored by a version that allowed it: it leads nowhere.
    Refused(PathError),
}

/// One level down: by name in an object, by place in an array. In a dotted path digits are both.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    name: Option<String>,
    place: Option<usize>,
}

/// A number that stands in a body as one, or any other value.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Apart, because JSON may write numbers that only JavaScript reads (`1e400` is infinite).
    Number(f64),
    Value(Value),
}

/// As [`Found`], where it stands.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    Number(f64),
    Value(&'a Value),
}

impl FieldPath {
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        let way = if text.starts_with('$') { json_path(text)? } else { Way::Steps(dotted(text)?) };
        if let Way::Steps(steps) = &way
            && steps.len() > STEPS_MAX
        {
            return Err(PathError::TooDeep);
        }
        Ok(Self { text: text.to_owned(), way })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Why this version does not follow the path, which was stored by one that did.
    pub fn refused(&self) -> Option<&PathError> {
        if let Way::Refused(error) = &self.way { Some(error) } else { None }
    }

    /// Whether it has whole bodies parsed.
    pub(super) fn parses(&self) -> bool {
        matches!(self.way, Way::Query(_))
    }

    /// Shows what the path leads to in a body, the first [`PLACES_MAX`]; nothing where the body is not JSON.
    pub fn each(&self, body: &[u8], mut see: impl FnMut(Seen<'_>)) {
        match &self.way {
            Way::Steps(steps) => match seek(body, steps).and_then(read) {
                Some(Found::Number(number)) => see(Seen::Number(number)),
                Some(Found::Value(value)) => see(Seen::Value(&value)),
                None => {}
            },
            Way::Query(path) => {
                if let Some(value) = parse(body) {
                    path.query(&value).iter().take(PLACES_MAX).for_each(|found| see(Seen::Value(found)));
                }
            }
            Way::Refused(_) => {}
        }
    }

    /// The first of [`Self::each`].
    pub fn first(&self, body: &[u8]) -> Option<Found> {
        self.first_in(&Content::of(body))
    }

    /// As [`Self::first`], for several paths into one body.
    pub fn first_in(&self, content: &Content<'_>) -> Option<Found> {
        match &self.way {
            Way::Steps(steps) => seek(content.body, steps).and_then(read),
            // Of what was found one is copied: a JSONPath may find each value once for each level it is in.
            Way::Query(path) => path.query(content.parsed()?).first().cloned().map(Found::Value),
            Way::Refused(_) => None,
        }
    }
}

/// A body, parsed at most once.
#[derive(Debug)]
pub struct Content<'b> {
    body: &'b [u8],
    parsed: OnceCell<Option<Value>>,
}

impl<'b> Content<'b> {
    pub fn of(body: &'b [u8]) -> Self {
        Self { body, parsed: OnceCell::new() }
    }

    fn parsed(&self) -> Option<&Value> {
        self.parsed.get_or_init(|| parse(self.body)).as_ref()
    }
}

impl PartialEq for FieldPath {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl serde::Serialize for FieldPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Reads what is stored: what was allowed then is kept, so that all else of its binding can be read.
impl<'de> serde::Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self::parse(&text).unwrap_or_else(|error| Self { text, way: Way::Refused(error) }))
    }
}

fn dotted(text: &str) -> Result<Vec<Step>, PathError> {
    let mut steps = Vec::new();
    for (at, part) in text.split('.').enumerate() {
        let (name, mut brackets) = part.split_at(part.find('[').unwrap_or(part.len()));
        // Of an array the first part may be a place alone.
        let is_place = name.is_empty() && at == 0 && !brackets.is_empty();
        if (name.is_empty() && !is_place) || name.contains(']') {
            return Err(PathError::Part);
        }
        if !is_place {
            steps.push(Step { place: place(name), name: Some(name.to_owned()) });
        }
        while let Some(rest) = brackets.strip_prefix('[') {
            let (digits, rest) = rest.split_once(']').ok_or(PathError::Part)?;
            steps.push(Step { name: None, place: Some(place(digits).ok_or(PathError::Part)?) });
            brackets = rest;
        }
        if !brackets.is_empty() {
            return Err(PathError::Part);
        }
    }
    Ok(steps)
}

fn place(digits: &str) -> Option<usize> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = digits == "0" || !digits.starts_with('0');
    (all_digits && canonical).then(|| digits.parse().ok()).flatten()
}

fn json_path(text: &str) -> Result<Way, PathError> {
    // First: to parse what stands in many parentheses takes as long as to follow what asks for too much.
    cost::check(text)?;
    let path = JsonPath::parse(text).map_err(|error| PathError::JsonPath(error.to_string()))?;
    if let Some(steps) = singular(&text[1..]) {
        return Ok(Way::Steps(steps));
    }
    Ok(Way::Query(Box::new(path)))
}

/// The steps of a JSONPath that is only names and places; the text is known to be a JSONPath.
fn singular(mut rest: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = if let Some(quoted) = rest.strip_prefix("['").or(rest.strip_prefix("[\"")) {
            let end = rest[1..].chars().next()?;
            let (name, after) = quoted.split_once(end)?;
            if name.contains('\\') {
                return None;
            }
            (Step { name: Some(name.to_owned()), place: None }, after.strip_prefix(']')?)
        } else if let Some(bracket) = rest.strip_prefix('[') {
            let (digits, after) = bracket.split_once(']')?;
            (Step { name: None, place: Some(place(digits)?) }, after)
        } else {
            let named = rest.strip_prefix('.')?;
            let end = named.find(['.', '[']).unwrap_or(named.len());
            let (name, after) = named.split_at(end);
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
            if name.is_empty() || !name.chars().all(plain) {
                return None;
            }
            (Step { name: Some(name.to_owned()), place: None }, after)
        };
        steps.push(step);
        rest = after;
    }
    Some(steps)
}

fn parse(body: &[u8]) -> Option<Value> {
    if body.len() > PARSED_BYTES_MAX {
        return None;
    }
    whole(body)
}

/// Most often as `serde_json` reads it; [`json`] reads what that refuses of valid JSON, and takes longer.
fn whole(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().or_else(|| json::read(body).ok().map(|document| document.root.into()))
}

/// Of two members with one name the last counts, as in JavaScript.
fn seek<'b>(body: &'b [u8], steps: &[Step]) -> Option<&'b RawValue> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let found = Seek(steps).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    found
}

fn read(raw: &RawValue) -> Option<Found> {
    let text = raw.get();
    if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return text.parse().ok().map(Found::Number);
    }
    whole(text.as_bytes()).map(Found::Value)
}

struct Seek<'s>(&'s [Step]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return serde::Deserialize::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

/// Whatever has no members leads nowhere.
macro_rules! leads_nowhere {
    ($($method:ident: $type:ty),*) => {$(
        fn $method<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok(None)
        }
    )*};
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    leads_nowhere!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Name(step.name.as_deref()))? {
            if is_it {
                found = map.next_value_seed(Seek(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        let mut at = 0;
        loop {
            if step.place == Some(at) {
                match seq.next_element_seed(Seek(rest))? {
                    Some(value) => found = value,
                    None => return Ok(found),
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }
}

/// Whether a member has this name; nothing is kept of the others.
struct Name<'s>(Option<&'s str>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        // Not as a text: half of a surrogate pair is none, and may stand in any name.
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<bool, E> {
        Ok(self.0.is_some_and(|wanted| wanted.as_bytes() == name))
    }
}

#[cfg(test)]
mod tests;
