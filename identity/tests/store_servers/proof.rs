//! A link on which nothing is announced is not believed, however healthy it looks.

use imgate_identity::key::Keys;
use imgate_identity::store::{CacheConfig, Health, Proof, RedisConfig, Store, Unavailable, Writer};

use crate::proxy::{Mode, Proxy, Role};
use crate::redis_server::RedisServer;
use crate::rig::{client, eventually, fresh_token, known_token, patient, run, user};

#[tokio::test]
async fn a_proxy_that_swallows_announcements_is_found_out() {
    let server = RedisServer::start();
    let writer = Writer::connect(patient(&server.url()), Keys::default()).await.unwrap();
    writer.put_mark().await.unwrap();
    let proxy = Proxy::start(server.address()).await;
    proxy.set(Role::Tracking, Mode::Mute);
    let store = Store::redis(patient(&proxy.url()), Keys::default(), CacheConfig::default()).unwrap();
    let silent = Unavailable::Silent;
    eventually("the fault is counted", async || store.link_faults().contains_key(silent.as_str())).await;
    assert_eq!(store.health(), Health::Down);
    assert_eq!(store.probe().await, Err(silent));

    // Nothing is kept: every lookup reads through.
    let mut redis = client(&server).await;
    for serial in 1..5 {
        let token = fresh_token("u1", 2, serial);
        run(&mut redis, &["SET", "im:token:u1", &token]).await;
        assert_eq!(known_token(&store, &user("u1")).await, Some(token));
    }
    assert_eq!(store.stats().hits, 0);

    proxy.set(Role::Tracking, Mode::Pass);
    eventually("the store is live", async || store.health() == Health::Live).await;
}

/// What `Proof::Info` gives up: it takes the server's word.
#[tokio::test]
async fn who_only_asks_does_not_notice_that_announcements_are_swallowed() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await;
    proxy.set(Role::Tracking, Mode::Mute);
    let config = RedisConfig { proof: Proof::Info, require_mark: false, ..patient(&proxy.url()) };
    let store = Store::redis(config, Keys::default(), CacheConfig::default()).unwrap();
    eventually("the store is live", async || store.health() == Health::Live).await;
}
