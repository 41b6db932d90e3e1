//! What stands in a configuration file, entry by entry and without the values.
//!
//! Two outlines tell which entries differ. No value is kept, so none can be shown.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use serde_json::Value;

use super::source::Source;
use super::yaml;

/// Its entries by their places, as in `limits.body` or `chains.user`, each with a hash of what it says.
#[derive(Clone, Debug, Default)]
pub struct Outline(BTreeMap<Box<str>, u64>);

impl Outline {
    /// The outline of a file that was understood; an empty one if it was not.
    pub(super) fn of(source: &Arc<Source>) -> Self {
        let mut entries = BTreeMap::new();
        let Ok(Value::Object(sections)) = yaml::parse::<Value>(source) else { return Self::default() };
        for (name, section) in sections {
            match section {
                // Routes are told apart by what they match, not by where they stand.
                _ if name == "routes" => {}
                Value::Object(parts) => entries
                    .extend(parts.iter().map(|(part, value)| (format!("{name}.{part}").into(), hash(value)))),
                whole => drop(entries.insert(name.into(), hash(&whole))),
            }
        }
        Self(entries)
    }

    /// The entries by their places.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Box<str>, u64)> {
        self.0.iter().map(|(place, hash)| (place.clone(), *hash))
    }
}

fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
