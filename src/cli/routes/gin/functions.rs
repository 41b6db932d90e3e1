//! The functions of Go files: names, parameters, bodies.

use std::collections::HashMap;
use std::ops::Range;

use super::scope::Value;
use crate::cli::routes::go::{Kind, Token};

/// gin's types with which routes are registered.
const GROUP_TYPES: [&str; 4] = ["Engine", "RouterGroup", "IRouter", "IRoutes"];

/// A function or method.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) parameters: Parameters,
    pub(super) body: Range<usize>,
    /// Whether it gives a group, of which is not known where it is.
    pub(super) returns_group: bool,
    /// Whether another has the same name.
    pub(super) is_ambiguous: bool,
}

/// The parameters of a function.
#[derive(Debug, Default)]
pub(super) struct Parameters(pub(super) Vec<Parameter>);

/// One parameter: its name, and what its type makes of it.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    kind: ParameterKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParameterKind {
    Engine,
    Group,
    Other,
}

impl Parameter {
    /// Whether routes may be registered with it.
    pub(super) fn is_group(&self) -> bool {
        self.kind != ParameterKind::Other
    }

    /// What it is if nobody in these files calls the function: a whole router is at the root.
    pub(super) fn unasked(&self) -> Value {
        match self.kind {
            ParameterKind::Engine => Value::Group("/".to_owned()),
            ParameterKind::Group => Value::Unknown,
            ParameterKind::Other => Value::Other,
        }
    }
}

impl Parameters {
    pub(super) fn has_no_group(&self) -> bool {
        !self.has_group()
    }

    pub(super) fn has_group(&self) -> bool {
        self.0.iter().any(Parameter::is_group)
    }

    pub(super) fn has_engine(&self) -> bool {
        self.0.iter().any(|parameter| parameter.kind == ParameterKind::Engine)
    }
}

/// Finds the functions, and what stands outside of them.
pub(super) fn declarations(tokens: &[Token]) -> (HashMap<String, Function>, Vec<Range<usize>>) {
    let (mut functions, mut outside) = (HashMap::new(), Vec::new());
    let (mut i, mut behind) = (0, 0);
    while i < tokens.len() {
        match declaration(tokens, i) {
            Some((name, function)) => {
                outside.push(behind..i);
                behind = function.body.end + 1;
                i = behind;
                let is_ambiguous = functions.contains_key(&name);
                functions.insert(name, Function { is_ambiguous, ..function });
            }
            None if matches!(tokens[i].kind, Kind::Mark('{' | '(')) => i = closing(tokens, i) + 1,
            None => i += 1,
        }
    }
    outside.push(behind.min(tokens.len())..tokens.len());
    (functions, outside)
}

/// `func (receiver) name[types](parameters) results { body }`.
fn declaration(tokens: &[Token], i: usize) -> Option<(String, Function)> {
    let name = |i: usize| tokens.get(i).map(|token| &token.kind);
    let mark = |i: usize, mark: char| name(i) == Some(&Kind::Mark(mark));
    if name(i) != Some(&Kind::Name("func".to_owned())) {
        return None;
    }
    let mut at = if mark(i + 1, '(') { closing(tokens, i + 1) + 1 } else { i + 1 };
    let Some(Kind::Name(called)) = name(at) else { return None };
    at += 1;
    if mark(at, '[') {
        at = closing(tokens, at) + 1;
    }
    if !mark(at, '(') {
        return None;
    }
    let (parameters, results) = parameters(tokens, at);
    let mut at = results;
    while !mark(at, '{') {
        let is_type = matches!(name(at)?, Kind::Name(name) if name == "interface" || name == "struct");
        at = match name(at)? {
            Kind::Mark('(' | '[') => closing(tokens, at) + 1,
            Kind::Mark(';') => return None,
            _ if is_type && mark(at + 1, '{') => closing(tokens, at + 1) + 1,
            _ => at + 1,
        };
    }
    let (body, returns_group) = (at + 1..closing(tokens, at), is_group_type(&tokens[results..at]));
    Some((called.clone(), Function { parameters, body, returns_group, is_ambiguous: false }))
}

/// The parameters whose `(` is at `open`, and where they end.
pub(super) fn parameters(tokens: &[Token], open: usize) -> (Parameters, usize) {
    let close = closing(tokens, open);
    let mut list = Vec::new();
    let mut kind = ParameterKind::Other;
    // In `a, b string` the type stands behind the last name.
    for part in parted(tokens, open + 1..close).into_iter().rev() {
        let rest = &tokens[part.start + 1..part.end];
        if !rest.is_empty() {
            kind = kind_of(rest);
        }
        if let Kind::Name(name) = &tokens[part.start].kind {
            list.push(Parameter { name: name.clone(), kind });
        }
    }
    list.reverse();
    (Parameters(list), close + 1)
}

fn kind_of(tokens: &[Token]) -> ParameterKind {
    let names = |name: &str| tokens.iter().any(|token| token.kind == Kind::Name(name.to_owned()));
    if names("func") {
        ParameterKind::Other
    } else if names("Engine") {
        ParameterKind::Engine
    } else if is_group_type(tokens) {
        ParameterKind::Group
    } else {
        ParameterKind::Other
    }
}

/// Whether a type is one of gin's with which routes are registered.
pub(super) fn is_group_type(tokens: &[Token]) -> bool {
    tokens.iter().any(|token| matches!(&token.kind, Kind::Name(name) if GROUP_TYPES.contains(&name.as_str())))
}

/// Where the bracket at `open` is closed; the last token if it is not.
pub(super) fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i;
                }
            }
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

/// What stands between the commas of a range; nothing stands behind a comma at its end.
pub(super) fn parted(tokens: &[Token], range: Range<usize>) -> Vec<Range<usize>> {
    let (mut parts, mut from, mut i) = (Vec::new(), range.start, range.start);
    while i < range.end {
        match tokens[i].kind {
            Kind::Mark('(' | '[' | '{') => i = closing(tokens, i),
            Kind::Mark(',') => {
                parts.push(from..i);
                from = i + 1;
            }
            _ => {}
        }
        i += 1;
    }
    parts.push(from..range.end);
    parts.retain(|part| !part.is_empty() && part.end <= range.end);
    parts
}
