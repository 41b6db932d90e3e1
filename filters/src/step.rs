//! One entry of a chain as YAML has it: a filter, and whether it runs in shadow mode.
//!
//! A name that is not in [`FilterConfig`] is looked up in the [`Registry`], where an embedder has put
//! filters of its own; nobody else can reach it.
//!
//! ```text
//! - ip_deny: { addresses: [203.0.113.0/24] }
//!   shadow: true
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};

use crate::{BuildError, Deps, Filter, FilterConfig, Warning};

/// What stands beside a filter if it runs in shadow mode.
const SHADOW: &str = "shadow";

/// One entry of a chain.
#[derive(Clone, Debug)]
pub struct Step {
    /// The filter.
    pub filter: Configured,
    /// Whether it only counts and logs what it would have refused.
    pub shadow: bool,
}

/// A filter's name and its configuration.
#[derive(Clone)]
pub enum Configured {
    /// One of ours.
    Ours(FilterConfig),
    /// One of the embedder's.
    Custom {
        /// Its name.
        name: Box<str>,
        /// What stands in the YAML behind the name.
        config: Value,
    },
}

impl Configured {
    /// The filter's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Ours(config) => config.name(),
            Self::Custom { name, .. } => name,
        }
    }

    /// What is doubtful about it, though it works.
    pub fn warning(&self) -> Option<Warning> {
        match self {
            Self::Ours(FilterConfig::VerifySignature(config)) => config.warning(),
            _ => None,
        }
    }

    /// Makes the filter, and finds its name for logs and metrics.
    ///
    /// # Errors
    /// There is no filter of this name, or its configuration makes no sense.
    pub fn build(&self, deps: &Deps) -> Result<(&'static str, Box<dyn Filter>), BuildError> {
        match self {
            Self::Ours(config) => Ok((config.name(), config.build(deps)?)),
            Self::Custom { name, config } => deps.custom.build(name, config, deps),
        }
    }
}

/// The name alone where the configuration is the embedder's: there may be a secret in it.
impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(config) => config.fmt(f),
            Self::Custom { name, .. } => f.write_str(name),
        }
    }
}

type Make = dyn Fn(&Value, &Deps) -> Result<Box<dyn Filter>, BuildError> + Send + Sync;

/// An embedder's own filters, by the name they have in YAML.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Arc<Make>>);

/// A name under which no filter can be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Another filter has it.
    #[error("`{0}` is the name of another filter")]
    Taken(&'static str),
    /// It is none that could stand in YAML, logs and metrics.
    #[error("`{0}` is no name of a filter: small letters, digits and `_`, a letter first, and not `shadow`")]
    Malformed(&'static str),
}

impl Registry {
    /// Adds a filter. `make` gets what stands in the YAML behind the name, as a `C`; give `C`
    /// `#[serde(deny_unknown_fields)]`, so that a slip of the pen is refused.
    ///
    /// # Errors
    /// The name is one of ours, was registered before, or is no name.
    pub fn insert<C, F, E>(
        &mut self,
        name: &'static str,
        make: impl Fn(C, &Deps) -> Result<F, E> + Send + Sync + 'static,
    ) -> Result<(), BadName>
    where
        C: DeserializeOwned,
        F: Filter + 'static,
        E: fmt::Display,
    {
        if !is_name(name) {
            return Err(BadName::Malformed(name));
        }
        if is_ours(name) || self.0.contains_key(name) {
            return Err(BadName::Taken(name));
        }
        let custom = |why: &dyn fmt::Display| BuildError::Custom(why.to_string().into());
        let build = move |config: &Value, deps: &Deps| -> Result<Box<dyn Filter>, BuildError> {
            let config = C::deserialize(config).map_err(|error| custom(&error))?;
            Ok(Box::new(make(config, deps).map_err(|error| custom(&error))?))
        };
        self.0.insert(name, Arc::new(build));
        Ok(())
    }

    /// The names, ours and the embedder's, in the order of the alphabet.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        let mut names: Vec<&str> =
            FilterConfig::NAMES.iter().copied().chain(self.0.keys().copied()).collect();
        names.sort_unstable();
        names.into_iter()
    }

    fn build(
        &self,
        name: &str,
        config: &Value,
        deps: &Deps,
    ) -> Result<(&'static str, Box<dyn Filter>), BuildError> {
        let (name, make) = self.0.get_key_value(name).ok_or_else(|| BuildError::Unknown(name.into()))?;
        Ok((name, make(config, deps)?))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether a filter can have this name: `shadow` stands beside filters.
fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    plain && name.starts_with(|c: char| c.is_ascii_lowercase()) && name != SHADOW
}

fn is_ours(name: &str) -> bool {
    FilterConfig::NAMES.contains(&name)
}

/// One key per filter rather than one alternative: editors then propose the names, and say what is
/// wrong with a filter's options instead of what is wrong with each alternative.
impl JsonSchema for Step {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let filters = filter_schemas(generator);
        let one: Vec<Value> = filters.keys().map(|name| json!({ "required": [name] })).collect();
        let mut properties = filters;
        properties.insert(
            SHADOW.to_owned(),
            json!({
                "type": "boolean",
                "description": "Lets everybody through, and counts and logs whom it would refuse."
            }),
        );
        json_schema!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "oneOf": one
        })
    }
}

