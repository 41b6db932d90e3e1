//! Sealed records on a real Redis: what opens, what is a fault, and how keys and secrets are changed.

#![allow(clippy::unwrap_used, reason = "the lint sees only `#[test]` functions as tests, not their helpers")]

mod support {
    pub(crate) mod redis_server;
    pub(crate) mod rig;
}

use std::sync::Arc;
use std::time::Duration;

use imgate_identity::key::Keys;
use imgate_identity::seal::{Plain, SealFault, SealKeys, Seals};
use imgate_identity::session::{Ban, Record, RecordFault, Session, SessionId, SessionSecret};
use imgate_identity::sign::{HttpKey, Nonce, Presented, Signature, Target, sign};
use imgate_identity::store::{
    CacheConfig, Fault, Layout, Memory, Resealed, Rotation, Store, Unavailable, WriteError, Writer,
};
use imgate_identity::time::UnixTime;
use redis::aio::MultiplexedConnection;
use support::redis_server::RedisServer;
use support::rig::{client, eventually, live, patient, record, run, session_id, user};

/// A file of keys: an id and a byte each.
fn sealing(keys: &[(&str, u8)], plain: Plain) -> Layout {
    let line =
        |(id, byte): &(&str, u8)| format!("{id} {}\n", SessionSecret::new([*byte; 32]).to_base64().expose());
    let keys = SealKeys::parse(&keys.iter().map(line).collect::<String>()).unwrap();
    Layout { keys: Keys::default(), seals: Seals::On { keys, plain } }
}

fn old() -> Layout {
    sealing(&[("old", 1)], Plain::Refuse)
}

/// While `new` takes the place of `old`.
fn both() -> Layout {
    sealing(&[("new", 2), ("old", 1)], Plain::Refuse)
}

fn new() -> Layout {
    sealing(&[("new", 2)], Plain::Refuse)
}

async fn writer(server: &RedisServer, layout: impl Into<Layout>) -> Writer {
    let writer = Writer::connect(patient(&server.url()), layout).await.unwrap();
    writer.put_mark().await.unwrap();
    writer
}

async fn store(server: &RedisServer, layout: impl Into<Layout>) -> Arc<Store> {
    let store = Store::redis(patient(&server.url()), layout, CacheConfig::default()).unwrap();
    live(&store).await;
    store
}

async fn get(redis: &mut MultiplexedConnection, id: &SessionId) -> serde_json::Value {
    let key = Keys::default().session(id);
    let json: String = redis::cmd("GET").arg(key).query_async(redis).await.unwrap();
    serde_json::from_str(&json).unwrap()
}

async fn set(redis: &mut MultiplexedConnection, id: &SessionId, json: &serde_json::Value) {
    run(redis, &["SET", &Keys::default().session(id), &json.to_string()]).await;
}

fn fault(fault: SealFault) -> Unavailable {
    Unavailable::Broken(Fault::Record(RecordFault::Seal(fault)))
}

/// Whether the session takes a request signed with this secret now.
fn takes(session: &Session, secret: &SessionSecret, now: UnixTime) -> bool {
    let target = Target { method: "GET", authority: "h", path: "/", query: None };
    let nonce = Nonce::random().unwrap();
    let signed = sign(&HttpKey::derive(secret), &session.id, &target, None, now, &nonce);
    let signature = Signature::parse(Presented {
        signature_input: signed.signature_input.as_bytes(),
        signature: signed.signature.as_bytes(),
        content_digest: None,
    });
    let signature = signature.unwrap();
    session.keys(now).any(|key| signature.verify(key, &target).is_ok())
}

#[tokio::test]
async fn a_sealed_session_works_and_redis_holds_no_secret() {
    let server = RedisServer::start();
    let (writer, store, mut redis) =
        (writer(&server, old()).await, store(&server, old()).await, client(&server).await);
    let (id, made) = (session_id(1), record(&user("u1")));
    writer.put_session(&id, &made).await.unwrap();
    let held = get(&mut redis, &id).await.to_string();
    assert!(held.contains("s1.old.") && !held.contains(made.secret.to_base64().expose()), "{held}");

    let session = store.session(&id).await.unwrap().unwrap();
    assert!(takes(&session, &made.secret, UnixTime::now()));
    assert!(!takes(&session, &SessionSecret::new([9; 32]), UnixTime::now()));
    assert_eq!(writer.session(&id).await, Ok(Some(made)));

    // It is opened once and then cached.
    let loads = store.stats().loads;
    assert!(Arc::ptr_eq(&session, &store.session(&id).await.unwrap().unwrap()));
    assert_eq!(store.stats().loads, loads);
}

