//! JSON as Go's `encoding/json` reads it into a struct, which is not as most parsers read it.
//!
//! Keys match without regard to case, the last duplicate wins, objects under one key are merged, unknown keys are
//! ignored, and whatever follows the top-level value is never looked at. A body check that disagrees with these
//! rules can be bypassed, so they are kept to the letter.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A request body whose keys are folded as Go folds them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Body(Value);

/// A field that holds another type than the struct it is decoded into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongType;

impl Body {
    /// Reads the first value and leaves the rest alone; the error is the text Go gives.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = mend_surrogates(&String::from_utf8_lossy(bytes));
        let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Folded>();
        match values.next() {
            None => Err("EOF"),
            Some(Ok(Folded(value @ (Value::Object(_) | Value::Null)))) => Ok(Self(value)),
            Some(Ok(_)) => Err("json: cannot unmarshal value into Go struct"),
            Some(Err(error)) if error.is_eof() => Err("unexpected EOF"),
            Some(Err(_)) => Err("invalid character in request body"),
        }
    }

    /// Finds a value by a dotted path, such as `userInfo.userID`.
    pub(crate) fn find(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.0, |value, key| value.get(fold(key)))
    }

    /// Returns the text at a path, empty when it is absent or null.
    pub(crate) fn text(&self, path: &str) -> Result<&str, WrongType> {
        self.find(path).map_or(Ok(""), text)
    }

    /// Returns the texts of the list at a path, none when it is absent or null.
    pub(crate) fn texts(&self, path: &str) -> Result<Vec<&str>, WrongType> {
        match self.find(path) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(text).collect(),
            Some(_) => Err(WrongType),
        }
    }

    /// Returns the objects of the list at a path.
    pub(crate) fn objects(&self, path: &str) -> Result<Vec<Self>, WrongType> {
        match self.find(path) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items.iter().cloned().map(Self).collect()),
            Some(_) => Err(WrongType),
        }
    }

    /// Returns the whole number at a path, zero when it is absent or null.
    pub(crate) fn number(&self, path: &str) -> Result<i64, WrongType> {
        match self.find(path) {
            None | Some(Value::Null) => Ok(0),
            Some(value) => value.as_i64().ok_or(WrongType),
        }
    }

    /// Returns the number at a path, with or without a fraction.
    pub(crate) fn fraction(&self, path: &str) -> Option<f64> {
        self.find(path).and_then(Value::as_f64)
    }
}

fn text(value: &Value) -> Result<&str, WrongType> {
    match value {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text),
        _ => Err(WrongType),
    }
}

/// Tells when the top-level object or array of a body that is still arriving closes.
#[derive(Default)]
pub(crate) struct ValueScanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
    closed: bool,
}

impl ValueScanner {
    /// Looks at the next piece and tells whether the value has closed by now.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> bool {
        for &byte in piece {
            if self.closed {
                return true;
            }
            self.step(byte);
        }
        self.closed
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.closed = self.depth == 0;
            }
            _ => {}
        }
    }
}

/// Replaces escaped halves of surrogate pairs, as Go does: U+FFFD takes their place.
///
/// Source: encoding/json `unquote`.
fn mend_surrogates(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let (length, is_half) = match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, false),
            (Some(_), _) => (6, true),
            // Whatever is escaped, a backslash above all, begins no escape of its own.
            (None, _) => (1 + escape.chars().nth(1).map_or(0, char::len_utf8), false),
        };
        mended.push_str(if is_half { "\\ufffd" } else { &escape[..length] });
        rest = &escape[length..];
    }
    mended.push_str(rest);
    mended
}

/// Reads the escape of a surrogate at the beginning of a text.
fn surrogate(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let code = u16::from_str_radix(digits, 16).ok()?;
    (0xd800..=0xdfff).contains(&code).then_some(code)
}

