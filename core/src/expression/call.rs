//! Calls: operators, functions and methods.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use regex::RegexBuilder;

use super::check::Checker;
use super::error::ExpressionError;
use super::function;
use super::kind::Kind;
use super::limits;
use super::node::{Binary, Matches, Node, Op};

const PATTERN_BYTES_MAX: usize = 512;
const REGEX_BYTES_MIN: usize = 8 * 1024;
const REGEX_BYTES_PER_STEP: usize = 4 * 1024;

type Found = Result<(Op, Kind), ExpressionError>;

impl Checker<'_> {
    pub(super) fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Found {
        if call.target.is_none()
            && let Some(found) = self.operator(expr, &call.func_name, &call.args)
        {
            return found;
        }
        self.function(expr, call)
    }

    fn operator(&mut self, expr: &IdedExpr, name: &str, args: &[IdedExpr]) -> Option<Found> {
        Some(match (name, args) {
            (operators::LOGICAL_AND, [left, right]) => {
                self.truths(left, right).map(|both| (Op::And(both), Kind::Bool))
            }
            (operators::LOGICAL_OR, [left, right]) => {
                self.truths(left, right).map(|both| (Op::Or(both), Kind::Bool))
            }
            (operators::LOGICAL_NOT, [inner]) => {
                self.truth(inner).map(|node| (Op::Not(Box::new(node)), Kind::Bool))
            }
            (operators::NEGATE, [inner]) => self.negate(expr, inner),
            (operators::CONDITIONAL, [condition, one, other]) => self.conditional(condition, one, other),
            (operators::INDEX, [operand, index]) => self.index(expr, operand, index),
            (name, [left, right]) => {
                let operator = binary(name)?;
                self.binary(expr, operator, left, right)
            }
            _ => return None,
        })
    }

    fn truths(&mut self, left: &IdedExpr, right: &IdedExpr) -> Result<Box<[Node; 2]>, ExpressionError> {
        Ok(Box::new([self.truth(left)?, self.truth(right)?]))
    }

    fn negate(&mut self, expr: &IdedExpr, inner: &IdedExpr) -> Found {
        let (node, kind) = self.node(inner)?;
        match kind {
            Kind::Dyn | Kind::Int | Kind::Double | Kind::Duration => Ok((Op::Negate(Box::new(node)), kind)),
            other => Err(self.refuse(expr, format!("{other} cannot be negated"))),
        }
    }

    fn conditional(&mut self, condition: &IdedExpr, one: &IdedExpr, other: &IdedExpr) -> Found {
        let condition = self.truth(condition)?;
        let (yes, yes_kind) = self.node(one)?;
        let (no, no_kind) = self.node(other)?;
        let kind = yes_kind.or(no_kind).ok_or_else(|| self.hidden(other))?;
        Ok((Op::If(Box::new([condition, yes, no])), kind))
    }

    fn index(&mut self, expr: &IdedExpr, operand: &IdedExpr, index: &IdedExpr) -> Found {
        let (node, kind) = self.node(operand)?;
        let (by, by_kind) = self.node(index)?;
        let wrong = |what: &str| format!("{what} cannot be indexed by {by_kind}");
        let inner = match kind {
            Kind::Dyn if matches!(by_kind, Kind::Dyn | Kind::Int | Kind::Uint | Kind::String) => Kind::Dyn,
            Kind::List(inner) if matches!(by_kind, Kind::Dyn | Kind::Int | Kind::Uint) => *inner,
            Kind::Map(inner) if matches!(by_kind, Kind::Dyn | Kind::String) => *inner,
            other => return Err(self.refuse(expr, wrong(&other.to_string()))),
        };
        Ok((Op::Index(Box::new([node, by])), inner))
    }

    fn binary(&mut self, expr: &IdedExpr, operator: Binary, left: &IdedExpr, right: &IdedExpr) -> Found {
        let (one, one_kind) = self.node(left)?;
        let (other, other_kind) = self.node(right)?;
        match result(operator, &one_kind, &other_kind) {
            Some(kind) => Ok((Op::Binary(operator, Box::new([one, other])), kind)),
            None if one_kind.holds_secret() || other_kind.holds_secret() => Err(self.hidden(expr)),
            None => {
                let problem = format!("{} does not work on {one_kind} and {other_kind}", sign(operator));
                Err(self.refuse(expr, problem))
            }
        }
    }

    fn function(&mut self, expr: &IdedExpr, call: &CallExpr) -> Found {
        let name = call.func_name.as_str();
        if name == "matches" {
            return self.matches(expr, call);
        }
        let namespaced = match call.target.as_deref().map(|target| &target.expr) {
            Some(Expr::Ident(namespace)) => function::namespaced(namespace, name),
            _ => None,
        };
        let target = call.target.as_deref().filter(|_| namespaced.is_none());
        let found = namespaced.or_else(|| function::find(name, target.is_some(), self.place));
        let Some(function) = found else {
            return Err(self.refuse(expr, format!("there is no function `{name}` here")));
        };
        let mut nodes = Vec::with_capacity(call.args.len() + 1);
        let mut kinds = Vec::with_capacity(call.args.len() + 1);
        for argument in target.into_iter().chain(&call.args) {
            let (node, kind) = self.node(argument)?;
            nodes.push(node);
            kinds.push(kind);
        }
        if function == function::Function::Secret && !is_text(call.args.first()) {
            return Err(self.refuse(expr, "the name of a secret is written as a string literal"));
        }
        match function::kind(function, &kinds) {
            Ok(kind) => Ok((Op::Call(function, nodes), kind)),
            Err(_) if kinds.iter().any(Kind::holds_secret) => Err(self.hidden(expr)),
            Err(expected) => {
                let given: Vec<String> = kinds.iter().map(ToString::to_string).collect();
                let given = if given.is_empty() { "nothing".to_owned() } else { given.join(", ") };
                Err(self.refuse(expr, format!("`{name}` wants {expected}; given is {given}")))
            }
        }
    }

    /// The pattern is a literal, so that it is compiled once and its cost is known.
    fn matches(&mut self, expr: &IdedExpr, call: &CallExpr) -> Found {
        let ((Some(text), [pattern]) | (None, [text, pattern])) =
            (call.target.as_deref(), call.args.as_slice())
        else {
            return Err(self.refuse(expr, "`matches` wants a pattern, on a string"));
        };
        let Expr::Literal(LiteralValue::String(written)) = &pattern.expr else {
            return Err(self.refuse(pattern, "the pattern of `matches` is written as a string literal"));
        };
        let (regex, steps_per_byte) =
            compile(written.inner()).map_err(|problem| self.refuse(pattern, problem))?;
        let (text, kind) = self.node(text)?;
        match kind {
            Kind::Dyn | Kind::String => {
                Ok((Op::Matches(Box::new(Matches { text, regex, steps_per_byte })), Kind::Bool))
            }
            Kind::Secret => Err(self.hidden(expr)),
            other => Err(self.refuse(expr, format!("`matches` wants a string; given is {other}"))),
        }
    }
}