#[tokio::test]
async fn a_record_that_was_tampered_with_is_a_fault_and_harms_nobody_else() {
    let server = RedisServer::start();
    let (writer, store, mut redis) =
        (writer(&server, both()).await, store(&server, both()).await, client(&server).await);
    let (ann, bob, eve) = (session_id(1), session_id(2), session_id(3));
    for (id, name) in [(ann, "ann"), (bob, "bob"), (eve, "eve")] {
        writer.put_session(&id, &record(&user(name))).await.unwrap();
    }
    writer
        .rotate_session(&ann, &SessionSecret::new([8; 32]), Duration::from_secs(60), UnixTime::now())
        .await
        .unwrap();
    let (good, other) = (get(&mut redis, &ann).await, get(&mut redis, &eve).await);

    let edited = |place: &str, value: serde_json::Value| {
        let mut json = good.clone();
        *json.pointer_mut(place).unwrap() = value;
        json
    };
    let mut swapped = edited("/secret", good["previous"]["secret"].clone());
    swapped["previous"]["secret"] = good["secret"].clone();
    let cut = good["secret"].as_str().unwrap().split_at(40).0.to_owned();
    let renamed = good["secret"].as_str().unwrap().replace("s1.new.", "s1.gone.");
    let plain =
        serde_json::from_str(record(&user("ann")).write(&ann, &Seals::Off).unwrap().expose()).unwrap();
    let cases = [
        (other.clone(), SealFault::Broken),
        (edited("/user_id", "bob".into()), SealFault::Broken),
        (edited("/expires_at", 9_999_999_999_u64.into()), SealFault::Broken),
        (edited("/secret", other["secret"].clone()), SealFault::Broken),
        (edited("/previous/until", 9_999_999_999_u64.into()), SealFault::Broken),
        (swapped, SealFault::Broken),
        (edited("/secret", cut.into()), SealFault::Malformed),
        (edited("/secret", renamed.into()), SealFault::UnknownKey),
        (plain, SealFault::Plain),
    ];
    for (json, expected) in cases {
        let broken = store.stats().failures.broken;
        set(&mut redis, &ann, &json).await;
        eventually("the tampered record is read", async || store.session(&ann).await.is_err()).await;
        assert_eq!(store.session(&ann).await.unwrap_err(), fault(expected), "{json}");
        // Every such read is counted, which is what alarms hang on.
        assert!(store.stats().failures.broken > broken, "{json}");
        assert_eq!(writer.session(&ann).await, Err(WriteError::Unavailable(fault(expected))));
        assert!(store.session(&bob).await.unwrap().is_some());
        set(&mut redis, &ann, &good).await;
        eventually("the good record is read", async || store.session(&ann).await.is_ok()).await;
    }
}

#[tokio::test]
async fn without_seal_keys_a_sealed_record_is_a_fault() {
    let server = RedisServer::start();
    writer(&server, old()).await.put_session(&session_id(1), &record(&user("u1"))).await.unwrap();
    let store = store(&server, Keys::default()).await;
    assert_eq!(store.session(&session_id(1)).await.unwrap_err(), fault(SealFault::NoKeys));
    assert_eq!(store.session(&session_id(2)).await.unwrap().map(|_| ()), None);
}

