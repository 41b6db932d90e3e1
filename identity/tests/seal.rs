//! Sealed records: the vectors, which no code of this crate has made, and what no edit gets past.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

use imgate_identity::seal::{Plain, SealKeys, Seals};
use imgate_identity::session::{PreviousSecret, Record, RecordFault, SessionId, SessionSecret};
use imgate_identity::store::Unavailable;
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Vectors {
    keys: String,
    accepted: Vec<Accepted>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Accepted {
    name: String,
    session_id: String,
    record: String,
    secret: String,
    previous: Option<String>,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    session_id: String,
    record: String,
    cause: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors/sealed.json")).unwrap()
}

fn read(keys: &str, session: &str, record: &str) -> Result<Record, RecordFault> {
    let seals = Seals::On { keys: SealKeys::parse(keys).unwrap(), plain: Plain::Refuse };
    Record::read(&SessionId::parse(session).unwrap(), record.as_bytes(), &seals)
}

#[test]
fn accepted_vectors_open() {
    let vectors = vectors();
    assert!(vectors.accepted.len() >= 12);
    for case in &vectors.accepted {
        let record = read(&vectors.keys, &case.session_id, &case.record);
        let record = record.unwrap_or_else(|fault| panic!("{}: {fault}", case.name));
        assert_eq!(record.secret.to_base64().expose(), &case.secret, "{}", case.name);
        let previous = record.previous.map(|previous| previous.secret.to_base64().expose().clone());
        assert_eq!(previous, case.previous, "{}", case.name);
    }
}

#[test]
fn refused_vectors_are_faults_of_the_store() {
    let vectors = vectors();
    assert!(vectors.refused.len() >= 28);
    for case in &vectors.refused {
        let fault = read(&vectors.keys, &case.session_id, &case.record).expect_err(&case.name);
        assert_eq!(Unavailable::from(fault).as_str(), case.cause, "{}", case.name);
    }
}

/// The keys of these tests: `k1` seals, `k2` is another of ours.
fn seals() -> Seals {
    let line = |id: &str, byte| format!("{id} {}\n", SessionSecret::new([byte; 32]).to_base64().expose());
    let keys = SealKeys::parse(&(line("k1", 1) + &line("k2", 2))).unwrap();
    Seals::On { keys, plain: Plain::Accept }
}

fn time() -> impl Strategy<Value = UnixTime> {
    prop_oneof![0..20u64, any::<u64>()].prop_map(UnixTime)
}

fn secret() -> impl Strategy<Value = SessionSecret> {
    any::<[u8; 32]>().prop_map(SessionSecret::new)
}

fn platform() -> impl Strategy<Value = Platform> {
    (1..=9u8).prop_map(|number| Platform::try_from(number).unwrap())
}

prop_compose! {
    fn a_record()(
        user in "[!-9;-~]{1,64}",
        secret in secret(),
        device in any::<String>(),
        platform in platform(),
        issued_at in time(),
        expires_at in time(),
        revoked_at in proptest::option::of(time()),
        previous in proptest::option::of((secret(), time())),
    ) -> Record {
        Record {
            user: UserId::parse(&user).unwrap(),
            secret,
            device: device.into(),
            platform,
            issued_at,
            expires_at,
            revoked_at,
            previous: previous.map(|(secret, until)| PreviousSecret { secret, until }),
        }
    }
}

fn id() -> impl Strategy<Value = SessionId> {
    any::<[u8; 16]>().prop_map(SessionId::from_bytes)
}

fn sealed(id: &SessionId, record: &Record) -> Value {
    serde_json::from_str(record.write(id, &seals()).unwrap().expose()).unwrap()
}

fn opens(id: &SessionId, json: &Value) -> bool {
    Record::read(id, json.to_string().as_bytes(), &seals()).is_ok()
}

proptest! {
    #[test]
    fn whatever_is_sealed_opens_as_it_was(id in id(), record in a_record()) {
        let json = sealed(&id, &record).to_string();
        prop_assert_eq!(Record::read(&id, json.as_bytes(), &seals()), Ok(record));
    }

    #[test]
    fn the_record_of_one_session_opens_for_no_other(id in id(), other in id(), record in a_record()) {
        prop_assume!(id != other);
        prop_assert!(!opens(&other, &sealed(&id, &record)));
    }

    /// Every field of one record is put into another, alone. Where that changes anything, it shows.
    #[test]
    fn no_field_can_be_taken_from_another_record_of_the_session(
        id in id(),
        record in a_record(),
        other in a_record(),
    ) {
        let (one, other) = (sealed(&id, &record), sealed(&id, &other));
        for field in ["user_id", "secret", "device_id", "platform_id", "issued_at", "expires_at", "revoked_at"] {
            let mut mixed = one.clone();
            mixed[field] = other[field].clone();
            prop_assert_eq!(opens(&id, &mixed), mixed == one, "{}", field);
        }
        let mut mixed = one.clone();
        match other.get("previous") {
            Some(previous) => mixed["previous"] = previous.clone(),
            None => drop(mixed.as_object_mut().unwrap().remove("previous")),
        }
        prop_assert_eq!(opens(&id, &mixed), mixed == one);
        for field in ["secret", "until"] {
            let mut mixed = one.clone();
            if let (Some(into), Some(from)) = (mixed.pointer_mut("/previous"), other.pointer("/previous")) {
                into[field] = from[field].clone();
            }
            prop_assert_eq!(opens(&id, &mixed), mixed == one, "previous.{}", field);
        }
    }
}

/// A record with everything in it.
fn full() -> (SessionId, Record) {
    let record = Record {
        user: UserId::parse("u1").unwrap(),
        secret: SessionSecret::new([7; 32]),
        device: "d1".into(),
        platform: Platform::try_from(2).unwrap(),
        issued_at: UnixTime(5),
        expires_at: UnixTime(100),
        revoked_at: Some(UnixTime(50)),
        previous: Some(PreviousSecret { secret: SessionSecret::new([8; 32]), until: UnixTime(60) }),
    };
    (SessionId::from_bytes([1; 16]), record)
}

#[test]
fn every_bit_of_a_sealed_secret_counts() {
    let (id, record) = full();
    let json = sealed(&id, &record);
    assert!(opens(&id, &json));
    for place in ["/secret", "/previous/secret"] {
        let text = json.pointer(place).unwrap().as_str().unwrap().to_owned();
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let mut edited = json.clone();
                *edited.pointer_mut(place).unwrap() = String::from_utf8(bytes).unwrap().into();
                assert!(!opens(&id, &edited), "{place}, bit {bit} of character {at}");
            }
        }
        for end in 0..text.len() {
            let mut cut = json.clone();
            *cut.pointer_mut(place).unwrap() = text[..end].into();
            assert!(!opens(&id, &cut), "{place}, cut to {end}");
        }
    }
}

#[test]
fn every_bit_of_a_session_id_counts() {
    let (id, record) = full();
    let json = sealed(&id, &record);
    for at in 0..128 {
        let mut bytes = *id.as_bytes();
        bytes[at / 8] ^= 1 << (at % 8);
        assert!(!opens(&SessionId::from_bytes(bytes), &json), "bit {at}");
    }
}

#[test]
fn an_unknown_field_is_no_way_in() {
    let (id, record) = full();
    for (place, field) in [("", "roles"), ("/previous", "device_id")] {
        let mut json = sealed(&id, &record);
        json.pointer_mut(place).unwrap()[field] = "x".into();
        assert!(!opens(&id, &json), "{place}/{field}");
    }
}
