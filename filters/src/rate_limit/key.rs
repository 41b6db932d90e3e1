//! What a limit counts by: the parts of a request that make its key.
//!
//! A key holds the parts themselves, each with its length, never a hash of them: two callers cannot
//! share a limit by accident.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::{SeqAccessDeserializer, StrDeserializer};
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::context::{Context, Fact};
use crate::reject::Reject;

/// A part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The calling user.
    User,
    /// The caller's session; for a caller without one, the user on this kind of device.
    Session,
    /// The caller's device as the session names it, one user's apart from another's; for a caller
    /// without a session, the user on this kind of device.
    Device,
    /// The client's address; of IPv6 the first 64 bits, which one customer has.
    Address,
    /// The route.
    Route,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Session => "session",
            Self::Device => "device",
            Self::Address => "address",
            Self::Route => "route",
        }
    }

    fn is_of_user(self) -> bool {
        matches!(self, Self::User | Self::Session | Self::Device)
    }

    fn write(self, key: &mut Vec<u8>, cx: &Context) -> Result<(), Reject> {
        match self {
            Self::User => text(key, cx.require_user()?.id.as_str()),
            Self::Session | Self::Device => session(key, cx, self)?,
            Self::Address => address(key, cx.client),
            Self::Route => text(key, &cx.place.route),
        }
        Ok(())
    }
}

/// What a limit counts by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Per(Box<[Part]>);

impl Per {
    /// The facts that a key is made of.
    pub(super) fn reads(&self) -> &'static [Fact] {
        if self.0.iter().any(|part| part.is_of_user()) { &[Fact::User] } else { &[] }
    }

    /// The key of a request.
    ///
    /// # Errors
    /// No user is proven, though the key is made of one.
    pub(super) fn key(&self, cx: &Context) -> Result<Vec<u8>, Reject> {
        let mut key = Vec::with_capacity(64);
        for part in &self.0 {
            part.write(&mut key, cx)?;
        }
        Ok(key)
    }

    /// Sorts the parts, so that `[user, route]` and `[route, user]` are the same.
    fn new(mut parts: Vec<Part>) -> Result<Self, &'static str> {
        parts.sort_unstable();
        if parts.is_empty() {
            return Err("needs at least one of user, session, device, address and route");
        }
        if parts.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("names a part twice");
        }
        Ok(Self(parts.into()))
    }
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.0.iter().map(|part| part.as_str()).collect();
        f.write_str(&parts.join(" and "))
    }
}

impl JsonSchema for Per {
    fn schema_name() -> Cow<'static, str> {
        "Per".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let part = generator.subschema_for::<Part>();
        json_schema!({ "anyOf": [part, { "type": "array", "items": part, "minItems": 1 }] })
    }
}

impl<'de> Deserialize<'de> for Per {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PerVisitor;

        impl<'de> Visitor<'de> for PerVisitor {
            type Value = Per;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("user, session, device, address or route, or a list of them")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Per, E> {
                Ok(Per([Part::deserialize(StrDeserializer::new(word))?].into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Per, A::Error> {
                let parts = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Per::new(parts).map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(PerVisitor)
    }
}

/// Writes a text so that no other text, whatever follows it, looks the same.
fn text(key: &mut Vec<u8>, text: &str) {
    key.extend_from_slice(&(text.len() as u32).to_le_bytes());
    key.extend_from_slice(text.as_bytes());
}

fn session(key: &mut Vec<u8>, cx: &Context, part: Part) -> Result<(), Reject> {
    let user = cx.require_user()?;
    match &user.session {
        Some(session) if part == Part::Session => {
            key.push(1);
            key.extend_from_slice(session.id.as_bytes());
        }
        Some(session) => {
            key.push(2);
            text(key, user.id.as_str());
            text(key, &session.device);
        }
        None => {
            key.push(0);
            text(key, user.id.as_str());
            key.push(user.platform.number());
        }
    }
    Ok(())
}

fn address(key: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            key.push(4);
            key.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            key.push(6);
            key.extend_from_slice(&address.octets()[..8]);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use imgate_identity::time::UnixTime;

    use super::*;
    use crate::context::{OperationId, Place};
    use crate::testing::{get, run, signed_by};

    fn per(yaml: &str) -> Per {
        serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
    }

    fn key_from(client: &str) -> Vec<u8> {
        let operation_id = OperationId::generated(HeaderValue::from_static("op"));
        let cx = Context::new(UnixTime::now, client.parse().unwrap(), operation_id, Place::unknown());
        per("address").key(&cx).unwrap()
    }

    #[test]
    fn an_address_is_one_customer() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            // Four bytes of one family are not four bytes of the other.
            ("192.0.2.1", "c000:201::", false),
        ] {
            assert_eq!(key_from(one) == key_from(other), same, "{one} {other}");
        }
    }

    #[test]
    fn no_two_texts_run_together() {
        let key = |a: &str, b: &str| {
            let mut key = Vec::new();
            text(&mut key, a);
            text(&mut key, b);
            key
        };
        assert_ne!(key("ab", "c"), key("a", "bc"));
        assert_ne!(key("", "ab"), key("ab", ""));
    }

    #[tokio::test]
    async fn callers_differ_where_the_limit_looks() {
        let chain = "- verify_signature: {}";
        let one = run(chain, signed_by("u1", "/x", "{}")).await.cx;
        let other = run(chain, signed_by("no-token", "/x", "{}")).await.cx;
        for by in ["user", "session", "device", "[user, route]", "[route, session]", "[device, address]"] {
            assert_ne!(per(by).key(&one), per(by).key(&other), "{by}");
            assert_eq!(per(by).reads(), [Fact::User], "{by}");
        }
        // Their devices have the same name, and they call from the same place.
        for by in ["address", "route", "[address, route]"] {
            assert_eq!(per(by).key(&one), per(by).key(&other), "{by}");
            assert!(per(by).reads().is_empty(), "{by}");
        }
        let nobody = run("- operation_id: {}", get("/x")).await.cx;
        assert!(per("user").key(&nobody).is_err());
    }

    #[test]
    fn parts_are_named_once_in_any_order() {
        assert_eq!(per("[route, user]"), per("[user, route]"));
        assert_eq!(per("[user]"), per("user"));
        assert_eq!(per("[route, user]").to_string(), "user and route");
        for bad in ["[]", "[user, user]", "users", "{}", "''"] {
            assert!(serde_saphyr::from_str::<Per>(bad).is_err(), "{bad}");
        }
    }
}