#[tokio::test]
async fn a_seal_key_is_replaced_without_losing_a_session() {
    let server = RedisServer::start();
    let count = 1200;
    let id = |i: u32| SessionId::from_bytes(u128::from(i).to_be_bytes());
    let before = writer(&server, old()).await;
    for i in 0..count {
        before.put_session(&id(i), &record(&user("u1"))).await.unwrap();
    }
    let opens = async |layout: Layout, i: u32| store(&server, layout).await.session(&id(i)).await.map(drop);
    assert_eq!(opens(new(), 0).await, Err(fault(SealFault::UnknownKey)), "not yet");
    assert_eq!(opens(both(), 0).await, Ok(()), "the old key opens");

    let during = writer(&server, both()).await;
    during.put_session(&id(0), &record(&user("u1"))).await.unwrap();
    let mut redis = client(&server).await;
    let foreign = get(&mut redis, &id(2)).await;
    set(&mut redis, &id(1), &foreign).await;
    run(&mut redis, &["SET", "imgate:session:no-session", "x"]).await;
    run(&mut redis, &["EXPIRE", &Keys::default().session(&id(3)), "5000"]).await;

    let all = reseal(&during).await;
    // Redis may show a key on two pages; it is current by then.
    assert_eq!((all.resealed, all.broken), (u64::from(count) - 2, vec![(id(1), broken())]));
    assert!(all.current >= 1);
    let again = reseal(&during).await;
    assert_eq!((again.resealed, again.broken.len()), (0, 1));
    let ttl: u64 =
        redis::cmd("TTL").arg(Keys::default().session(&id(3))).query_async(&mut redis).await.unwrap();
    assert!((4000..=5000).contains(&ttl), "{ttl}");

    // The old key is retired.
    let store = store(&server, new()).await;
    for i in (0..count).filter(|&i| i != 1) {
        assert!(store.session(&id(i)).await.unwrap().is_some(), "{i}");
    }
    assert_eq!(store.session(&id(1)).await.unwrap_err(), fault(SealFault::UnknownKey));
}

fn broken() -> Fault {
    Fault::Record(RecordFault::Seal(SealFault::Broken))
}

/// Seals every page anew, and puts the counts together.
async fn reseal(writer: &Writer) -> Resealed {
    let (mut all, mut cursor) = (Resealed::default(), Some(0));
    while let Some(from) = cursor {
        let page = writer.reseal_sessions(from).await.unwrap();
        all.resealed += page.resealed;
        all.current += page.current;
        all.broken.extend(page.broken);
        cursor = page.next;
    }
    all.broken.dedup();
    all
}

#[tokio::test]
async fn plain_records_are_sealed_while_they_are_accepted_and_refused_afterwards() {
    let server = RedisServer::start();
    let (id, injected) = (session_id(1), session_id(2));
    writer(&server, Keys::default()).await.put_session(&id, &record(&user("u1"))).await.unwrap();
    let migrating = sealing(&[("old", 1)], Plain::Accept);
    assert!(store(&server, migrating.clone()).await.session(&id).await.unwrap().is_some());
    assert_eq!(reseal(&writer(&server, migrating).await).await.resealed, 1);

    // A plain record that is found afterwards is nobody's migration.
    writer(&server, Keys::default()).await.put_session(&injected, &record(&user("u1"))).await.unwrap();
    let strict = writer(&server, old()).await;
    let left = reseal(&strict).await;
    assert_eq!((left.resealed, left.broken.len()), (0, 1));
    let store = store(&server, old()).await;
    assert!(store.session(&id).await.unwrap().is_some());
    assert_eq!(store.session(&injected).await.unwrap_err(), fault(SealFault::Plain));
}

/// Rotation, checked by what the gateway would take.
async fn a_session_is_rotated(writer: &Writer, store: &Store) {
    let (id, now, grace) = (session_id(1), UnixTime::now(), Duration::from_secs(600));
    let [first, second, third] = [7, 8, 9].map(|byte| SessionSecret::new([byte; 32]));
    let made = record(&user("u1"));
    assert_eq!(writer.rotate_session(&id, &second, grace, now).await, Ok(Rotation::Unknown));
    writer.put_session(&id, &made).await.unwrap();
    assert!(takes(&store.session(&id).await.unwrap().unwrap(), &first, now));

    let until = now.plus(grace);
    let rotated = Ok(Rotation::Rotated(Some(until)));
    assert_eq!(writer.rotate_session(&id, &second, grace, now).await, rotated);
    eventually("the new secret is taken", async || {
        takes(&store.session(&id).await.unwrap().unwrap(), &second, now)
    })
    .await;
    let session = store.session(&id).await.unwrap().unwrap();
    let after = until.plus(Duration::from_secs(1));
    assert!(takes(&session, &first, now) && takes(&session, &first, until), "inside the grace");
    assert!(takes(&session, &second, after) && !takes(&session, &first, after), "after the grace");

    // Once more, as after an answer that was lost.
    let later = now.plus(Duration::from_secs(5));
    assert_eq!(writer.rotate_session(&id, &second, grace, later).await, rotated);

    assert_eq!(writer.rotate_session(&id, &third, Duration::ZERO, now).await, Ok(Rotation::Rotated(None)));
    eventually("only the last secret is taken", async || {
        let session = store.session(&id).await.unwrap().unwrap();
        takes(&session, &third, now) && !takes(&session, &second, now) && !takes(&session, &first, now)
    })
    .await;

    let ages = Duration::from_secs(u64::MAX);
    assert_eq!(
        writer.rotate_session(&id, &first, ages, now).await,
        Ok(Rotation::Rotated(Some(made.expires_at)))
    );
    assert_eq!(writer.rotate_session(&id, &second, grace, made.expires_at).await, Ok(Rotation::Expired));
    writer.revoke_session(&id, now).await.unwrap();
    assert_eq!(writer.rotate_session(&id, &second, grace, now).await, Ok(Rotation::Revoked(now)));
    assert_eq!(writer.session(&id).await.unwrap().unwrap().secret, first);
}

