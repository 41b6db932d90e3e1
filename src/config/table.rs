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

use std::borrow::Cow;
use std::fmt;

use imgate_filters::rules::{Bind, Platforms, Roles};
use imgate_filters::size::Size;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::meaning::Line;
use super::period::Timeout;
use super::spanned::Spanned;
use crate::route::Methods;

/// A table as it was written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    /// What GET may fetch.
    get: Vec<Spanned<Entry>>,
    /// What HEAD may ask for.
    head: Vec<Spanned<Entry>>,
    /// What POST may call: all of OpenIM's API.
    post: Vec<Spanned<Entry>>,
    /// Where PUT may write.
    put: Vec<Spanned<Entry>>,
    /// What PATCH may change.
    patch: Vec<Spanned<Entry>>,
    /// What DELETE may remove.
    delete: Vec<Spanned<Entry>>,
    /// Paths that are left out on purpose, each with the reason. They route nothing.
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
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// How long a request may take before its answer begins. Default: the route's.
    pub(super) timeout: Option<Spanned<Timeout>>,
    /// The largest body. Default: the route's.
    pub(super) max_body: Option<Spanned<Size>>,
    /// Which fields of the body are the caller.
    pub(super) bind: Option<Bind>,
    /// Which roles an admin needs.
    pub(super) roles: Option<Spanned<Roles>>,
    /// The kinds of device that may call. Default: all.
    pub(super) platforms: Option<Spanned<Platforms>>,
    /// The release line of OpenIM that alone has it. Default: both.
    pub(super) line: Option<Line>,
}

/// A path that is left out, and why.
pub(super) struct Closed {
    pub(super) path: String,
    pub(super) why: String,
    pub(super) line: Option<Line>,
}

/// A path, or a map of one path.
impl JsonSchema for Entry {
    fn schema_name() -> Cow<'static, str> {
        "Entry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let options = generator.subschema_for::<Options>();
        json_schema!({ "anyOf": [{ "type": "string" }, one_path_schema(&options)] })
    }
}

/// The schema of `path: value`.
fn one_path_schema(value: &Schema) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": value,
        "minProperties": 1,
        "maxProperties": 1
    })
}

impl JsonSchema for Closed {
    fn schema_name() -> Cow<'static, str> {
        "Closed".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = json_schema!({ "type": "string", "pattern": "[^ ]" });
        let long = generator.subschema_for::<LongReason>();
        one_path_schema(&json_schema!({ "anyOf": [text, long] }))
    }
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
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongReason {
    /// Why the path is left out.
    why: String,
    /// The release line of OpenIM that alone has it. Default: both.
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
