//! A checked expression: every name is resolved, every function known.

use regex::Regex;

use super::function::Function;
use super::kind::Field;

#[derive(Debug)]
pub(super) struct Node {
    /// The byte of the text it stands at.
    pub(super) at: u32,
    pub(super) op: Op,
}

impl Node {
    pub(super) fn children(&self) -> Vec<&Self> {
        match &self.op {
            Op::Constant(_) | Op::Field(_) | Op::Local(_) => Vec::new(),
            Op::Select(inner, _) | Op::Has(inner, _) | Op::Not(inner) | Op::Negate(inner) => vec![inner],
            Op::Index(both) | Op::And(both) | Op::Or(both) | Op::Binary(_, both) => both.iter().collect(),
            Op::If(three) => three.iter().collect(),
            Op::List(nodes) | Op::Call(_, nodes) => nodes.iter().collect(),
            Op::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
            Op::Matches(matches) => vec![&matches.text],
            Op::Loop(each) => {
                [Some(&each.range), each.condition.as_ref(), Some(&each.body)].into_iter().flatten().collect()
            }
        }
    }
}

#[derive(Debug)]
pub(super) enum Op {
    Constant(Constant),
    Field(Field),
    /// The variable of a loop, counted from the outermost.
    Local(usize),
    Select(Box<Node>, Box<str>),
    Has(Box<Node>, Box<str>),
    Index(Box<[Node; 2]>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    If(Box<[Node; 3]>),
    Binary(Binary, Box<[Node; 2]>),
    Call(Function, Vec<Node>),
    Matches(Box<Matches>),
    Loop(Box<Loop>),
}

#[derive(Debug)]
pub(super) enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Box<str>),
    Bytes(Box<[u8]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equals,
    NotEquals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
    In,
}

#[derive(Debug)]
pub(super) struct Matches {
    pub(super) text: Node,
    pub(super) regex: Regex,
    /// The larger the automaton, the more a byte of text may cost.
    pub(super) steps_per_byte: u64,
}

/// What the macros `all`, `exists`, `exists_one`, `map` and `filter` stand for.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) kind: LoopKind,
    pub(super) range: Node,
    /// For a map of three arguments and for a filter.
    pub(super) condition: Option<Node>,
    pub(super) body: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    /// Collects the body of each element that meets the condition.
    Collect,
}
