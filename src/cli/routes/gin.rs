//! The routes that a Go program registers with gin, read from its source.
//!
//! Groups are followed through variables, blocks, chained calls and functions of the same files. What
//! looks like a registration but cannot be followed is never passed over: it is in [`Router::unread`].

mod functions;
mod look;
mod scope;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use self::functions::{Function, Parameter, Parameters, declarations, parameters};
use self::scope::{Scopes, Value};
use super::go::{Kind, Place, Token, Unended, tokens};

/// How deep functions may call each other.
const MAX_DEPTH: usize = 16;

/// The methods of a group that are named for the method they register.
const VERBS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// All that a router registers.
#[derive(Debug, Default)]
pub(super) struct Router {
    /// What could be read.
    pub(super) routes: Vec<Registered>,
    /// What looks like a registration, and why it could not be read.
    pub(super) unread: Vec<Unread>,
}

/// A route as gin knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registered {
    /// In upper case; `ANY` for all of them.
    pub(super) method: String,
    /// The full path, in gin's spelling: `/object/*name`.
    pub(super) path: String,
    pub(super) place: Place,
}

/// Something that may register routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    /// What it looks like, as in `g.POST(...)`.
    pub(super) what: String,
    pub(super) why: &'static str,
    pub(super) place: Place,
}

impl Router {
    /// Reads these files as one Go package.
    ///
    /// # Errors
    /// A file is no Go source: something in it does not end.
    pub(super) fn read<'a>(
        files: impl IntoIterator<Item = (&'a Path, &'a str)>,
    ) -> Result<Self, (&'a Path, Unended)> {
        let mut all = Vec::new();
        for (path, text) in files {
            let file: Arc<Path> = path.into();
            all.extend(tokens(&file, text).map_err(|error| (path, error))?);
        }
        let (functions, outside) = declarations(&all);
        let mut walk = Walk {
            tokens: &all,
            functions: &functions,
            called: HashSet::new(),
            scopes: Scopes::new(),
            pending: None,
            depth: 0,
            router: Router::default(),
        };
        walk.everything(&outside);
        walk.router.unread.dedup();
        Ok(walk.router)
    }
}

/// A run through the tokens, block by block and call by call.
struct Walk<'a> {
    tokens: &'a [Token],
    functions: &'a HashMap<String, Function>,
    called: HashSet<String>,
    scopes: Scopes,
    /// The parameters of a function literal whose block comes next.
    pending: Option<Parameters>,
    depth: usize,
    router: Router,
}