#[tokio::test]
async fn a_rotated_session_takes_the_old_secret_for_the_grace_and_no_longer() {
    let server = RedisServer::start();
    for layout in [Layout::default(), both()] {
        let (writer, store) = (writer(&server, layout.clone()).await, store(&server, layout).await);
        a_session_is_rotated(&writer, &store).await;
        run(&mut client(&server).await, &["DEL", &Keys::default().session(&session_id(1))]).await;
    }
    let memory = Arc::new(Memory::new());
    let writer = Writer::memory(Arc::clone(&memory), both());
    let store = Store::memory(memory, both(), CacheConfig::default());
    a_session_is_rotated(&writer, &store).await;
    assert_eq!(reseal(&writer).await.current, 1);
}

#[tokio::test]
async fn rotations_that_race_leave_one_of_their_secrets_and_a_revocation_stands() {
    let server = RedisServer::start();
    let writer = Arc::new(writer(&server, both()).await);
    let (now, grace) = (UnixTime::now(), Duration::from_secs(600));
    for round in 0..20 {
        let id = session_id(round);
        writer.put_session(&id, &record(&user("u1"))).await.unwrap();
        let rotations: Vec<_> = (10..14)
            .map(|byte| {
                let writer = Arc::clone(&writer);
                let secret = SessionSecret::new([byte; 32]);
                tokio::spawn(async move { writer.rotate_session(&id, &secret, grace, now).await.unwrap() })
            })
            .collect();
        writer.revoke_session(&id, now).await.unwrap();
        for rotation in rotations {
            assert!(matches!(rotation.await.unwrap(), Rotation::Rotated(_) | Rotation::Revoked(_)));
        }
        let left: Record = writer.session(&id).await.unwrap().unwrap();
        assert_eq!(left.revoked_at, Some(now));
        assert!([7, 10, 11, 12, 13].contains(&left.secret.expose()[0]));
    }
}

#[tokio::test]
async fn a_ban_is_read_alone_whatever_else_is_broken() {
    let server = RedisServer::start();
    let (writer, mut redis, u1) = (writer(&server, old()).await, client(&server).await, user("u1"));
    assert_eq!(writer.ban(&u1).await, Ok(None));
    let ban = Ban::new(UnixTime(0), "spam");
    writer.put_ban(&u1, &ban).await.unwrap();
    run(&mut redis, &["SET", "im:token:u1", "no token"]).await;
    assert_eq!(writer.ban(&u1).await, Ok(Some(ban)));
    writer.delete_ban(&u1).await.unwrap();
    assert_eq!(writer.ban(&u1).await, Ok(None));
    run(&mut redis, &["SET", "imgate:ban:u1", "{}"]).await;
    assert!(matches!(writer.ban(&u1).await, Err(WriteError::Unavailable(Unavailable::Broken(_)))));
}

#[tokio::test]
async fn the_mark_is_seen_and_written_only_when_asked_for() {
    let server = RedisServer::start();
    let writer = Writer::connect(patient(&server.url()), old()).await.unwrap();
    writer.put_session(&session_id(1), &record(&user("u1"))).await.unwrap();
    assert_eq!(writer.is_marked().await, Ok(false));
    writer.put_mark().await.unwrap();
    assert_eq!(writer.is_marked().await, Ok(true));
}
