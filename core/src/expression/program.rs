//! An expression that was compiled, and what comes out of it.

use std::fmt;

use super::budget::Budget;
use super::check;
use super::error::{EvaluationError, ExpressionError, Fault, Position};
use super::evaluate::{self, Stop};
use super::function::Function;
use super::kind::{Field, Place};
use super::limits;
use super::node::{Constant, Node, Op};
use super::parse;
use super::scope::Scope;
use super::value::Value;

/// A checked expression.
pub struct Program {
    text: Box<str>,
    place: Place,
    root: Node,
}

/// What it stands for is its text.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("text", &self.text).finish_non_exhaustive()
    }
}

impl Program {
    /// Refused are: what is no CEL, what passes a limit, names and functions that the place does not
    /// have, operands that do not fit, and a result of the wrong kind.
    pub fn compile(text: &str, place: Place) -> Result<Self, ExpressionError> {
        let owned = text.to_owned();
        let root =
            parse::with_tree(text, move |tree, positions| check::check(tree, positions, &owned, place))?;
        Ok(Self { text: text.into(), place, root })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where in a request a secret may stand that this compares, and that must not be kept.
    pub fn looks_at(&self) -> LooksAt {
        let mut looks = LooksAt::default();
        look_for_secrets(&self.root, &mut looks);
        looks
    }

    /// The value, of the kind that the place wants.
    pub fn evaluate<'a>(
        &'a self,
        scope: &'a Scope<'_>,
        budget: &Budget,
    ) -> Result<Value<'a>, EvaluationError> {
        let (value, altered) = scope.notices_alterations(|| evaluate::run(&self.root, scope, budget));
        let value = value.map_err(|stop| self.locate(stop))?;
        let is_exact = !altered || self.place.takes_alterations();
        let fits = if is_exact { self.fit(&value) } else { Err(Fault::Altered) };
        fits.map_err(|fault| EvaluationError { position: Position { line: 1, column: 1 }, fault })?;
        Ok(value)
    }

    /// For a filter or a verification.
    pub fn decide(&self, scope: &Scope<'_>) -> Result<bool, EvaluationError> {
        self.decide_within(scope, &Budget::default())
    }

    /// As [`Self::decide`]; the budget tells afterwards what it cost.
    pub fn decide_within(&self, scope: &Scope<'_>, budget: &Budget) -> Result<bool, EvaluationError> {
        Ok(matches!(self.evaluate(scope, budget)?, Value::Bool(true)))
    }

    /// For a name: trimmed, or `None` for null.
    pub fn name(&self, scope: &Scope<'_>) -> Result<Option<String>, EvaluationError> {
        Ok(match self.evaluate(scope, &Budget::default())? {
            Value::String(text) => Some(text.trim().to_owned()),
            _ => None,
        })
    }

    /// For a deduplication key; `None` for null and for nothing at all.
    pub fn key(&self, scope: &Scope<'_>) -> Result<Option<Vec<u8>>, EvaluationError> {
        let key = match self.evaluate(scope, &Budget::default())? {
            Value::String(text) => text.into_owned().into_bytes(),
            Value::Bytes(bytes) => bytes.into_owned(),
            Value::Int(number) => number.to_string().into_bytes(),
            Value::Uint(number) => number.to_string().into_bytes(),
            _ => return Ok(None),
        };
        Ok((!key.trim_ascii().is_empty()).then_some(key))
    }

    /// For a transform: the body, as JSON.
    pub fn body(&self, scope: &Scope<'_>) -> Result<Vec<u8>, EvaluationError> {
        let budget = Budget::default();
        let value = self.evaluate(scope, &budget)?;
        let position = Position { line: 1, column: 1 };
        let json = value.to_json(&budget).map_err(|fault| EvaluationError { position, fault })?;
        serde_json::to_vec(&json).map_err(|_| EvaluationError { position, fault: Fault::Unreadable("JSON") })
    }

    fn locate(&self, stop: Stop) -> EvaluationError {
        EvaluationError { position: Position::of(&self.text, stop.at as usize), fault: stop.fault }
    }

    fn fit(&self, value: &Value<'_>) -> Result<(), Fault> {
        let wrong = || Fault::Result(format!("the result must be {}", self.place.wants()));
        match (self.place, value) {
            (Place::Name, Value::String(text)) => fit_name(text.trim()),
            (Place::DedupKey, Value::String(text)) => fit_key(text.len()),
            (Place::DedupKey, Value::Bytes(bytes)) => fit_key(bytes.len()),
            (Place::Name, Value::Null)
            | (Place::DedupKey, Value::Int(_) | Value::Uint(_) | Value::Null)
            | (Place::Verify | Place::Filter, Value::Bool(_))
            | (Place::Transform, Value::Map(_) | Value::JsonMap(_)) => Ok(()),
            _ => Err(wrong()),
        }
    }
}