/// The schema of each of our filters' configuration, with the sentence of the catalogue.
fn filter_schemas(generator: &mut SchemaGenerator) -> serde_json::Map<String, Value> {
    let catalogue = FilterConfig::json_schema(generator).to_value();
    let variants = catalogue["oneOf"].as_array().into_iter().flatten();
    let filter = |variant: &Value| {
        let (name, schema) = variant["properties"].as_object()?.iter().next()?;
        let mut schema = schema.clone();
        schema["description"] = variant["description"].clone();
        Some((name.clone(), schema))
    };
    variants.filter_map(filter).collect()
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StepVisitor)
    }
}

struct StepVisitor;

impl<'de> Visitor<'de> for StepVisitor {
    type Value = Step;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a filter, as in `operation_id: {}`")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Step, E> {
        let hint = if is_ours(name) { name } else { "operation_id" };
        Err(E::custom(format_args!("a filter is a name and its options\nhint: write `{hint}: {{}}`")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Step, A::Error> {
        let (mut filter, mut shadow) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                SHADOW if shadow.is_none() => shadow = Some(map.next_value::<bool>()?),
                SHADOW => return Err(de::Error::duplicate_field(SHADOW)),
                _ if filter.is_some() => {
                    return Err(de::Error::custom("more than one filter\nhint: begin each filter with `- `"));
                }
                name if is_ours(name) => {
                    let keyed = Keyed { key: Some(key), map: &mut map };
                    filter =
                        Some(Configured::Ours(FilterConfig::deserialize(MapAccessDeserializer::new(keyed))?));
                }
                _ => filter = Some(Configured::Custom { config: map.next_value()?, name: key.into() }),
            }
        }
        let filter = filter.ok_or_else(|| de::Error::custom("names no filter"))?;
        Ok(Step { filter, shadow: shadow.unwrap_or(false) })
    }
}

/// One entry of a map whose key was read already.
struct Keyed<'a, A> {
    key: Option<String>,
    map: &'a mut A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Keyed<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Some(key) = self.key.take() else { return Ok(None) };
        seed.deserialize(de::value::StringDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify_socket;

    #[test]
    fn a_filter_has_a_name_of_its_own() {
        let mut registry = Registry::default();
        let mut insert = |name| {
            let make = |config: verify_socket::Config, deps: &Deps| config.build(deps);
            registry.insert(name, make).err()
        };
        assert_eq!(insert("deny_teapots"), None);
        assert_eq!(insert("deny_teapots"), Some(BadName::Taken("deny_teapots")));
        assert_eq!(insert("rate_limit"), Some(BadName::Taken("rate_limit")));
        for name in ["", "shadow", "Deny", "deny-teapots", "deny teapots", "1st", "_x", "\"}"] {
            assert_eq!(insert(name), Some(BadName::Malformed(name)), "{name}");
        }
    }
}
