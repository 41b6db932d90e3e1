//! Holds a body against the rules of its route: bytes in, the same bytes or new ones out.
//!
//! Nothing here touches a request, so every way to cheat can be tried as data.

use crate::bind_identity::json::{self, Unclear};
use crate::rules::{Bind, FieldPath};

/// A body whose identity fields are the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The body can go on as it is.
    AsItIs,
    /// This body goes on in its place.
    Rewritten(String),
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not exactly one JSON object in UTF-8.
    #[error("not one JSON object")]
    Unreadable,
    /// A field that matters is named twice, or in a spelling that some readers take for it.
    #[error("an identity field is named more than once, or not as it is spelled")]
    Ambiguous,
    /// A field that matters is not there.
    #[error("an identity field is missing")]
    Missing,
    /// A field that matters does not hold the type it should.
    #[error("an identity field is no text")]
    NotText,
    /// A field that matters names somebody else.
    #[error("an identity field is not the caller")]
    Mismatch,
    /// A field that must be empty is not.
    #[error("a field that reaches beyond the caller is not empty")]
    Beyond,
}

impl From<Unclear> for Fault {
    fn from(why: Unclear) -> Self {
        match why {
            Unclear::NotAnObject => Self::Unreadable,
            Unclear::Ambiguous => Self::Ambiguous,
        }
    }
}

/// Checks every field that `rules` name against `caller`, and writes those that are forced.
///
/// # Errors
/// The body cannot be read in one way only, or names somebody else.
pub fn bind(body: &[u8], rules: &Bind, caller: &str) -> Result<Bound, Fault> {
    if rules.is_none() {
        return Ok(Bound::AsItIs);
    }
    let text = str::from_utf8(body).map_err(|_| Fault::Unreadable)?;
    for path in &rules.check {
        check(text, path, caller)?;
    }
    for path in &rules.optional {
        check_optional(text, path, caller)?;
    }
    for path in &rules.each {
        check_each(text, path, caller)?;
    }
    check_any(text, &rules.any, caller)?;
    for path in &rules.empty {
        check_empty(text, path)?;
    }
    let mut bound = Bound::AsItIs;
    for path in &rules.force {
        let sofar = if let Bound::Rewritten(text) = &bound { text } else { text };
        if let Some(rewritten) = force(sofar, path, caller)? {
            bound = Bound::Rewritten(rewritten);
        }
    }
    Ok(bound)
}

fn check(text: &str, path: &FieldPath, caller: &str) -> Result<(), Fault> {
    let value = present(text, path)?.ok_or(Fault::Missing)?;
    same(&string(value)?, caller)
}

