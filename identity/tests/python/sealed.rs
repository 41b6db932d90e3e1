//! Sealed records: `vectors/sealed.py` spells them a second time, and opens what we seal.

use imgate_identity::seal::{Plain, SealKeys, Seals};
use imgate_identity::session::{PreviousSecret, Record, SessionId, SessionSecret};
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};
use serde_json::{Value, json};

use super::python;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/sealed.py");
const VECTORS: &str = include_str!("../../vectors/sealed.json");

#[test]
fn the_sealed_vectors_are_what_their_generator_makes() {
    assert_eq!(String::from_utf8(python(SCRIPT, &[], b"")).unwrap(), VECTORS);
}

#[test]
fn what_we_seal_opens_there() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let keys = vectors["keys"].as_str().unwrap();
    let seals = Seals::On { keys: SealKeys::parse(keys).unwrap(), plain: Plain::Refuse };
    let sealed = |(id, record): &(SessionId, Record)| {
        let json = record.write(id, &seals).unwrap();
        json!({ "keys": keys, "session_id": id.to_string(), "record": json.expose() })
    };
    let secrets = |(_, record): &(SessionId, Record)| {
        let previous = record.previous.iter().map(|previous| &previous.secret);
        let all = std::iter::once(&record.secret).chain(previous);
        Value::from(all.map(|secret| secret.to_base64().expose().clone()).collect::<Vec<_>>())
    };
    let records = records();
    let mut cases: Vec<Value> = records.iter().map(sealed).collect();
    let mut expected: Vec<Value> = records.iter().map(secrets).collect();
    // Only because it is the record's own does it open.
    cases.push(cases[0].clone());
    cases.last_mut().unwrap()["session_id"] = SessionId::from_bytes([9; 16]).to_string().into();
    expected.push(Value::Null);

    let opened = python(SCRIPT, &["open"], &serde_json::to_vec(&cases).unwrap());
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&opened).unwrap(), expected);
}

fn records() -> Vec<(SessionId, Record)> {
    let record = Record {
        user: UserId::parse("u1").unwrap(),
        secret: SessionSecret::new([1; 32]),
        device: "d\u{e9} \"1\"".into(),
        platform: Platform::try_from(11).unwrap(),
        issued_at: UnixTime(0),
        expires_at: UnixTime(u64::MAX),
        revoked_at: None,
        previous: None,
    };
    let rotated = Record {
        revoked_at: Some(UnixTime(0)),
        previous: Some(PreviousSecret { secret: SessionSecret::new([2; 32]), until: UnixTime(7) }),
        ..record.clone()
    };
    vec![(SessionId::from_bytes([0; 16]), record), (SessionId::from_bytes([0xff; 16]), rotated)]
}
