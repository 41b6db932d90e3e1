//! A body that is let through names the caller, read the way Go reads JSON.

#![no_main]

use std::fmt;

use arbitrary::Arbitrary;
use imgate_filters::bind_identity::{Bound, bind};
use imgate_filters::rules::{Bind, FieldPath};
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    rule: u8,
    body: &'a [u8],
}

const CALLER: &str = "u1";

fuzz_target!(|input: Input<'_>| {
    let path = |text: &str| vec![FieldPath::parse(text).expect("a path")];
    let rules = match input.rule % 7 {
        0 => Bind { check: path("userID"), ..Bind::default() },
        1 => Bind { check: path("userInfo.userID"), ..Bind::default() },
        2 => Bind { optional: path("userID"), ..Bind::default() },
        3 => Bind { each: path("userIDs"), ..Bind::default() },
        4 => Bind { any: [path("userID1"), path("userID2")].concat(), ..Bind::default() },
        5 => Bind { force: path("account"), ..Bind::default() },
        _ => Bind { force: [path("a.b"), path("userIDs")].concat(), ..Bind::default() },
    };
    let body = match bind(input.body, &rules, CALLER) {
        Err(_) => return,
        Ok(Bound::AsItIs) => input.body.to_vec(),
        Ok(Bound::Rewritten(text)) => {
            assert_eq!(bind(text.as_bytes(), &rules, CALLER), Ok(Bound::AsItIs), "{text}");
            text.into_bytes()
        }
    };
    let shown = String::from_utf8_lossy(&body);
    // Nesting deeper than the reader here goes is nothing that Go would read an identity in.
    let Ok(read) = serde_json::from_slice::<Value>(&body) else { return };
    let at = |path: &FieldPath| path.names().iter().try_fold(&read, |value, name| value.member(name));
    for path in rules.check.iter().chain(&rules.force) {
        assert_eq!(at(path), Some(&Value::Text(CALLER.to_owned())), "{shown}");
    }
    for path in &rules.optional {
        let empty = [None, Some(&Value::Other), Some(&Value::Text(String::new()))];
        let own = at(path) == Some(&Value::Text(CALLER.to_owned()));
        assert!(own || empty.contains(&at(path)), "{shown}");
    }
    for path in &rules.each {
        let Some(Value::List(users)) = at(path) else { panic!("{shown}") };
        assert!(
            !users.is_empty() && users.iter().all(|user| *user == Value::Text(CALLER.to_owned())),
            "{shown}"
        );
    }
    if !rules.any.is_empty() {
        let own = |path| at(path) == Some(&Value::Text(CALLER.to_owned()));
        assert!(rules.any.iter().any(own), "{shown}");
    }
});

/// JSON as far as identities go: members in order, duplicates kept.
#[derive(Debug, PartialEq)]
enum Value {
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
    /// A number, true, false or null.
    Other,
}

impl Value {
    /// The member that Go's decoder would take: the last whose key is alike but for case.
    fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().rev().find(|(key, _)| fold(key) == fold(name)).map(|(_, value)| value)
    }
}

/// Source: Go `encoding/json` `foldName`, which takes `ſ` for s and the Kelvin sign for k.
fn fold(name: &str) -> String {
    let plain = |c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(plain).collect()
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Value::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Value::Object(members))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}