impl Walk<'_> {
    /// Runs what stands outside of functions, then the functions: first those that are given no group,
    /// for they call the others; then what nobody called.
    fn everything(&mut self, outside: &[Range<usize>]) {
        for range in outside {
            self.run(range.clone());
        }
        let mut functions: Vec<(&String, &Function)> = self.functions.iter().collect();
        functions.sort_by_key(|(_, function)| function.body.start);
        for is_turn in [Parameters::has_no_group, Parameters::has_engine, Parameters::has_group] {
            for (name, function) in &functions {
                if is_turn(&function.parameters) && !self.called.contains(*name) {
                    let values = function.parameters.0.iter().map(Parameter::unasked).collect();
                    self.enter(name, function, values);
                }
            }
        }
    }

    fn enter(&mut self, name: &str, function: &Function, values: Vec<Value>) {
        self.called.insert(name.to_owned());
        let outer = self.scopes.enter();
        for (parameter, value) in function.parameters.0.iter().zip(values) {
            self.scopes.define(&parameter.name, value);
        }
        self.depth += 1;
        self.run(function.body.clone());
        self.depth -= 1;
        self.scopes.leave(outer);
    }

    fn run(&mut self, range: Range<usize>) {
        let mut i = range.start;
        while i < range.end {
            i = self.step(i).max(i + 1);
        }
    }

    /// Takes what begins at `i`; gives where the next thing begins.
    fn step(&mut self, i: usize) -> usize {
        match &self.tokens[i].kind {
            Kind::Mark('{') => {
                self.scopes.open();
                for parameter in self.pending.take().into_iter().flat_map(|parameters| parameters.0) {
                    let value = if parameter.is_group() { Value::Unknown } else { Value::Other };
                    self.scopes.define(&parameter.name, value);
                }
            }
            Kind::Mark('}') => self.scopes.close(),
            Kind::Mark(';') => self.pending = None,
            Kind::Name(name) if name == "func" && self.is_mark(i + 1, '(') => {
                let (parameters, behind) = parameters(self.tokens, i + 1);
                self.pending = Some(parameters);
                return behind;
            }
            Kind::Name(name) if name == "var" => return self.variable(i + 1),
            // Behind a `.` it is called on something that is no name, such as an entry of a list.
            Kind::Name(_) if self.is_behind_dot(i) && self.is_mark(i + 1, '(') => return self.calls(i).1,
            Kind::Name(_) if !self.is_behind_dot(i) => return self.chain(i),
            _ => {}
        }
        i + 1
    }

    /// `x`, `x = ..` or `x Type = ..` behind `var`.
    fn variable(&mut self, i: usize) -> usize {
        let Some(name) = self.name(i) else { return i };
        let ends = |kind: &Kind| matches!(kind, Kind::Mark('=' | ';' | ',' | '{'));
        let end = (i + 1..self.tokens.len()).find(|at| ends(&self.tokens[*at].kind));
        let Some(end) = end else { return i + 1 };
        if self.is_mark(end, '=') {
            return self.assign(name, end + 1, Assign::Define);
        }
        let is_group = functions::is_group_type(&self.tokens[i + 1..end]);
        self.scopes.define(name, if is_group { Value::Unset } else { Value::Other });
        end
    }

    /// `a.b.c`, and the call or the assignment that it is part of.
    fn chain(&mut self, start: usize) -> usize {
        let (names, end) = self.names(start);
        match self.kind(end) {
            Some(Kind::Mark('(')) => self.calls(start).1,
            Some(Kind::Define | Kind::Mark('=')) if self.is_listed(start) => {
                self.scopes.assign(&names.join("."), Value::Other);
                end + 1
            }
            Some(Kind::Define) => self.assign(&names.join("."), end + 1, Assign::Define),
            Some(Kind::Mark('=')) => self.assign(&names.join("."), end + 1, Assign::Set),
            _ => {
                self.mention(start, &names, end);
                end
            }
        }
    }

    fn assign(&mut self, name: &str, from: usize, how: Assign) -> usize {
        let (value, next) = self.value(from);
        match how {
            Assign::Define => self.scopes.define(name, value),
            Assign::Set => self.scopes.assign(name, value),
        }
        next
    }

    /// What stands at `i`, if it is a group or a text by itself; else `Other`, and nothing is taken.
    fn value(&mut self, i: usize) -> (Value, usize) {
        if let Some(Kind::Name(_)) = self.kind(i) {
            let (names, end) = self.names(i);
            if self.is_mark(end, '(') && names.first().is_none_or(|name| name != "func") {
                return self.calls(i);
            }
            let named = self.scopes.find(&names.join("."));
            if named.is_group() && matches!(self.kind(end), Some(Kind::Mark(';' | ',' | ')'))) {
                return (named, end);
            }
        }
        let ends = |kind: &Kind| matches!(kind, Kind::Mark(';' | ',' | ')'));
        let end = (i..self.tokens.len()).find(|at| ends(&self.tokens[*at].kind));
        let end = end.unwrap_or(self.tokens.len());
        match self.text(i..end) {
            Some(text) => (Value::Text(text), end),
            None => (Value::Other, i),
        }
    }

    /// A call at `start`, and the calls that are chained to it.
    fn calls(&mut self, start: usize) -> (Value, usize) {
        let (names, mut open) = self.names(start);
        let (mut method, receiver) = match names.split_last() {
            Some((method, receiver)) => (method.clone(), receiver.join(".")),
            None => return (Value::Other, start + 1),
        };
        let mut value = self.scopes.find(&receiver);
        let mut shown = receiver;
        loop {
            let close = functions::closing(self.tokens, open);
            let call =
                Call { shown: &shown, method: &method, at: open, arguments: self.split(open + 1..close) };
            value = self.call(&value, &call);
            let next = (self.is_mark(close + 1, '.') && self.is_mark(close + 3, '('))
                .then(|| self.name(close + 2))
                .flatten();
            let Some(next) = next.map(str::to_owned) else { return (value, close + 1) };
            (shown, method, open) = (called(&shown, &method), next, close + 3);
        }
    }

    /// A call to a method of this value; gives the value that the call has.
    fn call(&mut self, receiver: &Value, call: &Call<'_>) -> Value {
        if call.shown == "gin" && matches!(call.method, "New" | "Default") {
            return Value::Group("/".to_owned());
        }
        match receiver {
            Value::Group(prefix) => self.call_on_group(prefix, call),
            Value::Unknown | Value::Unset => self.call_on_unknown(call),
            Value::Text(_) | Value::Other => self.call_on_other(call),
        }
    }

    fn call_on_group(&mut self, prefix: &str, call: &Call<'_>) -> Value {
        let same = Value::Group(prefix.to_owned());
        self.run_arguments(call);
        if call.method != "Group" {
            self.register(prefix, call);
            return same;
        }
        match call.arguments.first().and_then(|path| self.text(path.clone())) {
            Some(path) => Value::Group(join(prefix, &path)),
            None => {
                self.unread(call, "the path of the group is no constant");
                Value::Unknown
            }
        }
    }

    fn register(&mut self, prefix: &str, call: &Call<'_>) {
        let text = |n: usize| call.arguments.get(n).and_then(|range| self.text(range.clone()));
        let (methods, path): (Option<Vec<String>>, Option<String>) = match call.method {
            verb if VERBS.contains(&verb) => (Some(vec![verb.to_owned()]), text(0)),
            "Any" => (Some(vec!["ANY".to_owned()]), text(0)),
            "Handle" => (text(0).map(|method| vec![method]), text(1)),
            "Match" => (call.arguments.first().and_then(|list| self.texts(list.clone())), text(1)),
            "StaticFile" | "StaticFileFS" => (Some(["GET", "HEAD"].map(str::to_owned).into()), text(0)),
            "Static" | "StaticFS" => (
                Some(["GET", "HEAD"].map(str::to_owned).into()),
                text(0).map(|path| join(&path, "/*filepath")),
            ),
            "NoRoute" | "NoMethod" => return self.unread(call, "it takes whatever no route takes"),
            _ if text(0).is_some_and(|text| text.starts_with('/')) => {
                return self.unread(call, "this method of a group is not known");
            }
            _ => return,
        };
        match (methods, path) {
            (Some(methods), Some(path)) => {
                let place = self.tokens[call.at].place.clone();
                let path = join(prefix, &path);
                let route = |method| Registered { method, path: path.clone(), place: place.clone() };
                self.router.routes.extend(methods.into_iter().map(route));
            }
            (None, _) => self.unread(call, "the method is no constant"),
            (_, None) => self.unread(call, "the path is no constant"),
        }
    }

    fn call_on_unknown(&mut self, call: &Call<'_>) -> Value {
        if call.is_registration() {
            self.unread(call, "it is not known where the group is");
        }
        self.run_arguments(call);
        Value::Unknown
    }

    fn call_on_other(&mut self, call: &Call<'_>) -> Value {
        let first = call.arguments.first().and_then(|path| self.text(path.clone()));
        // `zap.Any("key", ..)` and its like are no routes.
        let is_key =
            !VERBS.contains(&call.method) && first.as_ref().is_some_and(|text| !text.starts_with('/'));
        let is_group = call.method == "Group" && first.as_ref().is_some_and(|text| text.starts_with('/'));
        if call.is_registration() && !is_key || is_group {
            self.unread(call, "it is not known to be called on a group");
        }
        if is_group {
            self.run_arguments(call);
            return Value::Unknown;
        }
        let Some(function) = self.functions.get(call.method) else {
            self.run_arguments(call);
            return Value::Other;
        };
        self.call_function(function, call);
        if function.returns_group { Value::Unknown } else { Value::Other }
    }

    fn call_function(&mut self, function: &Function, call: &Call<'_>) {
        let values: Vec<Value> = call.arguments.iter().map(|range| self.argument(range.clone())).collect();
        if function.parameters.has_no_group() && !values.iter().any(Value::is_group) {
            return;
        }
        if function.is_ambiguous {
            return self.unread(call, "several functions have this name");
        }
        if self.depth >= MAX_DEPTH {
            return self.unread(call, "functions call each other too deeply");
        }
        if values.len() != function.parameters.0.len() {
            return self.unread(call, "its arguments cannot be told apart");
        }
        self.enter(call.method, function, values);
    }

    /// An argument of a function that is entered with it.
    fn argument(&mut self, range: Range<usize>) -> Value {
        let (value, next) = self.value(range.start);
        if next < range.end {
            self.run(next..range.end);
            return Value::Other;
        }
        value
    }

    /// A group that is neither called nor assigned: who gets it may register routes.
    fn mention(&mut self, start: usize, names: &[String], end: usize) {
        let is_group = |names: &[String]| self.scopes.find(&names.join(".")).is_group();
        let Some((last, receiver)) = names.split_last() else { return };
        let why = if is_group(names) {
            "the group is passed on"
        } else if is_group(receiver) && (VERBS.contains(&last.as_str()) || last == "Handle") {
            "a method of the group is passed on"
        } else {
            return;
        };
        if self.is_returned(start) || self.is_compared(start, end) || self.is_handler(start) {
            return;
        }
        let place = self.tokens[start].place.clone();
        self.router.unread.push(Unread { what: names.join("."), why, place });
    }

    fn unread(&mut self, call: &Call<'_>, why: &'static str) {
        let place = self.tokens[call.at].place.clone();
        self.router.unread.push(Unread { what: called(call.shown, call.method), why, place });
    }

    fn run_arguments(&mut self, call: &Call<'_>) {
        for range in &call.arguments {
            self.run(range.clone());
        }
    }
}