fn is_text(expr: Option<&IdedExpr>) -> bool {
    matches!(expr, Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(_)), .. }))
}

/// The smallest size it compiles in says what a byte of text may cost at worst: the engine is linear
/// in the text, with the size of the automaton as the factor.
fn compile(pattern: &str) -> Result<(regex::Regex, u64), String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("the pattern must be at most {PATTERN_BYTES_MAX} bytes"));
    }
    let mut size = REGEX_BYTES_MIN;
    loop {
        match RegexBuilder::new(pattern).size_limit(size).dfa_size_limit(size).build() {
            Ok(regex) => return Ok((regex, (size / REGEX_BYTES_PER_STEP) as u64)),
            Err(regex::Error::CompiledTooBig(_)) if size < limits::REGEX_BYTES_MAX => size *= 2,
            Err(regex::Error::CompiledTooBig(_)) => {
                return Err("the pattern is too large when compiled".into());
            }
            Err(_) => return Err("the pattern is no regular expression (RE2 syntax)".into()),
        }
    }
}

fn binary(name: &str) -> Option<Binary> {
    Some(match name {
        operators::ADD => Binary::Add,
        operators::SUBSTRACT => Binary::Subtract,
        operators::MULTIPLY => Binary::Multiply,
        operators::DIVIDE => Binary::Divide,
        operators::MODULO => Binary::Modulo,
        operators::EQUALS => Binary::Equals,
        operators::NOT_EQUALS => Binary::NotEquals,
        operators::LESS => Binary::Less,
        operators::LESS_EQUALS => Binary::LessEquals,
        operators::GREATER => Binary::Greater,
        operators::GREATER_EQUALS => Binary::GreaterEquals,
        operators::IN => Binary::In,
        _ => return None,
    })
}

