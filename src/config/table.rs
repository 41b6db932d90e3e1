//! Route tables: exact paths by method, in a file of their own. What is not listed does not exist.
//!
//! ```yaml
//! post:
//!   - /friend/get_friend_list: { bind: userID }
//!   - /third/logs/upload: { max_body: 8MiB }
//!   - /user/get_user_client_config: { bind: userID, line: development }
//! closed:
//!   - /msg/search_msg: any user reads any message
//! ```
//!
//! `closed` routes nothing. It names paths that are left out on purpose, so that `imgate routes` can tell
//! them from paths that nobody has looked at.

use std::fmt;

use imgate_filters::rules::{Bind, Platforms, Roles};
use imgate_filters::size::Size;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;

use super::meaning::Line;
use super::period::Timeout;
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
    pub(super) closed: Vec<Spanned<Closed>>,
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
    pub(super) roles: Option<Spanned<Roles>>,
    pub(super) platforms: Option<Spanned<Platforms>>,
    pub(super) line: Option<Line>,
}

/// A path that is left out, and why.
pub(super) struct Closed {
    pub(super) path: String,
    pub(super) why: String,
    pub(super) line: Option<Line>,
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

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        let (path, options) = one_path(map)?;
        Ok(Entry { path, options })
    }
}

/// Reads `path: value`.
fn one_path<'de, T: Deserialize<'de>, A: MapAccess<'de>>(mut map: A) -> Result<(String, T), A::Error> {
    let Some(first) = map.next_entry()? else { return Err(de::Error::custom("needs a path")) };
    match map.next_key::<String>()? {
        None => Ok(first),
        Some(_) => Err(de::Error::custom("one path per entry\nhint: begin each path with `- `")),
    }
}

impl<'de> Deserialize<'de> for Closed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ClosedVisitor)
    }
}

const NO_REASON: &str =
    "a path is left out for a reason\nhint: write it behind the path, as in `- /x: needs an administrator`";

struct ClosedVisitor;

impl<'de> Visitor<'de> for ClosedVisitor {
    type Value = Closed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path and the reason why it is left out")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Closed, E> {
        Err(E::custom(NO_REASON))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Closed, A::Error> {
        let (path, Reason { why, line }) = one_path(map)?;
        Ok(Closed { path, why, line })
    }
}

/// Why a path is left out: a text, or `{ why: text, line: .. }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongReason {
    why: String,
    line: Option<Line>,
}

struct Reason {
    why: String,
    line: Option<Line>,
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReasonVisitor)
    }
}

struct ReasonVisitor;

impl<'de> Visitor<'de> for ReasonVisitor {
    type Value = Reason;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reason, or a map with `why` and `line`")
    }

    fn visit_str<E: de::Error>(self, why: &str) -> Result<Reason, E> {
        reason(why.to_owned(), None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Reason, A::Error> {
        let LongReason { why, line } = LongReason::deserialize(de::value::MapAccessDeserializer::new(map))?;
        reason(why, line)
    }
}

fn reason<E: de::Error>(why: String, line: Option<Line>) -> Result<Reason, E> {
    if why.trim().is_empty() { Err(E::custom(NO_REASON)) } else { Ok(Reason { why, line }) }
}
