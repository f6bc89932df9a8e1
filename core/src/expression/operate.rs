//! What operators and functions do with values, within the budget.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use super::budget::Budget;
use super::error::Fault;
use super::node::Binary;
use super::value::Value;

/// Of a value in a list or a map.
const SLOT_BYTES: usize = 48;

pub(super) struct Machine<'b> {
    pub(super) budget: &'b Budget,
}

type Made<'a> = Result<Value<'a>, Fault>;

fn does_not_work(operator: &str, one: &Value<'_>, other: &Value<'_>) -> Fault {
    Fault::Kind(format!("`{operator}` does not work on {} and {}", one.kind(), other.kind()))
}

/// What a loop goes over: the elements of a list, the keys of a map.
pub(super) fn elements<'a>(range: &Value<'a>) -> Result<Box<dyn Iterator<Item = Value<'a>> + 'a>, Fault> {
    Ok(match range {
        Value::JsonList(list) => Box::new(list.iter().map(Value::of_json)),
        Value::JsonMap(map) => Box::new(map.keys().map(|key| Value::String(Cow::Borrowed(key)))),
        Value::List(list) => {
            let list = Rc::clone(list);
            Box::new((0..list.len()).map(move |at| list[at].clone()))
        }
        Value::Map(entries) => {
            let entries = Rc::clone(entries);
            Box::new((0..entries.len()).map(move |at| Value::String(entries[at].0.clone())))
        }
        Value::Headers(headers) => Box::new(headers.keys().map(|name| Value::String(name.as_str().into()))),
        other => return Err(Fault::Kind(format!("{} has no elements", other.kind()))),
    })
}

pub(super) fn negate<'a>(value: &Value<'a>) -> Made<'a> {
    Ok(match value {
        Value::Int(number) => Value::Int(number.checked_neg().ok_or(Fault::Overflow)?),
        Value::Double(number) => Value::Double(-number),
        Value::Duration(duration) => Value::Duration(-*duration),
        other => return Err(Fault::Kind(format!("{} cannot be negated", other.kind()))),
    })
}