fn sign(operator: Binary) -> &'static str {
    match operator {
        Binary::Add => "`+`",
        Binary::Subtract => "`-`",
        Binary::Multiply => "`*`",
        Binary::Divide => "`/`",
        Binary::Modulo => "`%`",
        Binary::Equals => "`==`",
        Binary::NotEquals => "`!=`",
        Binary::Less => "`<`",
        Binary::LessEquals => "`<=`",
        Binary::Greater => "`>`",
        Binary::GreaterEquals => "`>=`",
        Binary::In => "`in`",
    }
}

/// What is known of the result; `None` where the operands cannot go together.
fn result(operator: Binary, one: &Kind, other: &Kind) -> Option<Kind> {
    match operator {
        Binary::Equals | Binary::NotEquals => {
            let null = *one == Kind::Null || *other == Kind::Null;
            let secret = one.holds_secret() || other.holds_secret();
            (!secret && (null || one.equals(other))).then_some(Kind::Bool)
        }
        Binary::In => match other {
            _ if one.holds_secret() || other.holds_secret() => None,
            Kind::Dyn => Some(Kind::Bool),
            Kind::List(inner) => one.equals(inner).then_some(Kind::Bool),
            Kind::Map(_) => one.equals(&Kind::String).then_some(Kind::Bool),
            _ => None,
        },
        Binary::Less | Binary::LessEquals | Binary::Greater | Binary::GreaterEquals => {
            let ordered = |kind: &Kind| {
                kind.is_number()
                    || matches!(
                        kind,
                        Kind::Dyn
                            | Kind::String
                            | Kind::Bytes
                            | Kind::Bool
                            | Kind::Timestamp
                            | Kind::Duration
                    )
            };
            (ordered(one) && ordered(other) && one.equals(other)).then_some(Kind::Bool)
        }
        _ => arithmetic(operator, one, other),
    }
}

#[allow(clippy::match_same_arms, reason = "a table: a row a pair of kinds")]
fn arithmetic(operator: Binary, one: &Kind, other: &Kind) -> Option<Kind> {
    use Kind::{Bytes, Double, Duration, Dyn, Int, List, Secret, String, Timestamp, Uint};
    match (operator, one, other) {
        (Binary::Add, Secret, Secret | String | Bytes | Dyn)
        | (Binary::Add, String | Bytes | Dyn, Secret) => Some(Secret),
        (_, one, other) if one.holds_secret() || other.holds_secret() => None,
        (Binary::Add, Timestamp, Duration) | (Binary::Add, Duration, Timestamp) => Some(Timestamp),
        (Binary::Subtract, Timestamp, Duration) => Some(Timestamp),
        (Binary::Subtract, Timestamp, Timestamp) => Some(Duration),
        (Binary::Add | Binary::Subtract, Duration, Duration) => Some(Duration),
        (Binary::Add, String, String) => Some(String),
        (Binary::Add, Bytes, Bytes) => Some(Bytes),
        (Binary::Add, List(one), List(other)) => {
            one.as_ref().clone().or(other.as_ref().clone()).map(|inner| List(Box::new(inner)))
        }
        (_, Int, Int) => Some(Int),
        (_, Uint, Uint) => Some(Uint),
        (Binary::Modulo, Double, _) | (Binary::Modulo, _, Double) => None,
        (_, Double, Double) => Some(Double),
        // What is known of one operand says what the other must be.
        (_, Dyn, known) | (_, known, Dyn) => match (operator, known) {
            (Binary::Add | Binary::Subtract, Timestamp | Duration) => Some(Dyn),
            (Binary::Add, String | Bytes | List(_)) => Some(known.clone()),
            // A number of JSON may be an int or a double.
            (_, Int | Uint | Double | Dyn) => Some(Dyn),
            _ => None,
        },
        _ => None,
    }
}
