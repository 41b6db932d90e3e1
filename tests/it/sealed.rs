//! Sealed sessions, seen from outside: what was tampered with is 503 and never 401, and keys change
//! under a running gateway.

use imgate_identity::key::Keys;
use imgate_identity::seal::{KeyId, Plain, SealKeys, Seals};
use imgate_identity::session::{Record, SessionId, SessionSecret};
use imgate_identity::store::{Layout, RedisConfig, Writer};
use imgate_identity::time::UnixTime;
use openim_standin::{Options, Standin};
use redis::aio::MultiplexedConnection;
use serde_json::Value;

use crate::support::{Gateway, Person, RedisServer, Setup, eventually, leaks};

const FRIENDS: &str = "/friend/get_friend_list";

/// A line of a file of seal keys.
fn key(id: &str) -> String {
    let line = SealKeys::fresh_line(&KeyId::parse(id).unwrap()).unwrap();
    leaks::secret(line.expose().split_once(' ').unwrap().1);
    format!("{}\n", line.expose())
}

fn layout(keys: &str) -> Layout {
    let keys = SealKeys::parse(keys).unwrap();
    Layout { keys: Keys::default(), seals: Seals::On { keys, plain: Plain::Refuse } }
}

struct World {
    openim: Standin,
    redis: RedisServer,
    gateway: Gateway,
    connection: MultiplexedConnection,
}

