//! The body check held against the reader it must agree with: Go's `encoding/json`, the real one.
//!
//! Whatever body we let through, a handler in Go must see the caller in the bound fields. The bodies are made to
//! deceive: keys in many spellings, twice, nested, with odd values, and then broken at random bytes.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

use std::cell::{Cell, RefCell};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imgate_filters::bind_identity::{Bound, bind};
use imgate_filters::rules::{Bind, FieldPath};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Deserialize;

const CALLER: &str = "u1";

/// What a handler in Go sees of a body.
#[derive(Debug, Default, Deserialize)]
struct Seen {
    ok: bool,
    request: Request,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(rename = "userID")]
    user_id: String,
    #[serde(rename = "kickedID")]
    kicked_id: String,
    #[serde(rename = "userIDs")]
    user_ids: Option<Vec<String>>,
    user_info: Info,
    account: String,
    #[serde(rename = "userID1")]
    user_id1: String,
    #[serde(rename = "userID2")]
    user_id2: String,
}

#[derive(Debug, Default, Deserialize)]
struct Info {
    #[serde(rename = "userID")]
    user_id: String,
}

/// A Go program that decodes bodies as long as it is asked.
struct Go {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Go {
    fn start() -> Self {
        let mut child = Command::new("go")
            .args(["run", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/go/decode.go")])
            .envs([
                ("GOTOOLCHAIN", "local"),
                ("CGO_ENABLED", "0"),
                ("GOPROXY", "off"),
                ("GOFLAGS", ""),
                ("GOWORK", "off"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("go is installed: `make packages`");
        let ask = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, ask, answers }
    }

    fn ask<T: for<'de> Deserialize<'de>>(&mut self, line: &str) -> T {
        writeln!(self.ask.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// What `json.Unmarshal` and `json.Decoder` make of a body.
    fn decode(&mut self, body: &[u8]) -> [Seen; 2] {
        self.ask(&STANDARD.encode(body))
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        // The program ends when nobody can ask it any more.
        self.ask = None;
        let _ = self.child.wait();
    }
}

fn paths(names: &[&str]) -> Vec<FieldPath> {
    names.iter().map(|name| FieldPath::parse(name).unwrap()).collect()
}

/// Every kind of rule, and whether a request obeys it.
type Case = (Bind, fn(&Request) -> bool);

fn cases() -> Vec<Case> {
    let none = Bind::default;
    vec![
        (Bind { check: paths(&["userID"]), ..none() }, |r| r.user_id == CALLER),
        (Bind { check: paths(&["kickedID"]), ..none() }, |r| r.kicked_id == CALLER),
        (Bind { check: paths(&["userInfo.userID"]), ..none() }, |r| r.user_info.user_id == CALLER),
        (Bind { optional: paths(&["userID"]), ..none() }, |r| r.user_id.is_empty() || r.user_id == CALLER),
        (Bind { optional: paths(&["userInfo.userID"]), ..none() }, |r| {
            r.user_info.user_id.is_empty() || r.user_info.user_id == CALLER
        }),
        (Bind { each: paths(&["userIDs"]), ..none() }, |r| {
            r.user_ids.as_ref().is_some_and(|ids| !ids.is_empty() && ids.iter().all(|id| id == CALLER))
        }),
        (Bind { any: paths(&["userID1", "userID2"]), ..none() }, |r| {
            r.user_id1 == CALLER || r.user_id2 == CALLER
        }),
        (Bind { force: paths(&["account"]), ..none() }, |r| r.account == CALLER),
        (Bind { force: paths(&["userInfo.userID", "userID"]), ..none() }, |r| {
            r.user_info.user_id == CALLER && r.user_id == CALLER
        }),
    ]
}

/// The names of the fields that rules bind.
const NAMES: [&str; 7] = ["userID", "kickedID", "userIDs", "userInfo", "account", "userID1", "userID2"];

/// A name in another spelling, which may or may not be taken for it.
fn spelled(name: &str, spelling: usize, at: Index) -> String {
    let at = at.index(name.len());
    let (before, letter, behind) = (&name[..at], &name[at..=at], &name[at + 1..]);
    let code = u32::from(letter.as_bytes()[0]);
    match spelling {
        0 => name.to_uppercase(),
        1 => name.to_lowercase(),
        2 => name.replace('s', "\u{17f}").replace('k', "\u{212a}"),
        3 => name.replace('s', "\\u017f").replace('k', "\\u212A"),
        4 => format!("{before}\\u{code:04x}{behind}"),
        5 => format!("{before}\\u{:04X}{behind}", code ^ 0x20),
        6 => format!("{before}{letter}\\ud800{behind}"),
        7 => format!("{before}{letter}\u{307}{behind}"),
        8 => format!("{before}_{letter}{behind}"),
        9 => name.replace('I', "\u{130}"),
        _ => name.to_owned(),
    }
}

fn key() -> impl Strategy<Value = String> {
    (select(&NAMES), 0_usize..12, any::<Index>()).prop_map(|(name, spelling, at)| spelled(name, spelling, at))
}

/// A member that makes Go act on somebody else, if it is let through.
fn attack() -> impl Strategy<Value = String> {
    (select(&NAMES), 0_usize..12, 0_usize..12, any::<Index>()).prop_map(|(name, spelling, inner, at)| {
        let value = match name {
            "userIDs" => r#"["u2"]"#.to_owned(),
            "userInfo" => format!("{{\"{}\":\"u2\"}}", spelled("userID", inner, at)),
            _ => r#""u2""#.to_owned(),
        };
        format!("\"{}\":{value}", spelled(name, spelling, at))
    })
}

fn value() -> impl Strategy<Value = String> {
    let plain = select(vec![
        r#""u1""#,
        r#""u1""#,
        r#""u1""#,
        r#""u2""#,
        r#""""#,
        r#""\u00751""#,
        r#""u1\u0000""#,
        r#""u1\ud800""#,
        r#""\ud83d\ude00""#,
        r#""u1\"""#,
        "null",
        "7",
        "-1.5E+3",
        "1e999",
        "true",
        "[]",
        r#"["u1"]"#,
        r#"["u1","u1"]"#,
        r#"["u1","u2"]"#,
        r#"["u1",null]"#,
        "{}",
    ])
    .prop_map(str::to_owned);
    plain.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|all| format!("[{}]", all.join(","))),
            object(inner),
        ]
    })
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    members(value, 0..4).prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn members(
    value: impl Strategy<Value = String>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<String>> {
    let member = (key(), value).prop_map(|(key, value)| format!("\"{key}\":{value}"));
    prop::collection::vec(member, count)
}

/// Members an honest client could send, save that some name somebody else.
fn honest() -> impl Strategy<Value = Vec<String>> {
    let all = ["userID", "kickedID", "account", "userID1", "userID2"]
        .into_iter()
        .flat_map(|name| ["u1", "u1", "u2"].map(|user| format!(r#""{name}" : "{user}""#)))
        .chain(["u1", "u1", "u2"].map(|user| format!(r#""userInfo":{{"userID":"{user}","ex":"{{"}}"#)))
        .chain([r#""u1""#, r#""u1","u1""#, r#""u2","u1""#].map(|list| format!("\"userIDs\":[{list}]")))
        .collect::<Vec<_>>();
    prop::sample::subsequence(all, 0..6)
}

/// A body as a client with bad intent might make it.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![
        Just(vec![]),
        prop::collection::vec(attack(), 1..3),
        prop::collection::vec(attack(), 1..3),
        members(value(), 1..3)
    ];
    let members = (honest(), odd)
        .prop_map(|(honest, odd)| [honest, odd].concat())
        .prop_shuffle()
        .prop_map(|members| format!("{{{}}}", members.join(",")));
    let around = select(vec![
        "", "", "", "", "", "", " ", "\r\n\t", "\u{a0}", "\u{feff}", "{}", "]", "}", "null", ",",
    ]);
    let byte = select(b"\"\\{}[]:,u1xS\0 \xff\xc3\n".to_vec());
    let breaks = prop_oneof![Just(vec![]), prop::collection::vec((any::<Index>(), 0..3, byte), 0..3)];
    (around.clone(), members, around, breaks).prop_map(|(before, object, behind, breaks)| {
        let mut bytes = format!("{before}{object}{behind}").into_bytes();
        for (at, how, byte) in breaks {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

#[test]
fn go_sees_the_caller_in_every_body_we_let_through() {
    let cases = cases();
    let go = RefCell::new(Go::start());
    let passed = vec![Cell::new(0); cases.len()];
    let config = Config { cases: 12_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&body(), |body| {
        for ((rules, obeyed), passed) in cases.iter().zip(&passed) {
            let Ok(bound) = bind(&body, rules, CALLER) else { continue };
            let sent = match &bound {
                Bound::AsItIs => &body[..],
                Bound::Rewritten(text) => text.as_bytes(),
            };
            for seen in go.borrow_mut().decode(sent) {
                let shown = String::from_utf8_lossy(sent);
                prop_assert!(!seen.ok || obeyed(&seen.request), "{rules:?}: {shown} is read as {seen:?}");
                passed.set(passed.get() + usize::from(seen.ok));
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let fewest = passed.iter().map(Cell::get).min().unwrap();
    assert!(fewest > 100, "a rule was hardly tried: {passed:?}");
}

/// What the check is for: without it, these bodies make Go act on somebody else.
#[test]
fn go_is_deceived_by_the_bodies_we_refuse() {
    let mut go = Go::start();
    let rules = Bind { check: paths(&["userID"]), ..Bind::default() };
    let bodies = [
        r#"{"userID":"u1","USERID":"u2"}"#,
        r#"{"userID":"u1","userID":"u2"}"#,
        r#"{"userID":"u1","u\u017ferID":"u2"}"#,
        r#"{"userID":"u1","\u0075serID":"u2"}"#,
        "{\"userID\":\"u1\",\"u\u{17f}erid\":\"u2\"}",
        r#"{"userid":"u2"}"#,
    ];
    for body in bodies {
        for seen in go.decode(body.as_bytes()) {
            assert!(seen.ok && seen.request.user_id == "u2", "{body}: {seen:?}");
        }
        assert!(bind(body.as_bytes(), &rules, CALLER).is_err(), "{body}");
    }
    let [whole, first] = go.decode(br#"{"userID":"u2"}{"userID":"u1"}"#);
    assert!(!whole.ok && first.ok && first.request.user_id == "u2");
    let merged = go.decode(br#"{"userInfo":{"userID":"u1"},"USERINFO":{"userid":"u2"}}"#);
    assert!(merged.iter().all(|seen| seen.ok && seen.request.user_info.user_id == "u2"));
}

#[test]
fn every_letter_go_takes_for_an_ascii_one_is_taken_for_it_here() {
    let folds: Vec<String> = Go::start().ask("fold");
    assert!(folds.len() >= 2, "{folds:?}");
    for fold in folds {
        let (plain, odd) = fold.split_at(1);
        let rules = Bind { optional: paths(&[plain]), ..Bind::default() };
        let body = format!(r#"{{"{odd}":"u2"}}"#);
        assert!(bind(body.as_bytes(), &rules, CALLER).is_err(), "{fold}");
    }
}
