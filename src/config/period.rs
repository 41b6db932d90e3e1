//! Durations in YAML, as `100ms` or `8s`.

use std::borrow::Cow;
use std::time::Duration;

use imgate_filters::duration;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de};

/// A length of time, written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);

/// A [`Period`] above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeout(pub(super) Duration);

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        duration::schema(generator)
    }
}

impl JsonSchema for Timeout {
    fn schema_name() -> Cow<'static, str> {
        "Timeout".into()
    }

    /// A digit other than 0 is somewhere in a time above 0.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = duration::schema(generator);
        schema.insert("allOf".to_owned(), serde_json::json!([{ "pattern": "[1-9]" }]));
        schema
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        // The hint is the same whatever is wrong, and better than what the parser says.
        humantime::parse_duration(&text).map(Self).map_err(|_| {
            de::Error::custom(format!(
                "`{text}` is no duration\nhint: write it with its unit, as in 8s or 100ms"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Period(duration) = Period::deserialize(deserializer)?;
        if duration.is_zero() {
            return Err(de::Error::custom("must be above 0"));
        }
        Ok(Self(duration))
    }
}
