//! Durations in YAML, as `60s` or `100ms`.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize as _, Deserializer, de};

/// Reads a duration with its unit.
///
/// # Errors
/// The text is no number with a unit.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|_| {
        de::Error::custom(format!("`{text}` is no duration; write it with its unit, as in 60s or 100ms"))
    })
}

/// The JSON Schema of a duration: numbers, each with its unit.
///
/// Source: humantime 2.4, `duration.rs`.
pub fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": "^( *[0-9]+([.][0-9]+)? *(ns|nsec|nanos|us|\u{b5}s|usec|ms|msec|millis|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?|M|months?|y|yr|years?))+ *$"
    })
}
