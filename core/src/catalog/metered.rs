//! A payload as the validator reads it: at a price. A schema is the tenant's own, and so is the payload;
//! together they could ask for more work than anybody should do for one event, so each look is counted, and
//! the check is given up when the allowance is spent, or when it has gone too deep for its thread.
//!
//! The validator has no way to stop but to unwind: [`within`] raises and catches [`GivenUp`] itself, which
//! reaches neither a panic hook nor another thread.

use std::borrow::Cow;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object};
use serde_json::{Map, Number, Value};

/// A thread has two megabytes, of which something else may have used some.
const STACK_BYTES_MAX: usize = 1024 * 1024;

/// What a look costs under one schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prices {
    /// A look at a value, in steps: what the schema holds may all be compared with it.
    pub(super) look: u64,
    /// A byte of text that may have to match a pattern.
    pub(super) byte: u64,
}

/// Why a check was not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// The allowance is spent.
    Steps,
    /// It has gone deeper than the stack allows.
    Depth,
}

#[derive(Debug, Clone, Copy)]
struct Meter {
    left: u64,
    prices: Prices,
    /// Where the stack was when it began.
    began: usize,
}

thread_local! {
    static METER: Cell<Option<Meter>> = const { Cell::new(None) };
}

/// Does `work` on this thread, unless it takes more than `steps`.
pub(super) fn within<T>(steps: u64, prices: Prices, work: impl FnOnce() -> T) -> Result<T, GivenUp> {
    let before = METER.replace(Some(Meter { left: steps, prices, began: stack_position() }));
    let done = catch_unwind(AssertUnwindSafe(work));
    METER.set(before);
    done.map_err(|raised| match raised.downcast::<GivenUp>() {
        Ok(given_up) => *given_up,
        Err(other) => resume_unwind(other),
    })
}

/// An address in the frame of the caller, near enough.
#[inline(never)]
fn stack_position() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

fn spend(price: impl FnOnce(Prices) -> u64) {
    let Some(mut meter) = METER.get() else { return };
    let Some(left) = meter.left.checked_sub(price(meter.prices)) else {
        resume_unwind(Box::new(GivenUp::Steps))
    };
    if stack_position().abs_diff(meter.began) > STACK_BYTES_MAX {
        resume_unwind(Box::new(GivenUp::Depth))
    }
    meter.left = left;
    METER.set(Some(meter));
}

fn look() {
    spend(|prices| prices.look);
}

fn read(text: &str) {
    spend(|prices| prices.look + text.len() as u64 * prices.byte);
}

fn values(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(members) => members.values().map(values).sum(),
        _ => 0,
    }
}

/// The representation whose nodes are [`Metered`].
pub(super) struct MeteredJson;

/// A value of a payload.
#[derive(Clone, Copy)]
pub(super) struct Metered<'a>(pub(super) &'a Value);

pub(super) struct Members<'a>(&'a Map<String, Value>);
pub(super) struct MembersIter<'a>(serde_json::map::Iter<'a>);
pub(super) struct Elements<'a>(&'a [Value]);
pub(super) struct ElementsIter<'a>(std::slice::Iter<'a, Value>);

impl Json for MeteredJson {
    type Node<'a> = Metered<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(Metered<'_>) -> T) -> T {
        *buffer = Value::String(string.to_owned());
        f(Metered(buffer))
    }
}

impl<'a> Node<'a, MeteredJson> for Metered<'a> {
    type Object = Members<'a>;
    type Array = Elements<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Members<'a>> {
        look();
        self.0.as_object().map(Members)
    }

    fn as_array(&self) -> Option<Elements<'a>> {
        look();
        self.0.as_array().map(|items| Elements(items))
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.0.as_str();
        read(text.unwrap_or_default());
        text.map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        look();
        self.0.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        look();
        self.0.as_bool()
    }

    fn is_null(&self) -> bool {
        look();
        self.0.is_null()
    }

    fn json_type(&self) -> JsonType {
        look();
        match self.0 {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        spend(|prices| prices.look + values(expected));
        Node::equals_value(&self.0, expected)
    }

    fn to_value(&self) -> Cow<'a, Value> {
        look();
        Cow::Borrowed(self.0)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref(self.0).addr()))
    }
}

impl<'a> Object<'a, MeteredJson> for Members<'a> {
    type Node = Metered<'a>;
    type MemberName = &'a str;
    type MembersIter = MembersIter<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &String) -> Option<Metered<'a>> {
        look();
        self.0.get(key).map(Metered)
    }

    fn members(&self) -> MembersIter<'a> {
        MembersIter(self.0.iter())
    }
}

impl<'a> Iterator for MembersIter<'a> {
    type Item = (&'a str, Metered<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.0.next()?;
        read(name);
        Some((name, Metered(value)))
    }
}

impl<'a> Array<'a, MeteredJson> for Elements<'a> {
    type Node = Metered<'a>;
    type ElementsIter = ElementsIter<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> ElementsIter<'a> {
        ElementsIter(self.0.iter())
    }

    fn is_unique(&self) -> bool {
        // Short arrays are compared pair by pair, the others by hashes of all they hold.
        const COMPARISONS: u64 = 16;
        spend(|prices| prices.look + COMPARISONS * self.0.iter().map(values).sum::<u64>());
        Array::<jsonschema::json::SerdeJson>::is_unique(&self.0)
    }
}

impl<'a> Iterator for ElementsIter<'a> {
    type Item = Metered<'a>;

    fn next(&mut self) -> Option<Metered<'a>> {
        let value = self.0.next()?;
        look();
        Some(Metered(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLAIN: Prices = Prices { look: 1, byte: 1 };

    #[test]
    fn work_ends_when_its_allowance_does() {
        let payload = json!([1, 2, 3]);
        let walk = || Metered(&payload).as_array().unwrap().elements().count();
        assert_eq!(within(4, PLAIN, walk), Ok(3));
        assert_eq!(within(3, PLAIN, walk), Err(GivenUp::Steps));
        let text = json!("abcdefgh");
        assert_eq!(within(8, PLAIN, || Metered(&text).as_string()), Err(GivenUp::Steps));
        assert_eq!(within(9, PLAIN, || Metered(&text).as_string().is_some()), Ok(true));
        // Outside nothing is counted.
        assert_eq!(walk(), 3);
    }

    #[test]
    fn work_ends_where_the_stack_does() {
        fn descend(value: Metered<'_>, depth: u64) -> u64 {
            let held = std::hint::black_box([depth; 64]);
            if value.is_null() { held[0] } else { descend(value, depth + 1) + held[0] }
        }
        let payload = json!(1);
        assert_eq!(within(u64::MAX, PLAIN, || descend(Metered(&payload), 0)), Err(GivenUp::Depth));
    }

    #[test]
    fn what_else_is_raised_goes_on() {
        let raised = catch_unwind(|| within(1, PLAIN, || resume_unwind(Box::new("other"))));
        assert_eq!(raised.unwrap_err().downcast_ref(), Some(&"other"));
        assert!(METER.get().is_none());
    }
}