fn check_optional(text: &str, path: &FieldPath, caller: &str) -> Result<(), Fault> {
    match present(text, path)? {
        None | Some("null" | r#""""#) => Ok(()),
        Some(value) => same(&string(value)?, caller),
    }
}

fn check_each(text: &str, path: &FieldPath, caller: &str) -> Result<(), Fault> {
    let value = present(text, path)?.ok_or(Fault::Missing)?;
    let users: Vec<String> = serde_json::from_str(value).map_err(|_| Fault::NotText)?;
    if users.is_empty() {
        return Err(Fault::Missing);
    }
    users.iter().try_for_each(|user| same(user, caller))
}

fn check_any(text: &str, paths: &[FieldPath], caller: &str) -> Result<(), Fault> {
    let mut outcome = if paths.is_empty() { Ok(()) } else { Err(Fault::Missing) };
    for path in paths {
        let Some(value) = present(text, path)? else { continue };
        // Every field is read, also behind one that matched: each must be a string.
        let this = same(&string(value)?, caller);
        if outcome.is_err() {
            outcome = this;
        }
    }
    outcome
}

/// What Go reads as the zero value of whatever type the field has. Source: Go specification, "The zero
/// value"; `encoding/json` leaves a field at it for null.
fn check_empty(text: &str, path: &FieldPath) -> Result<(), Fault> {
    match present(text, path)? {
        None | Some("null" | "false" | "0" | r#""""#) => Ok(()),
        Some(_) => Err(Fault::Beyond),
    }
}

fn same(user: &str, caller: &str) -> Result<(), Fault> {
    if user == caller { Ok(()) } else { Err(Fault::Mismatch) }
}

fn string(value: &str) -> Result<String, Fault> {
    serde_json::from_str(value).map_err(|_| Fault::NotText)
}

/// How far a text goes along a path.
struct Reach<'a> {
    /// The innermost value on the path; a null, or an object without the next name, if any is missing.
    value: &'a str,
    /// The names that are not there.
    missing: &'a [Box<str>],
}

/// Walks along `path` as far as the text has it.
fn walk<'a>(text: &'a str, path: &'a FieldPath) -> Result<Reach<'a>, Fault> {
    let mut value = text;
    for (depth, name) in path.names().iter().enumerate() {
        let missing = &path.names()[depth..];
        if depth > 0 && value == "null" {
            return Ok(Reach { value, missing });
        }
        let inner = json::member(value, name).map_err(|why| match why {
            // The text was read whole already, so this is a value of another type.
            Unclear::NotAnObject if depth > 0 => Fault::NotText,
            why => why.into(),
        })?;
        match inner {
            Some(inner) => value = inner,
            None => return Ok(Reach { value, missing }),
        }
    }
    Ok(Reach { value, missing: &[] })
}

fn present<'a>(text: &'a str, path: &'a FieldPath) -> Result<Option<&'a str>, Fault> {
    let reach = walk(text, path)?;
    Ok(reach.missing.is_empty().then_some(reach.value))
}

/// Makes the text whose field at `path` is the caller; none if this one is so already.
fn force(text: &str, path: &FieldPath, caller: &str) -> Result<Option<String>, Fault> {
    let Reach { value, missing } = walk(text, path)?;
    let quoted = serde_json::Value::from(caller).to_string();
    let start = json::offset(text, value);
    if let (Some((first, inner)), true) = (missing.split_first(), value != "null") {
        // Behind the brace that opens the object, which whitespace may precede.
        let open = start + value.find('{').ok_or(Fault::Unreadable)? + 1;
        let (before, behind) = text.split_at(open);
        let comma = if behind.trim_ascii_start().starts_with('}') { "" } else { "," };
        return Ok(Some(format!("{before}\"{first}\":{}{comma}{behind}", nested(inner, &quoted))));
    }
    let wanted = nested(missing, &quoted);
    let behind = &text[start + value.len()..];
    Ok((value != wanted).then(|| format!("{}{wanted}{behind}", &text[..start])))
}

/// Writes `{"a":{"b":value}}` for the names `a` and `b`, which need no escape.
fn nested(names: &[Box<str>], value: &str) -> String {
    names.iter().rfold(value.to_owned(), |inner, name| format!("{{\"{name}\":{inner}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<FieldPath> {
        names.iter().map(|name| FieldPath::parse(name).unwrap()).collect()
    }

    fn check_of(name: &str) -> Bind {
        Bind { check: paths(&[name]), ..Bind::default() }
    }

    fn optional_of(name: &str) -> Bind {
        Bind { optional: paths(&[name]), ..Bind::default() }
    }

    fn each_of(name: &str) -> Bind {
        Bind { each: paths(&[name]), ..Bind::default() }
    }

    fn any_of(names: &[&str]) -> Bind {
        Bind { any: paths(names), ..Bind::default() }
    }

    fn force_of(names: &[&str]) -> Bind {
        Bind { force: paths(names), ..Bind::default() }
    }

    /// What becomes of each body when `u1` sends it.
    fn all(rules: &Bind, cases: &[(&str, Result<(), Fault>)]) {
        for (body, expected) in cases {
            let bound = bind(body.as_bytes(), rules, "u1");
            assert_eq!(bound, expected.map(|()| Bound::AsItIs), "{body}");
        }
    }

    #[test]
    fn a_checked_field_is_there_and_is_the_caller() {
        let cases = [
            (r#"{"userID":"u1"}"#, Ok(())),
            (r#" {"x":[{"userID":"u2"}],"userID" : "\u00751"} "#, Ok(())),
            (r#"{"userID":"u2"}"#, Err(Fault::Mismatch)),
            (r#"{"userID":""}"#, Err(Fault::Mismatch)),
            (r#"{"userID":"U1"}"#, Err(Fault::Mismatch)),
            (r#"{"userID":"u1 "}"#, Err(Fault::Mismatch)),
            (r#"{"userID":"u1\u0000"}"#, Err(Fault::Mismatch)),
            (r#"{"userID":null}"#, Err(Fault::NotText)),
            (r#"{"userID":1}"#, Err(Fault::NotText)),
            (r#"{"userID":["u1"]}"#, Err(Fault::NotText)),
            (r#"{"userID":{"userID":"u1"}}"#, Err(Fault::NotText)),
            (r#"{"userID":"u1\ud800"}"#, Err(Fault::NotText)),
            (r#"{"x":{"userID":"u1"}}"#, Err(Fault::Missing)),
            ("{}", Err(Fault::Missing)),
            (r#"{"userID":"u1","USERID":"u1"}"#, Err(Fault::Ambiguous)),
            (r#"[{"userID":"u1"}]"#, Err(Fault::Unreadable)),
            ("null", Err(Fault::Unreadable)),
            ("", Err(Fault::Unreadable)),
        ];
        all(&check_of("userID"), &cases);
    }

    #[test]
    fn a_field_inside_an_object_is_guarded_all_the_way() {
        let cases = [
            (r#"{"userInfo":{"userID":"u1","nickname":"x"}}"#, Ok(())),
            (r#"{"userInfo":{"userID":"u2"},"userID":"u1"}"#, Err(Fault::Mismatch)),
            (r#"{"userInfo":{"userID":"u1"},"userInfo":{"userID":"u2"}}"#, Err(Fault::Ambiguous)),
            (r#"{"userInfo":{"userID":"u1"},"USERINFO":{"userID":"u2"}}"#, Err(Fault::Ambiguous)),
            (r#"{"userInfo":{"userID":"u1","UserID":"u2"}}"#, Err(Fault::Ambiguous)),
            (r#"{"UserInfo":{"userID":"u1"}}"#, Err(Fault::Ambiguous)),
            (r#"{"userInfo":null}"#, Err(Fault::Missing)),
            (r#"{"userInfo":[{"userID":"u1"}]}"#, Err(Fault::NotText)),
            (r#"{"userInfo":"u1"}"#, Err(Fault::NotText)),
            (r#"{"userID":"u1"}"#, Err(Fault::Missing)),
        ];
        all(&check_of("userInfo.userID"), &cases);
    }

    #[test]
    fn an_optional_field_is_empty_or_the_caller() {
        let cases = [
            ("{}", Ok(())),
            (r#"{"userID":null}"#, Ok(())),
            (r#"{"userID":""}"#, Ok(())),
            (r#"{"userID":"u1"}"#, Ok(())),
            (r#"{"userID":"u2"}"#, Err(Fault::Mismatch)),
            (r#"{"userID":" "}"#, Err(Fault::Mismatch)),
            (r#"{"userID":0}"#, Err(Fault::NotText)),
            (r#"{"userID":null,"userid":"u2"}"#, Err(Fault::Ambiguous)),
            (r#"{"USERID":""}"#, Err(Fault::Ambiguous)),
            ("", Err(Fault::Unreadable)),
        ];
        all(&optional_of("userID"), &cases);
        all(&optional_of("a.b"), &[(r#"{"a":null}"#, Ok(())), (r#"{"a":{"b":"u2"}}"#, Err(Fault::Mismatch))]);
    }

    #[test]
    fn each_entry_of_a_list_is_the_caller() {
        let cases = [
            (r#"{"userIDs":["u1"]}"#, Ok(())),
            (r#"{"userIDs":["u1","u1"]}"#, Ok(())),
            (r#"{"userIDs":["u1","u2"]}"#, Err(Fault::Mismatch)),
            (r#"{"userIDs":[]}"#, Err(Fault::Missing)),
            (r#"{"userIDs":null}"#, Err(Fault::NotText)),
            (r#"{"userIDs":["u1",null]}"#, Err(Fault::NotText)),
            (r#"{"userIDs":[["u1"]]}"#, Err(Fault::NotText)),
            (r#"{"userIDs":"u1"}"#, Err(Fault::NotText)),
            (r#"{"userIDs":{"0":"u1"}}"#, Err(Fault::NotText)),
            ("{}", Err(Fault::Missing)),
            (r#"{"userIDs":["u1"],"UserIDs":["u2"]}"#, Err(Fault::Ambiguous)),
        ];
        all(&each_of("userIDs"), &cases);
    }

    #[test]
    fn a_field_that_reaches_beyond_the_caller_is_empty() {
        let rules = Bind { empty: paths(&["deleteSyncOpt.isSyncOther"]), ..check_of("userID") };
        let body = |rest: &str| format!(r#"{{"userID":"u1"{rest}}}"#);
        for rest in [
            "",
            r#","deleteSyncOpt":null"#,
            r#","deleteSyncOpt":{}"#,
            r#","deleteSyncOpt":{"isSyncSelf":true}"#,
        ] {
            assert_eq!(bind(body(rest).as_bytes(), &rules, "u1"), Ok(Bound::AsItIs), "{rest}");
        }
        for (value, expected) in [
            ("null", Ok(Bound::AsItIs)),
            ("false", Ok(Bound::AsItIs)),
            ("true", Err(Fault::Beyond)),
            ("1", Err(Fault::Beyond)),
            (r#""true""#, Err(Fault::Beyond)),
            ("[]", Err(Fault::Beyond)),
            (r#"false,"IsSyncOther":true"#, Err(Fault::Ambiguous)),
            (r#"false,"isSyncOther":true"#, Err(Fault::Ambiguous)),
        ] {
            let text = body(&format!(r#","deleteSyncOpt":{{"isSyncOther":{value}}}"#));
            assert_eq!(bind(text.as_bytes(), &rules, "u1"), expected, "{value}");
        }
    }

    #[test]
    fn one_of_several_fields_is_the_caller_and_all_are_text() {
        let cases = [
            (r#"{"userID1":"u1","userID2":"u2"}"#, Ok(())),
            (r#"{"userID1":"u2","userID2":"u1"}"#, Ok(())),
            (r#"{"userID2":"u1"}"#, Ok(())),
            (r#"{"userID1":"u2","userID2":"u3"}"#, Err(Fault::Mismatch)),
            (r#"{"userID1":"u2"}"#, Err(Fault::Mismatch)),
            (r#"{"userID1":"u1","userID2":7}"#, Err(Fault::NotText)),
            (r#"{"userID1":null,"userID2":"u1"}"#, Err(Fault::NotText)),
            (r#"{"userID1":"u1","userID2":"u2","USERID1":"u3"}"#, Err(Fault::Ambiguous)),
            (r#"{"userID1":"u1","userid2":"u2"}"#, Err(Fault::Ambiguous)),
            ("{}", Err(Fault::Missing)),
        ];
        all(&any_of(&["userID1", "userID2"]), &cases);
    }

    #[test]
    fn a_forced_field_is_the_caller_and_nothing_else_changes() {
        let cases = [
            ("{}", r#"{"account":"u1"}"#),
            (" { } ", r#" {"account":"u1" } "#),
            (r#"{"x":1.0e400,"y":" {"}"#, r#"{"account":"u1","x":1.0e400,"y":" {"}"#),
            (r#"{"a":1, "account" : "u2" ,"b":2}"#, r#"{"a":1, "account" : "u1" ,"b":2}"#),
            (r#"{"account":null}"#, r#"{"account":"u1"}"#),
            (r#"{"account":{"account":"u2"}}"#, r#"{"account":"u1"}"#),
            (r#"{"account":[1,"}"],"z":[]}"#, r#"{"account":"u1","z":[]}"#),
            (r#"{"account":-12}"#, r#"{"account":"u1"}"#),
        ];
        for (body, expected) in cases {
            let bound = bind(body.as_bytes(), &force_of(&["account"]), "u1");
            assert_eq!(bound, Ok(Bound::Rewritten(expected.to_owned())), "{body}");
        }
        all(
            &force_of(&["account"]),
            &[
                (r#"{"account":"u1"}"#, Ok(())),
                (r#"{"account":"u2","Account":"u1"}"#, Err(Fault::Ambiguous)),
                (r#"{"ACCOUNT":"u1"}"#, Err(Fault::Ambiguous)),
                ("[]", Err(Fault::Unreadable)),
                ("null", Err(Fault::Unreadable)),
            ],
        );
    }

    #[test]
    fn several_fields_are_forced_wherever_they_are() {
        let rules = force_of(&["a.b", "a.c", "d"]);
        let cases = [
            ("{}", r#"{"d":"u1","a":{"c":"u1","b":"u1"}}"#),
            (r#"{"a":null}"#, r#"{"d":"u1","a":{"c":"u1","b":"u1"}}"#),
            (r#"{"a":{"c":"u2"},"d":4}"#, r#"{"a":{"b":"u1","c":"u1"},"d":"u1"}"#),
        ];
        for (body, expected) in cases {
            let bound = bind(body.as_bytes(), &rules, "u1");
            assert_eq!(bound, Ok(Bound::Rewritten(expected.to_owned())), "{body}");
        }
        assert_eq!(bind(br#"{"a":7}"#, &rules, "u1"), Err(Fault::NotText));
    }

    #[test]
    fn a_caller_with_odd_letters_is_quoted() {
        let caller = "a\"b\\\u{7f}\u{e9}";
        let Ok(Bound::Rewritten(text)) = bind(b"{}", &force_of(&["account"]), caller) else {
            panic!("forced")
        };
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["account"], caller);
        assert_eq!(bind(text.as_bytes(), &check_of("account"), caller), Ok(Bound::AsItIs));
    }

    #[test]
    fn a_body_that_is_no_utf_8_is_refused() {
        assert_eq!(
            bind(b"{\"userID\":\"u1\",\"x\":\"\xff\"}", &check_of("userID"), "u1"),
            Err(Fault::Unreadable)
        );
    }

    #[test]
    fn depth_and_size_cost_no_stack() {
        let deep = format!(r#"{{"x":{}{},"userID":"u1"}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(bind(deep.as_bytes(), &check_of("userID"), "u1"), Ok(Bound::AsItIs));
        let deep = format!(r#"{{"userIDs":{}"u1"{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(bind(deep.as_bytes(), &each_of("userIDs"), "u1"), Err(Fault::NotText));
    }

    #[test]
    fn nothing_is_read_where_nothing_is_bound() {
        assert_eq!(bind(b"\xff", &Bind::default(), "u1"), Ok(Bound::AsItIs));
    }
}