/// Folds a key as Go does: ASCII case, and the two letters outside ASCII that fold into it.
///
/// Source: encoding/json `foldName`; U+017F folds to `s`, U+212A to `k`.
fn fold(key: &str) -> String {
    key.chars()
        .map(|letter| match letter {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

/// Stores a value over an earlier one of the same key.
///
/// Null leaves a Go string or number as it was; a second object is decoded into the first, and so is each item of a
/// second list.
fn assign(slot: &mut Value, value: Value) {
    match (slot, value) {
        (Value::Object(earlier), Value::Object(later)) => {
            for (key, value) in later {
                assign(earlier.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(earlier), Value::Array(later)) => {
            earlier.resize(later.len(), Value::Null);
            earlier.iter_mut().zip(later).for_each(|(earlier, later)| assign(earlier, later));
        }
        (Value::String(_) | Value::Number(_) | Value::Bool(_), Value::Null) => {}
        (slot, value) => *slot = value,
    }
}

struct Folded(Value);

impl<'de> Deserialize<'de> for Folded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FoldedVisitor).map(Folded)
    }
}

struct FoldedVisitor;

impl<'de> Visitor<'de> for FoldedVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Folded(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some((key, Folded(value))) = map.next_entry::<String, Folded>()? {
            assign(fields.entry(fold(&key)).or_insert(Value::Null), value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, ValueScanner, WrongType};

    #[test]
    fn keys_are_read_as_go_reads_them() {
        let cases = [
            (r#"{"userID":"a"}"#, Ok("a")),
            (r#"{"USERID":"a"}"#, Ok("a")),
            (r#"{"userID":"a","UserId":"b"}"#, Ok("b")),
            ("{\"u\u{17f}erID\":\"a\"}", Ok("a")),
            (r#"{"userID":"a","userID":null}"#, Ok("a")),
            (r#"{"userID":"b","u\u0073er\u0049D":"a"}"#, Ok("a")),
            (r#"{"userID":"a","x\ud800":"\udfff\\"}"#, Ok("a")),
            (r#"{"other":1}"#, Ok("")),
            (r#"{"userID":"a"} {"userID":"b"}"#, Ok("a")),
            (r#"{"userID":"a"}]]"#, Ok("a")),
            (r#"{"userID":7}"#, Err(WrongType)),
        ];
        for (text, expected) in cases {
            let body = Body::read(text.as_bytes()).unwrap();
            assert_eq!(body.text("userID"), expected, "{text}");
        }
    }

    #[test]
    fn a_second_object_is_decoded_into_the_first() {
        let body = Body::read(br#"{"userInfo":{"userID":"a"},"USERINFO":{"ex":"x"}}"#).unwrap();
        assert_eq!(body.text("userInfo.userID"), Ok("a"));
        assert_eq!(body.text("userInfo.ex"), Ok("x"));
    }

    #[test]
    fn a_second_list_is_decoded_into_the_first() {
        for (text, expected) in [
            (r#"{"userIDs":["a","b"],"userids":[null]}"#, vec!["a"]),
            (r#"{"userIDs":["a"],"USERIDS":["b",null]}"#, vec!["b", ""]),
        ] {
            assert_eq!(Body::read(text.as_bytes()).unwrap().texts("userIDs"), Ok(expected), "{text}");
        }
    }

    #[test]
    fn halves_of_surrogate_pairs_are_replaced() {
        let cases = [
            (r"\ud83d\ude00", "\u{1f600}"),
            (r"\ud83d", "\u{fffd}"),
            (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\\ud83d", r"\ud83d"),
            (r"\u00e9\n", "\u{e9}\n"),
        ];
        for (escaped, expected) in cases {
            let body = Body::read(format!(r#"{{"x":"{escaped}"}}"#).as_bytes()).unwrap();
            assert_eq!(body.text("x"), Ok(expected), "{escaped}");
        }
    }

    #[test]
    fn broken_bodies_are_told_apart() {
        for (text, expected) in
            [("", "EOF"), ("{", "unexpected EOF"), ("{]", "invalid character in request body")]
        {
            assert_eq!(Body::read(text.as_bytes()), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_value_closes_at_its_last_brace_across_pieces() {
        let mut scanner = ValueScanner::default();
        assert!(!scanner.feed(br#"{"a":"}\"#));
        assert!(!scanner.feed(br#""}","b":[{}"#));
        assert!(scanner.feed(b"]} tail"));
    }
}