impl Machine<'_> {
    pub(super) fn make_slots(&self, slots: usize) -> Result<(), Fault> {
        self.budget.make(slots.saturating_mul(SLOT_BYTES))
    }

    /// A clone of text that is not borrowed is a copy.
    pub(super) fn copy(&self, value: &Value<'_>) -> Result<(), Fault> {
        match value {
            Value::String(Cow::Owned(text)) => self.budget.make(text.len()),
            Value::Bytes(Cow::Owned(bytes)) => self.budget.make(bytes.len()),
            _ => Ok(()),
        }
    }

    pub(super) fn index<'a>(&self, operand: &Value<'a>, index: &Value<'a>) -> Made<'a> {
        let position = match index {
            Value::String(name) => return self.member(operand, name)?.ok_or(Fault::NoSuchKey),
            Value::Int(at) => usize::try_from(*at).map_err(|_| Fault::OutOfBounds)?,
            Value::Uint(at) => usize::try_from(*at).map_err(|_| Fault::OutOfBounds)?,
            other => return Err(Fault::Kind(format!("{} is no index", other.kind()))),
        };
        let found = match operand {
            Value::List(list) => list.get(position).cloned(),
            Value::JsonList(list) => list.get(position).map(Value::of_json),
            other => return Err(Fault::Kind(format!("{} has no element by number", other.kind()))),
        };
        let found = found.ok_or(Fault::OutOfBounds)?;
        self.copy(&found)?;
        Ok(found)
    }

    pub(super) fn binary<'a>(&self, operator: Binary, one: &Value<'a>, other: &Value<'a>) -> Made<'a> {
        let ordering = |wanted: &[Ordering]| {
            let ordering = self.compare(one, other)?;
            // A NaN is in no order.
            Ok(Value::Bool(ordering.is_some_and(|found| wanted.contains(&found))))
        };
        match operator {
            Binary::Equals => Ok(Value::Bool(self.equal(one, other)?)),
            Binary::NotEquals => Ok(Value::Bool(!self.equal(one, other)?)),
            Binary::Less => ordering(&[Ordering::Less]),
            Binary::LessEquals => ordering(&[Ordering::Less, Ordering::Equal]),
            Binary::Greater => ordering(&[Ordering::Greater]),
            Binary::GreaterEquals => ordering(&[Ordering::Greater, Ordering::Equal]),
            Binary::In => self.holds(one, other),
            Binary::Add => self.add(one, other),
            Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Modulo => {
                arithmetic(operator, one, other)
            }
        }
    }

    fn add<'a>(&self, one: &Value<'a>, other: &Value<'a>) -> Made<'a> {
        Ok(match (one, other) {
            (Value::String(left), Value::String(right)) => {
                self.budget.make(left.len() + right.len())?;
                Value::String(Cow::Owned(format!("{left}{right}")))
            }
            (Value::Bytes(left), Value::Bytes(right)) => {
                self.budget.make(left.len() + right.len())?;
                Value::Bytes(Cow::Owned([left.as_ref(), right.as_ref()].concat()))
            }
            (Value::Secret(_), Value::Secret(_) | Value::String(_) | Value::Bytes(_))
            | (Value::String(_) | Value::Bytes(_), Value::Secret(_)) => {
                let (left, right) = (blob(one)?, blob(other)?);
                self.budget.make(left.len() + right.len())?;
                let mut joined = zeroize::Zeroizing::new(Vec::with_capacity(left.len() + right.len()));
                joined.extend_from_slice(left);
                joined.extend_from_slice(right);
                Value::Secret(Rc::new(joined))
            }
            (Value::List(_) | Value::JsonList(_), Value::List(_) | Value::JsonList(_)) => {
                let joined: Vec<Value<'a>> = elements(one)?
                    .chain(elements(other)?)
                    .map(|element| {
                        self.make_slots(1)?;
                        self.copy(&element)?;
                        Ok(element)
                    })
                    .collect::<Result<_, Fault>>()?;
                Value::List(Rc::new(joined))
            }
            (Value::Timestamp(time), Value::Duration(duration))
            | (Value::Duration(duration), Value::Timestamp(time)) => {
                Value::Timestamp(time.checked_add_signed(*duration).ok_or(Fault::Overflow)?)
            }
            (Value::Duration(left), Value::Duration(right)) => {
                Value::Duration(left.checked_add(right).ok_or(Fault::Overflow)?)
            }
            _ => return arithmetic(Binary::Add, one, other),
        })
    }

    fn holds<'a>(&self, one: &Value<'a>, other: &Value<'a>) -> Made<'a> {
        match (one, other) {
            (Value::String(name), Value::Map(_) | Value::JsonMap(_) | Value::Headers(_)) => {
                Ok(Value::Bool(self.member(other, name)?.is_some()))
            }
            (_, Value::Map(_) | Value::JsonMap(_) | Value::Headers(_)) => Ok(Value::Bool(false)),
            (_, Value::List(_) | Value::JsonList(_)) => {
                for element in elements(other)? {
                    if self.equal(one, &element)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            _ => Err(does_not_work("in", one, other)),
        }
    }

    pub(super) fn equal(&self, one: &Value<'_>, other: &Value<'_>) -> Result<bool, Fault> {
        self.budget.step()?;
        Ok(match (one, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(one), Value::Bool(other)) => one == other,
            (Value::String(one), Value::String(other)) => {
                self.budget.look(one.len().min(other.len()))?;
                one == other
            }
            (Value::Bytes(one), Value::Bytes(other)) => {
                self.budget.look(one.len().min(other.len()))?;
                one == other
            }
            (Value::Timestamp(one), Value::Timestamp(other)) => one == other,
            (Value::Duration(one), Value::Duration(other)) => one == other,
            (Value::Secret(_), _) | (_, Value::Secret(_)) => return Err(does_not_work("==", one, other)),
            (Value::List(_) | Value::JsonList(_), Value::List(_) | Value::JsonList(_)) => {
                if super::function::size_of(one) != super::function::size_of(other) {
                    return Ok(false);
                }
                for (one, other) in elements(one)?.zip(elements(other)?) {
                    if !self.equal(&one, &other)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Map(_) | Value::JsonMap(_), Value::Map(_) | Value::JsonMap(_)) => {
                if super::function::size_of(one) != super::function::size_of(other) {
                    return Ok(false);
                }
                for key in elements(one)? {
                    let Value::String(key) = key else { return Ok(false) };
                    let (Some(one), Some(other)) = (self.member(one, &key)?, self.member(other, &key)?)
                    else {
                        return Ok(false);
                    };
                    if !self.equal(&one, &other)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => numbers(one, other) == Some(Ordering::Equal),
        })
    }

    /// `None` where one is NaN.
    fn compare(&self, one: &Value<'_>, other: &Value<'_>) -> Result<Option<Ordering>, Fault> {
        self.budget.step()?;
        Ok(Some(match (one, other) {
            (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
            (Value::String(one), Value::String(other)) => {
                self.budget.look(one.len().min(other.len()))?;
                one.cmp(other)
            }
            (Value::Bytes(one), Value::Bytes(other)) => {
                self.budget.look(one.len().min(other.len()))?;
                one.cmp(other)
            }
            (Value::Timestamp(one), Value::Timestamp(other)) => one.cmp(other),
            (Value::Duration(one), Value::Duration(other)) => one.cmp(other),
            (
                Value::Int(_) | Value::Uint(_) | Value::Double(_),
                Value::Int(_) | Value::Uint(_) | Value::Double(_),
            ) => return Ok(numbers(one, other)),
            _ => return Err(does_not_work("<", one, other)),
        }))
    }
}

/// The bytes that are signed or compared.
pub(super) fn blob<'v>(value: &'v Value<'_>) -> Result<&'v [u8], Fault> {
    match value {
        Value::String(text) => Ok(text.as_bytes()),
        Value::Bytes(bytes) => Ok(bytes),
        Value::Secret(secret) => Ok(secret.as_slice()),
        other => Err(Fault::Kind(format!("{} is neither text nor bytes", other.kind()))),
    }
}

/// Across kinds as CEL has it: `1 == 1.0 && 1 == 1u`.
fn numbers(one: &Value<'_>, other: &Value<'_>) -> Option<Ordering> {
    let exact = |value: &Value<'_>| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    match (exact(one), exact(other)) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => as_double(one)?.partial_cmp(&as_double(other)?),
    }
}

fn as_double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::Double(number) => Some(*number),
        _ => None,
    }
}

fn arithmetic<'a>(operator: Binary, one: &Value<'_>, other: &Value<'_>) -> Made<'a> {
    let divides = matches!(operator, Binary::Divide | Binary::Modulo);
    let sign = match operator {
        Binary::Add => "+",
        Binary::Subtract => "-",
        Binary::Multiply => "*",
        Binary::Divide => "/",
        _ => "%",
    };
    match (one, other) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) if divides => {
            Err(Fault::DivisionByZero)
        }
        (Value::Int(one), Value::Int(other)) => {
            let done = match operator {
                Binary::Add => one.checked_add(*other),
                Binary::Subtract => one.checked_sub(*other),
                Binary::Multiply => one.checked_mul(*other),
                Binary::Divide => one.checked_div(*other),
                _ => one.checked_rem(*other),
            };
            done.map(Value::Int).ok_or(Fault::Overflow)
        }
        (Value::Uint(one), Value::Uint(other)) => {
            let done = match operator {
                Binary::Add => one.checked_add(*other),
                Binary::Subtract => one.checked_sub(*other),
                Binary::Multiply => one.checked_mul(*other),
                Binary::Divide => one.checked_div(*other),
                _ => one.checked_rem(*other),
            };
            done.map(Value::Uint).ok_or(Fault::Overflow)
        }
        (Value::Timestamp(one), Value::Timestamp(other)) if operator == Binary::Subtract => {
            Ok(Value::Duration(*one - *other))
        }
        (Value::Timestamp(time), Value::Duration(duration)) if operator == Binary::Subtract => {
            time.checked_sub_signed(*duration).map(Value::Timestamp).ok_or(Fault::Overflow)
        }
        (Value::Duration(one), Value::Duration(other)) if operator == Binary::Subtract => {
            one.checked_sub(other).map(Value::Duration).ok_or(Fault::Overflow)
        }
        // A number of JSON may be an int or a double; where one is a double, both are.
        _ => match (as_double(one), as_double(other), operator) {
            (Some(one), Some(other), Binary::Add) => Ok(Value::Double(one + other)),
            (Some(one), Some(other), Binary::Subtract) => Ok(Value::Double(one - other)),
            (Some(one), Some(other), Binary::Multiply) => Ok(Value::Double(one * other)),
            (Some(one), Some(other), Binary::Divide) => Ok(Value::Double(one / other)),
            _ => Err(does_not_work(sign, one, other)),
        },
    }
}
