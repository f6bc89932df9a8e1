//! From nodes to a value. The tree is as deep as the checker let it be; a loop goes over what is there,
//! and each node and element is a step of the budget: an evaluation always ends.

use std::rc::Rc;

use super::budget::Budget;
use super::error::Fault;
use super::function;
use super::node::{Constant, Loop, LoopKind, Matches, Node, Op};
use super::operate::{self, Machine};
use super::scope::{self, Scope};
use super::value::Value;

/// A fault and the byte of the text it happened at.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) at: u32,
    pub(super) fault: Fault,
}

type Step<'a> = Result<Value<'a>, Stop>;

pub(super) fn run<'a>(root: &'a Node, scope: &'a Scope<'_>, budget: &Budget) -> Step<'a> {
    Evaluation { scope, machine: Machine { budget }, locals: Vec::new() }.node(root)
}

struct Evaluation<'a, 's, 'b> {
    scope: &'a Scope<'s>,
    machine: Machine<'b>,
    /// The elements of the loops around, the outermost first.
    locals: Vec<Value<'a>>,
}

impl<'a> Evaluation<'a, '_, '_> {
    fn node(&mut self, node: &'a Node) -> Step<'a> {
        let located = |fault| Stop { at: node.at, fault };
        self.machine.budget.step().map_err(located)?;
        match &node.op {
            Op::Constant(constant) => Ok(of_constant(constant)),
            Op::Field(field) => self.scope.field(*field).map_err(located),
            // The checker counted the same loops.
            Op::Local(slot) => {
                let Some(value) = self.locals.get(*slot) else { return Ok(Value::Null) };
                self.machine.copy(value).map_err(located)?;
                Ok(value.clone())
            }
            Op::Select(operand, field) => {
                let operand = self.node(operand)?;
                let found = self.machine.member(&operand, field).map_err(located)?;
                found.ok_or_else(|| located(Fault::NoSuchField(field.to_string())))
            }
            Op::Has(operand, field) => {
                let operand = self.node(operand)?;
                let found = self.machine.member(&operand, field).map_err(located)?;
                Ok(Value::Bool(found.is_some()))
            }
            Op::Index(both) => {
                let (operand, index) = (self.node(&both[0])?, self.node(&both[1])?);
                self.machine.index(&operand, &index).map_err(located)
            }
            Op::List(nodes) => {
                self.machine.make_slots(nodes.len()).map_err(located)?;
                let values = nodes.iter().map(|node| self.node(node)).collect::<Result<Vec<_>, _>>()?;
                Ok(Value::List(Rc::new(values)))
            }
            Op::Map(nodes) => self.map(nodes, located),
            Op::Not(inner) => Ok(Value::Bool(!self.truth(inner)?)),
            Op::Negate(inner) => operate::negate(&self.node(inner)?).map_err(located),
            Op::And(both) => self.junction(both, false),
            Op::Or(both) => self.junction(both, true),
            Op::If(three) => {
                let chosen = if self.truth(&three[0])? { &three[1] } else { &three[2] };
                self.node(chosen)
            }
            Op::Binary(operator, both) => {
                let (one, other) = (self.node(&both[0])?, self.node(&both[1])?);
                self.machine.binary(*operator, &one, &other).map_err(located)
            }
            Op::Call(function, nodes) => {
                let arguments = nodes.iter().map(|node| self.node(node)).collect::<Result<Vec<_>, _>>()?;
                self.call(*function, &arguments).map_err(located)
            }
            Op::Matches(matches) => self.matches(matches, located),
            Op::Loop(each) => self.each(each, located),
        }
    }

    fn map(&mut self, nodes: &'a [(Node, Node)], located: impl Fn(Fault) -> Stop) -> Step<'a> {
        self.machine.make_slots(nodes.len() * 2).map_err(&located)?;
        let mut entries: Vec<(std::borrow::Cow<'a, str>, Value<'a>)> = Vec::with_capacity(nodes.len());
        for (key, value) in nodes {
            let Value::String(name) = self.node(key)? else {
                return Err(located(Fault::Kind("the key of a map must be a string".into())));
            };
            if entries.iter().any(|(known, _)| *known == name) {
                return Err(located(Fault::Kind("a key is in the map twice".into())));
            }
            let value = self.node(value)?;
            entries.push((name, value));
        }
        Ok(Value::Map(Rc::new(entries)))
    }

    fn truth(&mut self, node: &'a Node) -> Result<bool, Stop> {
        match self.node(node)? {
            Value::Bool(truth) => Ok(truth),
            other => {
                let fault = Fault::Kind(format!("this is {}, and must be a bool", other.kind()));
                Err(Stop { at: node.at, fault })
            }
        }
    }

    /// What decides alone decides, even where the other side fails.
    fn junction(&mut self, both: &'a [Node; 2], decisive: bool) -> Step<'a> {
        let first = self.truth(&both[0]);
        match first {
            Ok(truth) if truth == decisive => return Ok(Value::Bool(decisive)),
            Err(stop) if stop.fault.is_final() => return Err(stop),
            _ => {}
        }
        let second = self.truth(&both[1])?;
        if second == decisive {
            return Ok(Value::Bool(decisive));
        }
        first.map(|_| Value::Bool(!decisive))
    }

    fn matches(&mut self, matches: &'a Matches, located: impl Fn(Fault) -> Stop) -> Step<'a> {
        let Value::String(text) = self.node(&matches.text)? else {
            return Err(located(Fault::Kind("`matches` works on a string".into())));
        };
        let steps = (text.len() as u64 + 16).saturating_mul(matches.steps_per_byte);
        self.machine.budget.steps(steps).map_err(&located)?;
        Ok(Value::Bool(matches.regex.is_match(&text)))
    }

    fn each(&mut self, each: &'a Loop, located: impl Fn(Fault) -> Stop + Copy) -> Step<'a> {
        let range = self.node(&each.range)?;
        let elements = operate::elements(&range).map_err(located)?;
        let mut collected = Vec::new();
        let mut hits = 0_usize;
        let mut failed: Option<Stop> = None;
        for element in elements {
            self.machine.budget.step().map_err(located)?;
            self.locals.push(element);
            let done = self.element(each, &mut collected);
            self.locals.pop();
            match done {
                Ok(hit) => hits += usize::from(hit),
                // An element that decides may still come.
                Err(stop)
                    if matches!(each.kind, LoopKind::All | LoopKind::Exists) && !stop.fault.is_final() =>
                {
                    failed.get_or_insert(stop);
                    continue;
                }
                Err(stop) => return Err(stop),
            }
            if hits > 0 && matches!(each.kind, LoopKind::All | LoopKind::Exists) {
                return Ok(Value::Bool(each.kind == LoopKind::Exists));
            }
        }
        if let Some(stop) = failed {
            return Err(stop);
        }
        Ok(match each.kind {
            LoopKind::All => Value::Bool(true),
            LoopKind::Exists => Value::Bool(false),
            LoopKind::ExistsOne => Value::Bool(hits == 1),
            LoopKind::Collect => Value::List(Rc::new(collected)),
        })
    }

    /// Whether this element counts: it decides, or is the one.
    fn element(&mut self, each: &'a Loop, collected: &mut Vec<Value<'a>>) -> Result<bool, Stop> {
        if let Some(condition) = &each.condition
            && !self.truth(condition)?
        {
            return Ok(false);
        }
        match each.kind {
            LoopKind::All => Ok(!self.truth(&each.body)?),
            LoopKind::Exists | LoopKind::ExistsOne => self.truth(&each.body),
            LoopKind::Collect => {
                let value = self.node(&each.body)?;
                self.machine.make_slots(1).map_err(|fault| Stop { at: each.body.at, fault })?;
                collected.push(value);
                Ok(true)
            }
        }
    }

    fn call(&self, function: function::Function, arguments: &[Value<'a>]) -> Result<Value<'a>, Fault> {
        use function::Function as F;
        match (function, arguments) {
            (F::Header, [Value::String(name)]) => {
                let found = self.scope.header(name)?;
                if let Value::String(text) = &found {
                    self.machine.budget.make(text.len())?;
                }
                Ok(found)
            }
            (F::Secret, [Value::String(name)]) => self.scope.secret(name),
            _ => self.machine.call(function, arguments),
        }
    }
}

fn of_constant(constant: &Constant) -> Value<'_> {
    match constant {
        Constant::Null => Value::Null,
        Constant::Bool(value) => Value::Bool(*value),
        Constant::Int(value) => Value::Int(*value),
        Constant::Uint(value) => Value::Uint(*value),
        Constant::Double(value) => Value::Double(*value),
        Constant::String(text) => Value::String(text.as_ref().into()),
        Constant::Bytes(bytes) => Value::Bytes(bytes.as_ref().into()),
    }
}

impl Machine<'_> {
    /// What a map holds under a name; `None` where it does not.
    pub(super) fn member<'a>(&self, operand: &Value<'a>, name: &str) -> Result<Option<Value<'a>>, Fault> {
        Ok(match operand {
            Value::JsonMap(map) => map.get(name).map(Value::of_json),
            Value::Map(entries) => {
                self.budget.steps(entries.len() as u64)?;
                let found = entries.iter().find(|(key, _)| key == name).map(|(_, value)| value);
                if let Some(found) = found {
                    self.copy(found)?;
                }
                found.cloned()
            }
            Value::Headers(headers) => {
                let found = scope::header(headers, name)?;
                if let Some(Value::String(text)) = &found {
                    self.budget.make(text.len())?;
                }
                found
            }
            other => return Err(Fault::Kind(format!("{} has no field `{name}`", other.kind()))),
        })
    }
}