/// Where in a request an expression looks for a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LooksAt {
    /// Names in lower case.
    pub headers: Vec<String>,
    /// Any header, by a name that is only known later.
    pub all_headers: bool,
    pub query: bool,
    pub body: bool,
}

impl LooksAt {
    pub fn header(&self, name: &str) -> bool {
        self.all_headers || self.headers.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// What part a secret has in a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    None,
    /// It only makes the code that a signature is compared with.
    Key,
    /// It is compared itself.
    Sent,
}

/// Each condition for itself: what is compared with a secret may be one, wherever it stands; what is
/// compared with a constant may be one too, in a header or the query; a signature is none.
fn look_for_secrets(node: &Node, looks: &mut LooksAt) {
    if matches!(node.op, Op::And(_) | Op::Or(_) | Op::Not(_) | Op::If(_)) {
        for child in node.children() {
            look_for_secrets(child, looks);
        }
        return;
    }
    let mut own = LooksAt::default();
    match part_of_secret(node) {
        Part::Key => return,
        Part::None => look(node, &mut own),
        Part::Sent => {
            look(node, &mut own);
            looks.body |= own.body;
        }
    }
    looks.headers.append(&mut own.headers);
    looks.all_headers |= own.all_headers;
    looks.query |= own.query;
}

fn part_of_secret(node: &Node) -> Part {
    let of = |nodes: &[&Node]| nodes.iter().map(|node| part_of_secret(node)).max().unwrap_or(Part::None);
    match &node.op {
        Op::Call(Function::Secret, _) => Part::Sent,
        Op::Call(Function::HmacSha256, arguments) => {
            let key = arguments.first().map_or(Part::None, part_of_secret);
            let text = arguments.get(1).map_or(Part::None, part_of_secret);
            key.min(Part::Key).max(text)
        }
        _ => of(&node.children()),
    }
}

fn look(node: &Node, looks: &mut LooksAt) {
    let named = |node: &Node| match &node.op {
        Op::Constant(Constant::String(name)) => Some(name.to_string()),
        _ => None,
    };
    let is_headers = |node: &Node| matches!(node.op, Op::Field(Field::RequestHeaders));
    let name = match &node.op {
        Op::Call(Function::Header, arguments) => Some(arguments.first().and_then(named)),
        Op::Index(both) if is_headers(&both[0]) => Some(named(&both[1])),
        Op::Select(operand, name) | Op::Has(operand, name) if is_headers(operand) => {
            Some(Some(name.to_string()))
        }
        Op::Field(Field::RequestHeaders) => Some(None),
        Op::Field(Field::RequestQuery) => {
            looks.query = true;
            None
        }
        Op::Field(Field::RequestBody | Field::RequestJson) => {
            looks.body = true;
            None
        }
        _ => None,
    };
    let found = name.is_some();
    match name {
        Some(Some(name)) => looks.headers.push(name.to_ascii_lowercase()),
        Some(None) => looks.all_headers = true,
        None => {}
    }
    for child in node.children() {
        if !(found && is_headers(child)) {
            look(child, looks);
        }
    }
}

fn fit_name(name: &str) -> Result<(), Fault> {
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let max = limits::NAME_BYTES_MAX;
        return Err(Fault::Result(format!("the name must be 1 to {max} bytes without control characters")));
    }
    Ok(())
}

fn fit_key(bytes: usize) -> Result<(), Fault> {
    if bytes > limits::KEY_BYTES_MAX {
        return Err(Fault::Result(format!("the key must be at most {} bytes", limits::KEY_BYTES_MAX)));
    }
    Ok(())
}