/// How a variable gets its value.
#[derive(Clone, Copy)]
enum Assign {
    Define,
    Set,
}

/// A call: on what as shown to people, of which method, where, with which arguments.
struct Call<'a> {
    shown: &'a str,
    method: &'a str,
    at: usize,
    arguments: Vec<Range<usize>>,
}

impl Call<'_> {
    /// Whether the name alone makes it look like a registration.
    fn is_registration(&self) -> bool {
        let other = ["Any", "Match", "Handle", "HandleFunc", "Static", "StaticFile", "StaticFS", "NoRoute"];
        let is_pattern = self.method == "Match" && self.arguments.len() < 2;
        (VERBS.contains(&self.method) || other.contains(&self.method)) && !is_pattern
    }
}

/// A call as shown to people.
fn called(receiver: &str, method: &str) -> String {
    let dot = if receiver.is_empty() { "" } else { "." };
    format!("{receiver}{dot}{method}(...)")
}

/// Puts a path below a group. Source: gin `utils.go`, `joinPaths`.
fn join(prefix: &str, path: &str) -> String {
    if path.is_empty() {
        return prefix.to_owned();
    }
    let segments = prefix.split('/').chain(path.split('/')).filter(|segment| !segment.is_empty());
    let mut joined: String = segments.flat_map(|segment| ["/", segment]).collect();
    if joined.is_empty() || path.ends_with('/') {
        joined.push('/');
    }
    joined
}

#[cfg(test)]
mod tests;
