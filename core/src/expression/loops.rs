//! Recognizes the macros in what the `cel` crate made of them.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, operators};

use super::check::Checker;
use super::error::ExpressionError;
use super::kind::Kind;
use super::node::{Loop, LoopKind, Op};

/// The parts that were written.
struct Written<'t> {
    kind: LoopKind,
    condition: Option<&'t IdedExpr>,
    body: &'t IdedExpr,
}

impl Checker<'_> {
    pub(super) fn comprehension(
        &mut self,
        expr: &IdedExpr,
        comprehension: &ComprehensionExpr,
    ) -> Result<(Op, Kind), ExpressionError> {
        let Some(written) = read(comprehension) else {
            return Err(self.refuse(expr, "this macro is not supported"));
        };
        let (range, kind) = self.node(&comprehension.iter_range)?;
        let element = match kind {
            Kind::Dyn => Kind::Dyn,
            Kind::List(inner) => *inner,
            // Keys.
            Kind::Map(_) => Kind::String,
            other => return Err(self.refuse(&comprehension.iter_range, format!("{other} has no elements"))),
        };
        self.locals.push((comprehension.iter_var.clone(), element));
        let inside = self.inside(&written);
        self.locals.pop();
        let (condition, body, kind) = inside?;
        Ok((Op::Loop(Box::new(Loop { kind: written.kind, range, condition, body })), kind))
    }

    fn inside(
        &mut self,
        written: &Written<'_>,
    ) -> Result<(Option<super::node::Node>, super::node::Node, Kind), ExpressionError> {
        let condition = match written.condition {
            Some(condition) => Some(self.truth(condition)?),
            None => None,
        };
        if written.kind == LoopKind::Collect {
            let (body, kind) = self.node(written.body)?;
            return Ok((condition, body, Kind::List(Box::new(kind))));
        }
        Ok((condition, self.truth(written.body)?, Kind::Bool))
    }

    /// A node that is a bool as far as is known.
    pub(super) fn truth(&mut self, expr: &IdedExpr) -> Result<super::node::Node, ExpressionError> {
        let (node, kind) = self.node(expr)?;
        match kind {
            Kind::Dyn | Kind::Bool => Ok(node),
            other => Err(self.refuse(expr, format!("this is {other}, and must be a bool"))),
        }
    }
}

fn read(comprehension: &ComprehensionExpr) -> Option<Written<'_>> {
    if comprehension.iter_var2.is_some() {
        return None;
    }
    let result = comprehension.accu_var.as_str();
    let step = call(&comprehension.loop_step)?;
    let is_result = |expr: &IdedExpr| matches!(&expr.expr, Expr::Ident(name) if name == result);
    let written = |kind, condition, body| Some(Written { kind, condition, body });
    match (&comprehension.accu_init.expr, step.func_name.as_str(), step.args.as_slice()) {
        (Expr::Literal(LiteralValue::Boolean(_)), operators::LOGICAL_OR, [left, body]) if is_result(left) => {
            written(LoopKind::Exists, None, body)
        }
        (Expr::Literal(LiteralValue::Boolean(_)), operators::LOGICAL_AND, [left, body])
            if is_result(left) =>
        {
            written(LoopKind::All, None, body)
        }
        (Expr::Literal(LiteralValue::Int(_)), operators::CONDITIONAL, [body, _, _]) => {
            written(LoopKind::ExistsOne, None, body)
        }
        (Expr::List(_), operators::CONDITIONAL, [condition, append, _]) => {
            written(LoopKind::Collect, Some(condition), appended(append)?)
        }
        (Expr::List(_), operators::ADD, _) => {
            written(LoopKind::Collect, None, appended(&comprehension.loop_step)?)
        }
        _ => None,
    }
}

fn call(expr: &IdedExpr) -> Option<&CallExpr> {
    match &expr.expr {
        Expr::Call(call) => Some(call),
        _ => None,
    }
}

/// The element in `result + [element]`.
fn appended(expr: &IdedExpr) -> Option<&IdedExpr> {
    let [_, list] = call(expr)?.args.as_slice() else { return None };
    match &list.expr {
        Expr::List(list) => match list.elements.as_slice() {
            [element] => Some(element),
            _ => None,
        },
        _ => None,
    }
}
