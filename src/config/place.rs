//! From a line and column to the place in the configuration, as in `routes[2].upstream`.
//!
//! The YAML reader says where in the file it stopped; people think in keys. The events of the file are
//! run through once more, up to that point.

use std::fmt::Write as _;

use serde_saphyr::Location;
use serde_saphyr::granit_parser::{Event, Parser};

/// A map or list that is open at some point of the file.
enum Open {
    /// A map, and the key whose value comes next.
    Map(Option<String>),
    /// A list, and the number of the next entry.
    List(usize),
}

/// Names the place at `location`; empty if it is the whole file, or unknown.
pub(super) fn at(text: &str, location: Location) -> String {
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { return String::new() };
        let (line, column) = (span.start.line() as u64, span.start.col() as u64 + 1);
        if event.is_node() && (line, column) == (location.line(), location.column()) {
            return path(&open);
        }
        if line > location.line() {
            return String::new();
        }
        step(&mut open, &event);
    }
    String::new()
}

fn step(open: &mut Vec<Open>, event: &Event<'_>) {
    match event {
        Event::Scalar(text, ..) => match open.last_mut() {
            Some(Open::Map(key @ None)) => *key = Some(text.to_string()),
            _ => done(open),
        },
        Event::Alias(_) => done(open),
        Event::MappingStart(..) => open.push(Open::Map(None)),
        Event::SequenceStart(..) => open.push(Open::List(0)),
        Event::MappingEnd | Event::SequenceEnd => {
            open.pop();
            done(open);
        }
        _ => {}
    }
}

/// A value came to its end.
fn done(open: &mut [Open]) {
    match open.last_mut() {
        Some(Open::Map(key)) => *key = None,
        Some(Open::List(next)) => *next += 1,
        None => {}
    }
}

fn path(open: &[Open]) -> String {
    let mut path = String::new();
    for level in open {
        match level {
            Open::Map(Some(key)) if path.is_empty() => path.push_str(key),
            Open::Map(Some(key)) => {
                let _ = write!(path, ".{key}");
            }
            Open::Map(None) => {}
            Open::List(next) => {
                let _ = write!(path, "[{next}]");
            }
        }
    }
    path
}
