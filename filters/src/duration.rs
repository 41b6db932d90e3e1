//! Durations in YAML, as `60s` or `100ms`.

use std::time::Duration;

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
