//! Syntax tree to [`Node`]s: names resolved, kinds checked, limits held.

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr, LiteralValue, MapExpr, SelectExpr, SourceInfo};

use super::error::{ExpressionError, Position};
use super::kind::{Kind, Place};
use super::limits;
use super::node::{Constant, Node, Op};

pub(super) type Checked = Result<(Node, Kind), ExpressionError>;

pub(super) fn check(
    tree: &IdedExpr,
    positions: &SourceInfo,
    text: &str,
    place: Place,
) -> Result<Node, ExpressionError> {
    let mut checker = Checker { positions, text, place, locals: Vec::new(), nodes: 0, depth: 0 };
    let (root, kind) = checker.node(tree)?;
    if !place.accepts(&kind) {
        let wants = place.wants();
        return Err(checker.refuse(tree, format!("the result is {kind}, and must be {wants}")));
    }
    Ok(root)
}

pub(super) struct Checker<'t> {
    positions: &'t SourceInfo,
    text: &'t str,
    pub(super) place: Place,
    /// Variables of the loops around, the outermost first.
    pub(super) locals: Vec<(String, Kind)>,
    nodes: usize,
    depth: usize,
}

impl Checker<'_> {
    pub(super) fn at(&self, expr: &IdedExpr) -> u32 {
        self.positions.offset_for(expr.id).map_or(0, |(start, _)| start)
    }

    pub(super) fn refuse(&self, expr: &IdedExpr, problem: impl Into<String>) -> ExpressionError {
        let position = Position::of(self.text, self.at(expr) as usize);
        ExpressionError { position, problem: problem.into() }
    }

    pub(super) fn node(&mut self, expr: &IdedExpr) -> Checked {
        self.nodes += 1;
        if self.nodes > limits::NODES_MAX {
            return Err(self.refuse(expr, format!("it has more than {} parts", limits::NODES_MAX)));
        }
        if self.depth >= limits::DEPTH_MAX {
            let max = limits::DEPTH_MAX;
            return Err(self.refuse(expr, format!("it is nested, or a chain of operators, beyond {max}")));
        }
        self.depth += 1;
        let checked = self.op(expr);
        self.depth -= 1;
        let (op, kind) = checked?;
        Ok((Node { at: self.at(expr), op }, kind))
    }

    fn op(&mut self, expr: &IdedExpr) -> Result<(Op, Kind), ExpressionError> {
        match &expr.expr {
            Expr::Literal(literal) => Ok(constant(literal)),
            Expr::Ident(name) => self.name(expr, name),
            Expr::Select(select) => self.select(expr, select),
            Expr::Call(call) => self.call(expr, call),
            Expr::List(list) => {
                if !list.optional_indices.is_empty() {
                    return Err(self.refuse(expr, "optional entries are not supported"));
                }
                let mut nodes = Vec::with_capacity(list.elements.len());
                let mut inner: Option<Kind> = None;
                for element in &list.elements {
                    let (node, kind) = self.node(element)?;
                    nodes.push(node);
                    inner = Some(match inner {
                        None => kind,
                        Some(known) => known.or(kind).ok_or_else(|| self.hidden(element))?,
                    });
                }
                Ok((Op::List(nodes), Kind::List(Box::new(inner.unwrap_or(Kind::Dyn)))))
            }
            Expr::Map(map) => self.map(expr, map),
            Expr::Comprehension(comprehension) => self.comprehension(expr, comprehension),
            Expr::Struct(_) => {
                Err(self.refuse(expr, "there are no message types: write a map, `{\"a\": 1}`"))
            }
            Expr::Unspecified => Err(self.refuse(expr, "this text is not understood")),
        }
    }

    pub(super) fn hidden(&self, expr: &IdedExpr) -> ExpressionError {
        self.refuse(expr, "a secret can only be compared, with constant_time_eq")
    }

    fn name(&self, expr: &IdedExpr, name: &str) -> Result<(Op, Kind), ExpressionError> {
        if let Some(slot) = self.locals.iter().rposition(|(local, _)| local == name) {
            return Ok((Op::Local(slot), self.locals[slot].1.clone()));
        }
        if let Some((_, fields)) = self.place.variables().iter().find(|(variable, _)| *variable == name) {
            let fields = names(fields);
            return Err(self.refuse(expr, format!("`{name}` is used by its fields: {fields}")));
        }
        let known: Vec<&str> = self.place.variables().iter().map(|(name, _)| *name).collect();
        Err(self.refuse(expr, format!("there is no `{name}` here; there is {}", known.join(" and "))))
    }

    fn select(&mut self, expr: &IdedExpr, select: &SelectExpr) -> Result<(Op, Kind), ExpressionError> {
        if let Expr::Ident(variable) = &select.operand.expr
            && !self.locals.iter().any(|(local, _)| local == variable)
            && let Some((_, fields)) = self.place.variables().iter().find(|(name, _)| name == variable)
        {
            let Some((_, field)) = fields.iter().find(|(name, _)| *name == select.field) else {
                let problem = format!("`{variable}` has no `{}`; it has {}", select.field, names(fields));
                return Err(self.refuse(expr, problem));
            };
            if select.test {
                // All are there; a channel or a source may be null.
                let at = self.at(expr);
                let null = Node { at, op: Op::Constant(Constant::Null) };
                let there = Box::new([Node { at, op: Op::Field(*field) }, null]);
                return Ok((Op::Binary(super::node::Binary::NotEquals, there), Kind::Bool));
            }
            return Ok((Op::Field(*field), field.kind()));
        }
        let (operand, kind) = self.node(&select.operand)?;
        let inner = match kind {
            Kind::Dyn => Kind::Dyn,
            Kind::Map(inner) => *inner,
            other => return Err(self.refuse(expr, format!("{other} has no fields"))),
        };
        let field = select.field.as_str().into();
        Ok(if select.test {
            (Op::Has(Box::new(operand), field), Kind::Bool)
        } else {
            (Op::Select(Box::new(operand), field), inner)
        })
    }

    fn map(&mut self, expr: &IdedExpr, map: &MapExpr) -> Result<(Op, Kind), ExpressionError> {
        let mut entries = Vec::with_capacity(map.entries.len());
        let mut inner: Option<Kind> = None;
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err(self.refuse(expr, "this text is not understood"));
            };
            if entry.optional {
                return Err(self.refuse(&entry.key, "optional entries are not supported"));
            }
            let (key, kind) = self.node(&entry.key)?;
            if !matches!(kind, Kind::Dyn | Kind::String) {
                return Err(self.refuse(&entry.key, format!("the key is {kind}, and must be a string")));
            }
            let (value, kind) = self.node(&entry.value)?;
            if kind.holds_secret() {
                return Err(self.hidden(&entry.value));
            }
            entries.push((key, value));
            inner = Some(match inner {
                None => kind,
                Some(known) => known.or(kind).ok_or_else(|| self.hidden(&entry.value))?,
            });
        }
        Ok((Op::Map(entries), Kind::Map(Box::new(inner.unwrap_or(Kind::Dyn)))))
    }
}

fn names<T>(fields: &[(&str, T)]) -> String {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

fn constant(literal: &LiteralValue) -> (Op, Kind) {
    let (constant, kind) = match literal {
        LiteralValue::Null => (Constant::Null, Kind::Null),
        LiteralValue::Boolean(value) => (Constant::Bool(*value.inner()), Kind::Bool),
        LiteralValue::Int(value) => (Constant::Int(*value.inner()), Kind::Int),
        LiteralValue::UInt(value) => (Constant::Uint(*value.inner()), Kind::Uint),
        LiteralValue::Double(value) => (Constant::Double(*value.inner()), Kind::Double),
        LiteralValue::String(value) => (Constant::String(value.inner().into()), Kind::String),
        LiteralValue::Bytes(value) => (Constant::Bytes(value.inner().into()), Kind::Bytes),
    };
    (Op::Constant(constant), kind)
}
