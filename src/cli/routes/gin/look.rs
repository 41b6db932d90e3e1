//! Looking at tokens: names, marks, texts, and what stands around them.

use std::ops::Range;

use super::scope::Value;
use super::{Walk, functions};
use crate::cli::routes::go::Kind;

impl<'a> Walk<'a> {
    pub(super) fn kind(&self, i: usize) -> Option<&'a Kind> {
        self.tokens.get(i).map(|token| &token.kind)
    }

    pub(super) fn is_mark(&self, i: usize, mark: char) -> bool {
        self.kind(i) == Some(&Kind::Mark(mark))
    }

    pub(super) fn is_behind_dot(&self, i: usize) -> bool {
        i.checked_sub(1).is_some_and(|before| self.is_mark(before, '.'))
    }

    pub(super) fn name(&self, i: usize) -> Option<&'a str> {
        self.kind(i).and_then(|kind| if let Kind::Name(name) = kind { Some(name.as_str()) } else { None })
    }

    /// The names of `a.b.c`, and where they end.
    pub(super) fn names(&self, start: usize) -> (Vec<String>, usize) {
        let (mut names, mut i) = (Vec::new(), start);
        while let Some(name) = self.name(i) {
            names.push(name.to_owned());
            i += 1;
            if !self.is_mark(i, '.') || self.name(i + 1).is_none() {
                break;
            }
            i += 1;
        }
        (names, i)
    }

    /// Arguments, parted by commas.
    pub(super) fn split(&self, range: Range<usize>) -> Vec<Range<usize>> {
        functions::parted(self.tokens, range)
    }

    /// A text, or several with `+` between them.
    pub(super) fn text(&self, range: Range<usize>) -> Option<String> {
        let (mut text, mut i) = (String::new(), range.start);
        loop {
            match self.kind(i).filter(|_| i < range.end)? {
                Kind::Text(part) => {
                    text.push_str(part);
                    i += 1;
                }
                Kind::Name(_) => {
                    let (names, end) = self.names(i);
                    let name = names.join(".");
                    match (self.scopes.find(&name), name.strip_prefix("http.Method")) {
                        (Value::Text(part), _) => text.push_str(&part),
                        (_, Some(method)) => text.push_str(&method.to_uppercase()),
                        _ => return None,
                    }
                    i = end;
                }
                _ => return None,
            }
            if i == range.end {
                return Some(text);
            }
            if !self.is_mark(i, '+') {
                return None;
            }
            i += 1;
        }
    }

    /// The texts of `[]string{..}`.
    pub(super) fn texts(&self, mut range: Range<usize>) -> Option<Vec<String>> {
        let open = range.find(|i| self.is_mark(*i, '{'))?;
        let close = functions::closing(self.tokens, open);
        self.split(open + 1..close).into_iter().map(|item| self.text(item)).collect()
    }

    /// Whether a name is one of several that are assigned together.
    pub(super) fn is_listed(&self, start: usize) -> bool {
        start.checked_sub(1).is_some_and(|before| self.is_mark(before, ','))
    }

    /// Whether the statement is a `return`, and not a call in one.
    pub(super) fn is_returned(&self, start: usize) -> bool {
        let ends = |i: &usize| matches!(self.kind(*i), Some(Kind::Mark(';' | '{' | '}' | '(' | ')')));
        let before = (0..start).rev().find(ends);
        before.is_some_and(|before| !self.is_mark(before, '(') && self.name(before + 1) == Some("return"))
    }

    pub(super) fn is_compared(&self, start: usize, end: usize) -> bool {
        let before = start.checked_sub(1).and_then(|before| self.kind(before));
        [before, self.kind(end)].contains(&Some(&Kind::Operator))
    }

    /// Whether it is what a `http.Server{Handler: r}` serves.
    pub(super) fn is_handler(&self, start: usize) -> bool {
        start.checked_sub(2).is_some_and(|i| self.name(i) == Some("Handler") && self.is_mark(i + 1, ':'))
    }
}
