//! A store, the Redis behind it and a client of the test's own, in one place.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use imgate_identity::key::Keys;
use imgate_identity::session::{Record, SessionId, SessionSecret};
use imgate_identity::store::{CacheConfig, Health, RedisConfig, Store, Writer};
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use super::redis_server::RedisServer;

/// How long something that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the stores of these tests wait for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(250);

/// A marked Redis with a store on it that is live.
pub(crate) struct Rig {
    pub(crate) store: Arc<Store>,
    pub(crate) writer: Writer,
    pub(crate) redis: MultiplexedConnection,
    pub(crate) server: RedisServer,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(CacheConfig::default()).await
    }

    pub(crate) async fn with(cache: CacheConfig) -> Self {
        let server = RedisServer::start();
        let url = server.url();
        Self::on(server, &url, cache).await
    }

    /// A store that reaches `server` by `url`.
    pub(crate) async fn on(server: RedisServer, url: &str, cache: CacheConfig) -> Self {
        let writer = Writer::connect(patient(&server.url()), Keys::default()).await.unwrap();
        writer.put_mark().await.unwrap();
        let store = Store::redis(patient(url), Keys::default(), cache).unwrap();
        live(&store).await;
        let redis = client(&server).await;
        Self { store, writer, redis, server }
    }

    /// Sends a command on the test's own connection.
    pub(crate) async fn run(&mut self, words: &[&str]) {
        run(&mut self.redis, words).await;
    }

    /// How often Redis ran `command` so far.
    pub(crate) async fn calls(&mut self, command: &str) -> u64 {
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut self.redis).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|rest| rest.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
    }
}

/// A configuration that a busy machine can keep.
pub(crate) fn patient(url: &str) -> RedisConfig {
    RedisConfig { timeout: TIMEOUT, ..RedisConfig::new(url) }
}

pub(crate) async fn client(server: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

pub(crate) async fn run(redis: &mut MultiplexedConnection, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec_async(redis).await.unwrap();
}

/// Waits until the store is live.
pub(crate) async fn live(store: &Store) {
    eventually("the store is live", async || store.health() == Health::Live).await;
}

/// Polls until `happened`, or fails naming `what`.
pub(crate) async fn eventually(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !happened().await {
        assert!(Instant::now() < give_up, "it took too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(crate) fn platform(number: u8) -> Platform {
    Platform::try_from(number).unwrap()
}

/// A session record of `user` that is valid for an hour.
pub(crate) fn record(user: &UserId) -> Record {
    let now = UnixTime::now();
    Record {
        user: user.clone(),
        secret: SessionSecret::new([7; 32]),
        device: "d1".into(),
        platform: platform(2),
        issued_at: now,
        expires_at: now.plus(Duration::from_secs(3600)),
        revoked_at: None,
        previous: None,
    }
}

/// A token as OpenIM would mint it, told apart by `serial`.
pub(crate) fn token(user: &str, platform: u8, expires_at: UnixTime, serial: u64) -> String {
    let claims = format!(
        r#"{{"UserID":"{user}","PlatformID":{platform},"exp":{expires_at},"nbf":0,"iat":0,"serial":{serial}}}"#
    );
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims), part("signature"))
}

/// A token that is valid for an hour.
pub(crate) fn fresh_token(user: &str, platform: u8, serial: u64) -> String {
    token(user, platform, UnixTime::now().plus(Duration::from_secs(3600)), serial)
}

/// The text of the one token that the store knows of a user.
pub(crate) async fn known_token(store: &Store, id: &UserId) -> Option<String> {
    let user = store.user(id).await.unwrap();
    user.token(platform(2)).map(|token| token.expose().to_owned())
}

pub(crate) fn session_id(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

/// The serial of a token made here.
pub(crate) fn serial(token: &str) -> Option<u64> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let text = String::from_utf8(claims).ok()?;
    let (_, rest) = text.split_once("\"serial\":")?;
    rest.trim_end_matches('}').parse().ok()
}