impl World {
    async fn new(keys: &str) -> Self {
        let openim = Standin::start(Options::default()).await.unwrap();
        let redis = RedisServer::start();
        let mut setup = Setup::new(&openim, &redis).patient();
        setup.identity = "  seal_keys: { file: seal.keys }".to_owned();
        setup.files = vec![("seal.keys".to_owned(), keys.to_owned())];
        let gateway = setup.start().await;
        let client = redis::Client::open(redis.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        Self { openim, redis, gateway, connection }
    }

    async fn writer(&self, layout: Layout) -> Writer {
        Writer::connect(RedisConfig::new(self.redis.url()), layout).await.unwrap()
    }

    /// Somebody whose session is sealed with these keys.
    async fn person(&self, user: &str, keys: &str) -> Person {
        let person = Person::unknown(user, &self.openim);
        let writer = self.writer(layout(keys)).await;
        writer.put_mark().await.unwrap();
        writer.put_session(&person.session, &person.record).await.unwrap();
        writer.put_token(&person.user, &person.token).await.unwrap();
        person
    }

    async fn asks(&self, person: &Person) -> (u16, i64) {
        let body = format!(r#"{{"userID":"{}"}}"#, person.user);
        self.gateway.send(&person.post(FRIENDS, &body)).await.verdict()
    }

    async fn get(&mut self, id: &SessionId) -> Value {
        let json: String = redis::cmd("GET")
            .arg(Keys::default().session(id))
            .query_async(&mut self.connection)
            .await
            .unwrap();
        serde_json::from_str(&json).unwrap()
    }

    async fn set(&mut self, id: &SessionId, json: &str) {
        let key = Keys::default().session(id);
        redis::cmd("SET").arg(key).arg(json).exec_async(&mut self.connection).await.unwrap();
    }

    fn said(&self, text: &str) -> usize {
        self.gateway.stderr().matches(text).count()
    }

    async fn reload(&self, keys: &str, word: &str) {
        std::fs::write(self.gateway.config().with_file_name("seal.keys"), keys).unwrap();
        let before = self.said(word);
        self.gateway.signal("-HUP");
        eventually(word, async || self.said(word) > before).await;
    }
}

#[tokio::test]
async fn a_record_that_was_tampered_with_is_503_with_an_alarm_and_nobody_is_logged_out() {
    let keys = key("k1");
    let mut w = World::new(&keys).await;
    let (ann, bob) = (w.person("ann", &keys).await, w.person("bob", &keys).await);
    assert_eq!((w.asks(&ann).await, w.asks(&bob).await), ((200, 0), (200, 0)));
    let (good, bobs) = (w.get(&ann.session).await, w.get(&bob.session).await);

    let edited = |field: &str, value: Value| {
        let mut json = good.clone();
        json[field] = value;
        json.to_string()
    };
    let plain = ann.record.write(&ann.session, &Seals::Off).unwrap().expose().clone();
    let sealed = good["secret"].as_str().unwrap();
    let cases = [
        (bobs.to_string(), "broken_seal"),
        (edited("user_id", "bob".into()), "broken_seal"),
        (edited("platform_id", 5.into()), "broken_seal"),
        (edited("expires_at", 9_999_999_999_u64.into()), "broken_seal"),
        (edited("secret", bobs["secret"].clone()), "broken_seal"),
        (edited("secret", sealed[..sealed.len() - 8].into()), "broken_seal_malformed"),
        (edited("secret", sealed.replace("s1.k1.", "s1.k9.").into()), "broken_seal_unknown_key"),
        (plain, "broken_seal_plain"),
    ];
    for (json, cause) in cases {
        let alarm = format!("\"cause\":\"{cause}\"");
        let (alarms, broken) = (w.said(&alarm), failures(&w.gateway).await);
        w.set(&ann.session, &json).await;
        eventually("the record is not believed", async || w.asks(&ann).await == (503, 20401)).await;
        assert_eq!(w.asks(&bob).await, (200, 0), "{cause}");
        assert!(failures(&w.gateway).await > broken, "{cause}");
        // There is one alarm a second, and the record before may have had it.
        eventually("there is an alarm", async || {
            assert_eq!(w.asks(&ann).await, (503, 20401), "{cause}");
            w.said(&alarm) > alarms
        })
        .await;
        w.set(&ann.session, &good.to_string()).await;
        eventually("the record is believed again", async || w.asks(&ann).await == (200, 0)).await;
    }
    assert!(w.said("record in the store is unusable") > 0);
}

async fn failures(gateway: &Gateway) -> f64 {
    gateway.metric("imgate_store_failures_total{cause=\"broken\"}").await
}

#[tokio::test]
async fn a_session_that_somebody_put_into_redis_lets_nobody_in() {
    let keys = key("k1");
    let mut w = World::new(&keys).await;
    let ann = w.person("ann", &keys).await;
    let mut eve = Person::unknown("eve", &w.openim);
    eve.record = Record { user: ann.user.clone(), ..eve.record };
    // Plain, and sealed with a key of her own by the name of ours.
    for layout in [Layout::default(), layout(&key("k1"))] {
        let forged = eve.record.write(&eve.session, &layout.seals).unwrap().expose().clone();
        w.set(&eve.session, &forged).await;
        assert_eq!(w.asks(&eve).await, (503, 20401));
    }
    assert_eq!(w.asks(&ann).await, (200, 0));
}

#[tokio::test]
async fn seal_keys_change_under_a_running_gateway() {
    let (old, new) = (key("old"), key("new"));
    let w = World::new(&old).await;
    let ann = w.person("ann", &old).await;
    assert_eq!(w.asks(&ann).await, (200, 0));

    w.reload(&format!("{new}{old}"), "configuration reloaded").await;
    let bob = w.person("bob", &format!("{new}{old}")).await;
    eventually("both keys open", async || w.asks(&ann).await == (200, 0) && w.asks(&bob).await == (200, 0))
        .await;

    // A file that is none changes nothing.
    w.reload("new\n", "configuration refused").await;
    assert!(w.gateway.stderr().contains("identity.seal_keys: line 1: not a key id, a space and a key"));
    assert_eq!((w.asks(&ann).await, w.asks(&bob).await), ((200, 0), (200, 0)));

    // Too early: what only the old key opens is nobody's fault but ours.
    w.reload(&new, "configuration reloaded").await;
    eventually("the old key is gone", async || w.asks(&ann).await == (503, 20401)).await;
    eventually("the new key opens", async || w.asks(&bob).await == (200, 0)).await;
    assert_eq!(w.asks(&ann).await, (503, 20401), "and it stays so");

    let writer = w.writer(layout(&format!("{new}{old}"))).await;
    assert_eq!(writer.reseal_sessions(0).await.unwrap().resealed, 1);
    eventually("the session is sealed anew", async || w.asks(&ann).await == (200, 0)).await;
}

#[tokio::test]
async fn without_seal_keys_sealed_sessions_are_503() {
    let keys = key("k1");
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let gateway = Setup::new(&openim, &redis).patient().start().await;
    let client = redis::Client::open(redis.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let w = World { openim, redis, gateway, connection };
    let ann = w.person("ann", &keys).await;
    assert_eq!(w.asks(&ann).await, (503, 20401));
    eventually("there is an alarm", async || w.said("\"cause\":\"broken_seal_no_keys\"") > 0).await;
    // Whoever has a plain session goes on.
    let bob = Person::new("bob", &w.redis, &w.openim).await;
    assert_eq!(w.asks(&bob).await, (200, 0));
}

#[tokio::test]
async fn a_sealed_session_that_is_rotated_takes_the_old_secret_for_the_grace_only() {
    let keys = key("k1");
    let w = World::new(&keys).await;
    let before = w.person("ann", &keys).await;
    assert_eq!(w.asks(&before).await, (200, 0));
    let mut after = before.clone();
    after.record.secret = SessionSecret::random().unwrap();
    leaks::secret(after.secret().expose());

    let writer = w.writer(layout(&keys)).await;
    let grace = std::time::Duration::from_secs(2);
    writer.rotate_session(&before.session, &after.record.secret, grace, UnixTime::now()).await.unwrap();
    eventually("the new secret is taken", async || w.asks(&after).await == (200, 0)).await;
    eventually("the old secret is refused", async || w.asks(&before).await == (401, 20104)).await;
    assert_eq!(w.asks(&after).await, (200, 0));

    writer.revoke_session(&before.session, UnixTime::now()).await.unwrap();
    eventually("a revocation is a verdict", async || w.asks(&after).await == (401, 1506)).await;
}
