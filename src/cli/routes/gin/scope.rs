//! What names mean at some point of a program: groups with their path, texts, anything else.

use std::collections::HashMap;

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A group of routes, or the router itself, with the path it is at.
    Group(String),
    /// A group at a path that is not known.
    Unknown,
    /// A variable for a group that has none yet.
    Unset,
    /// A text.
    Text(String),
    /// Something else.
    Other,
}

impl Value {
    /// Whether routes may be registered with it.
    pub(super) fn is_group(&self) -> bool {
        matches!(self, Self::Group(_) | Self::Unknown | Self::Unset)
    }
}

/// Blocks inside blocks; the outermost is the package.
#[derive(Debug)]
pub(super) struct Scopes(Vec<HashMap<String, Value>>);

impl Scopes {
    pub(super) fn new() -> Self {
        Self(vec![HashMap::new()])
    }

    pub(super) fn open(&mut self) {
        self.0.push(HashMap::new());
    }

    /// Ends a block; the package does not end.
    pub(super) fn close(&mut self) {
        if self.0.len() > 1 {
            self.0.pop();
        }
    }

    /// Begins the body of a function, which sees the package and not its caller; gives the caller's blocks.
    pub(super) fn enter(&mut self) -> Vec<HashMap<String, Value>> {
        let outer = self.0.split_off(1);
        self.open();
        outer
    }

    /// Ends the body of a function.
    pub(super) fn leave(&mut self, outer: Vec<HashMap<String, Value>>) {
        self.0.truncate(1);
        self.0.extend(outer);
    }

    pub(super) fn find(&self, name: &str) -> Value {
        self.0.iter().rev().find_map(|scope| scope.get(name)).cloned().unwrap_or(Value::Other)
    }

    /// Defines a name in the innermost block. Go defines a name once in a block; where it seems to do so
    /// twice, one of them is in the head of an `if` or in a `case`, and which one holds is not known.
    pub(super) fn define(&mut self, name: &str, value: Value) {
        let Some(scope) = self.0.last_mut() else { return };
        let clashes = |old: &Value| *old != value && (old.is_group() || value.is_group());
        let value = if scope.get(name).is_some_and(clashes) { Value::Unknown } else { value };
        scope.insert(name.to_owned(), value);
    }

    /// Gives a name that exists another value. A group that is here at one path and there at another is at
    /// none that is known.
    pub(super) fn assign(&mut self, name: &str, value: Value) {
        let known = self.0.iter_mut().rev().find_map(|scope| scope.get_mut(name));
        match known {
            Some(known @ Value::Unset) => *known = value,
            Some(known) if *known == value => {}
            Some(known) if known.is_group() || value.is_group() => *known = Value::Unknown,
            Some(known) => *known = Value::Other,
            // A field: other functions may see it too.
            None if name.contains('.') => drop(self.0[0].insert(name.to_owned(), value)),
            None => self.define(name, value),
        }
    }
}
