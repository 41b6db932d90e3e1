//! From YAML text to what was written, with every error turned into one of ours.
//!
//! Aliases, nesting and size are bounded; merge keys and tags are refused: a configuration says each
//! thing where it stands.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Location, Options, UserMessageFormatter};

use super::error::Fault;
use super::place;
use super::problem::{Kind, Problem};
use super::source::{MAX_SIZE, Mark, Source};
use super::suggest::Suggestion;

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(MAX_SIZE),
            max_depth: 32,
            max_documents: 1,
            max_aliases: 100,
            max_anchors: 100,
            max_events: 400_000,
            max_nodes: 200_000,
            max_total_scalar_bytes: MAX_SIZE,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// Reads the text of `source`.
///
/// # Errors
/// It is too large, no YAML, or not of the shape of a `T`; the first such fault.
pub(super) fn parse<T: DeserializeOwned>(source: &Arc<Source>) -> Result<T, Fault> {
    if source.text.len() > MAX_SIZE {
        return Err(Fault::new(Mark::whole(source), "", Problem::TooLarge));
    }
    serde_saphyr::from_str_with_options(&source.text, options()).map_err(|error| fault(source, &error))
}

fn fault(source: &Arc<Source>, error: &Error) -> Fault {
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let place = place::at(&source.text, location);
    Fault::new(Mark::at(source, location), place, problem(error, location))
}

fn problem(error: &Error, location: Location) -> Problem {
    match error {
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => problem(error, location),
        Error::SerdeUnknownField { field, expected, .. } => {
            Problem::UnknownKey(field.as_str().into(), Suggestion::new(field, expected.iter().copied()))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            Problem::UnknownWord(variant.as_str().into(), Suggestion::new(variant, expected.iter().copied()))
        }
        Error::SerdeMissingField { field, .. } => Problem::MissingKey(field),
        Error::DuplicateMappingKey { key, .. } => Problem::DuplicateKey(key.as_deref().unwrap_or("?").into()),
        Error::Unexpected { expected: "string scalar", .. } => Problem::NotA(Kind::Text),
        Error::Unexpected { expected: "mapping start", .. } => Problem::NotA(Kind::Map),
        Error::Unexpected { expected: "sequence start", .. } => Problem::NotA(Kind::List),
        Error::InvalidScalar { ty: "u8" | "u16" | "u32" | "u64" | "usize", .. } => {
            Problem::NotA(Kind::Number)
        }
        Error::InvalidBooleanStrict { .. } => Problem::NotA(Kind::Bool),
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => Problem::SeveralKeys,
        Error::MergeKeyNotAllowed { .. } => Problem::MergeKey,
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => Problem::Budget(text(error, location)),
        // Rendered, it would have its line breaks escaped.
        Error::Message { msg, .. } => Problem::Yaml(msg.as_str().into()),
        _ => Problem::Yaml(text(error, location)),
    }
}

/// What the reader says, without the place, which is said before it.
fn text(error: &Error, location: Location) -> Box<str> {
    let text = error.render_with_formatter(&UserMessageFormatter);
    let place = format!(" at line {}, column {}", location.line(), location.column());
    text.strip_suffix(&*place).unwrap_or(&text).into()
}
