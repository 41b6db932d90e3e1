//! Route tables: exact paths by method, in a file of their own. What is not listed does not exist.
//!
//! ```yaml
//! post:
//!   - /friend/get_friend_list: { bind: userID }
//!   - /third/logs/upload: { max_body: 8MiB }
//! ```

use std::fmt;

use imgate_filters::rules::{Bind, Platforms, Roles};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;

use super::period::Timeout;
use super::size::Size;
use crate::route::Methods;

/// A table as it was written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    get: Vec<Spanned<Entry>>,
    head: Vec<Spanned<Entry>>,
    post: Vec<Spanned<Entry>>,
    put: Vec<Spanned<Entry>>,
    patch: Vec<Spanned<Entry>>,
    delete: Vec<Spanned<Entry>>,
}

impl Table {
    /// The lists, each with its key and its method.
    pub(super) fn lists(self) -> [(&'static str, Methods, Vec<Spanned<Entry>>); 6] {
        let of = |method: http::Method| Methods::of(&method);
        [
            ("get", of(http::Method::GET), self.get),
            ("head", of(http::Method::HEAD), self.head),
            ("post", of(http::Method::POST), self.post),
            ("put", of(http::Method::PUT), self.put),
            ("patch", of(http::Method::PATCH), self.patch),
            ("delete", of(http::Method::DELETE), self.delete),
        ]
    }
}

/// A path, and what is special about it.
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) options: Options,
}

/// What a path may have that the route of its table has not.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    pub(super) timeout: Option<Spanned<Timeout>>,
    pub(super) max_body: Option<Spanned<Size>>,
    pub(super) bind: Option<Bind>,
    pub(super) roles: Option<Roles>,
    pub(super) platforms: Option<Platforms>,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path, or a path and its options")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<Entry, E> {
        Ok(Entry { path: path.to_owned(), options: Options::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let first = map.next_entry::<String, Options>()?;
        let Some((path, options)) = first else { return Err(de::Error::custom("needs a path")) };
        match map.next_key::<String>()? {
            None => Ok(Entry { path, options }),
            Some(_) => Err(de::Error::custom("one path per entry\nhint: begin each path with `- `")),
        }
    }
}
