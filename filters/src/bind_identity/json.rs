//! Finds one member of a JSON object, so that Go's reader could find no other.
//!
//! OpenIM decodes with Go's `encoding/json`: keys match whatever their case, escaped or not, the last of several
//! wins, and objects under one key are merged. So a key that any such reader could take for the one sought counts,
//! and only a text with one such key, spelled plainly, has an answer. `serde_json` does the reading.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Deserializer;

/// Why a member cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unclear {
    /// The text is not exactly one JSON object.
    NotAnObject,
    /// Several keys could be meant, or one that is not spelled as it should be.
    Ambiguous,
}

/// Finds the value of `name` in the object that is the whole of `text`.
///
/// # Errors
/// `text` is not exactly one JSON object, or a key could be taken for `name` and is not it, or comes twice.
pub(super) fn member<'a>(text: &'a str, name: &str) -> Result<Option<&'a str>, Unclear> {
    let mut reader = Deserializer::from_str(text);
    let keys = reader.deserialize_map(Keys(name)).map_err(|_| Unclear::NotAnObject)?;
    reader.end().map_err(|_| Unclear::NotAnObject)?;
    match keys {
        Found::No => Ok(None),
        Found::Doubtful => Err(Unclear::Ambiguous),
        Found::Once(key) => value(text, key).map(Some).ok_or(Unclear::NotAnObject),
    }
}

/// Where `part` begins in `whole`, of which it was cut.
pub(super) fn offset(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// The value that follows `key` in `text`, in which it was read.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let behind_key = text.get(offset(text, key) + key.len()..)?;
    let rest = behind_key.strip_prefix('"')?.trim_ascii_start().strip_prefix(':')?.trim_ascii_start();
    let mut values = Deserializer::from_str(rest).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    rest.get(..values.byte_offset())
}

/// Whether a reader that ignores case could take `key` for `name`, which is ASCII.
fn folds_to(key: &str, name: &str) -> bool {
    key.chars().map(fold).eq(name.chars().map(fold))
}

/// Folds what is, or may become, an ASCII letter.
///
/// Source: Unicode `CaseFolding.txt`, as in Go's `unicode.SimpleFold`: U+017F is an `s`, U+212A a `k`. Readers that
/// go by upper or lower case instead take U+0130 and U+0131 for an `i`.
fn fold(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        '\u{130}' | '\u{131}' => 'i',
        other => other.to_ascii_lowercase(),
    }
}

/// The keys of an object that could be meant.
#[derive(Clone, Copy)]
enum Found<'a> {
    No,
    Once(&'a str),
    Doubtful,
}

impl<'a> Found<'a> {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, found) | (found, Self::No) => found,
            _ => Self::Doubtful,
        }
    }
}

/// Reads an object for the keys that could be the one named.
struct Keys<'n>(&'n str);

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
        let mut all = Found::No;
        while let Some(found) = map.next_key_seed(Key(self.0))? {
            map.next_value::<IgnoredAny>()?;
            all = all.and(found);
        }
        Ok(all)
    }
}

/// Reads one key.
struct Key<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Found<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Found<'de>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Found<'de>, E> {
        if key == self.0 { Ok(Found::Once(key)) } else { self.visit_str(key) }
    }

    /// A key that holds an escape is a copy. No client has a reason to escape one that matters.
    fn visit_str<E: Error>(self, key: &str) -> Result<Found<'de>, E> {
        Ok(if folds_to(key, self.0) { Found::Doubtful } else { Found::No })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_with_its_exact_bytes() {
        let cases = [
            (r#"{"userID":"a"}"#, r#""a""#),
            (" {\n\"userID\"\t: \"a\" } ", r#""a""#),
            (r#"{"x":{"userID":1},"userID":{"b":[1,2]},"y":null}"#, r#"{"b":[1,2]}"#),
            (r#"{"userID":-1.5e3}"#, "-1.5e3"),
            (r#"{"x":"\"userID\":","userID":"\u0061"}"#, r#""\u0061""#),
        ];
        for (text, expected) in cases {
            let found = member(text, "userID").unwrap().unwrap();
            assert_eq!(found, expected, "{text}");
            assert_eq!(&text[offset(text, found)..][..found.len()], expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for text in ["{}", r#"{"userIDs":"a"}"#, r#"{"x":{"userID":"a"}}"#, r#"{"user_ID":"a","userD":1}"#] {
            assert_eq!(member(text, "userID"), Ok(None), "{text}");
        }
    }

    #[test]
    fn any_key_that_could_be_meant_counts() {
        let doubtful = [
            r#"{"USERID":"a"}"#,
            r#"{"userid":"a"}"#,
            r#"{"u\u0073erID":"a"}"#,
            r#"{"\u0075serID":"a"}"#,
            r#"{"u\u017ferID":"a"}"#,
            "{\"u\u{17f}erID\":\"a\"}",
            "{\"user\u{130}D\":\"a\"}",
            r#"{"userID":"a","userID":"a"}"#,
            r#"{"userID":"a","UserID":"b"}"#,
            r#"{"UserID":"b","userID":"a"}"#,
        ];
        for text in doubtful {
            assert_eq!(member(text, "userID"), Err(Unclear::Ambiguous), "{text}");
        }
        assert_eq!(member("{\"to\u{212a}en\":1}", "token"), Err(Unclear::Ambiguous));
    }

    #[test]
    fn only_one_whole_object_is_read() {
        let broken = [
            "",
            " ",
            "null",
            "[]",
            r#"["userID","a"]"#,
            r#""userID""#,
            r#"{"userID":"a"}{"userID":"b"}"#,
            r#"{"userID":"a"} x"#,
            r#"{"userID":"a""#,
            r#"{"userID":"a",}"#,
            r#"{userID:"a"}"#,
            "{'userID':'a'}",
            "\u{feff}{\"userID\":\"a\"}",
            "{\"userID\":\"a\"}\0",
            "{\"userID\":\"a\"}\u{a0}",
            r#"{"userID":"a"}//"#,
            r#"{"\ud800":1,"userID":"a"}"#,
        ];
        for text in broken {
            assert_eq!(member(text, "userID"), Err(Unclear::NotAnObject), "{text:?}");
        }
    }
}
