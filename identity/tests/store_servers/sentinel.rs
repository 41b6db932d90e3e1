//! A Sentinel group: its master is found, lost, and found again; a stale one is not believed.

use std::sync::Arc;
use std::time::Duration;

use imgate_identity::key::Keys;
use imgate_identity::secret::Secret;
use imgate_identity::store::{
    Address, CacheConfig, Health, Login, NoMaster, RedisConfig, SentinelConfig, Servers, Store, Unavailable,
    Writer,
};

use crate::group::{GROUP, Group, PASSWORD, SENTINEL_PASSWORD, ask};
use crate::rig::{eventually, fresh_token, known_token, session_id, user};
use crate::{Witness, in_time, token_of};

fn login(password: &str) -> Login {
    Login { user: None, password: Some(Secret::new(password.to_owned())) }
}

fn config(group: &Group) -> RedisConfig {
    let sentinels = group.sentinels.iter().map(|one| Address::parse(&one.address()).unwrap()).collect();
    let servers = Servers::Sentinel(SentinelConfig {
        master: GROUP.to_owned(),
        sentinels,
        login: login(SENTINEL_PASSWORD),
        tls: None,
        database: 0,
    });
    RedisConfig {
        login: login(PASSWORD),
        timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(3),
        ..RedisConfig::of(servers)
    }
}

struct World {
    store: Arc<Store>,
    writer: Writer,
    group: Group,
}

impl World {
    async fn start() -> Self {
        let group = Group::start().await;
        let writer = Writer::connect(config(&group), Keys::default()).await.unwrap();
        writer.put_mark().await.unwrap();
        let cache = CacheConfig { stale_grace: Duration::from_secs(60), ..CacheConfig::default() };
        let store = Store::redis(config(&group), Keys::default(), cache).unwrap();
        let world = Self { store, writer, group };
        world.write(1).await;
        world.is_live().await;
        assert_eq!(world.store.probe().await, Ok(()));
        world.knows(1).await;
        // The copies are complete before anything is taken away.
        for server in &world.group.servers[1..] {
            in_time("a replica has the token", async || ask(server, &["GET", "im:token:u1"]).await.is_some())
                .await;
        }
        world
    }

    async fn write(&self, serial: u64) {
        let token = fresh_token("u1", 2, serial);
        in_time("the token is written", async || self.writer.put_token(&user("u1"), &token).await.is_ok())
            .await;
    }

    async fn knows(&self, serial: u64) {
        in_time("the token is seen", async || match token_of(&self.store, &user("u1")).await {
            Ok(Some(token)) => crate::rig::serial(&token) == Some(serial),
            Ok(None) => panic!("u1 has a token and was told to have none"),
            Err(_) => false,
        })
        .await;
    }

    async fn is_live(&self) {
        in_time("the store is live", async || self.store.health() == Health::Live).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_dies_is_replaced_and_not_believed_when_it_comes_back() {
    let mut w = World::start().await;
    let old = w.group.servers[0].address();
    let witness = Witness::new(&w.store, vec![user("u1")]);
    w.group.servers[0].kill();
    in_time("the loss is noticed", async || w.store.health() == Health::Down).await;
    assert!(known_token(&w.store, &user("u1")).await.is_some(), "cached callers go on for the grace");
    assert!(w.store.session(&session_id(1)).await.is_err(), "nobody knows who is not cached");
    // It comes back empty and calls itself a master, but the sentinels have chosen another by then.
    w.group.another_master(&old).await;
    w.group.servers[0].restart();
    w.write(2).await;
    w.is_live().await;
    w.knows(2).await;
    w.write(3).await;
    w.knows(3).await;
    assert!(w.store.stats().link_losses >= 1);
    assert!(witness.tells().await.0 > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_by_hand_is_followed_though_a_sentinel_hangs() {
    let w = World::start().await;
    let old = w.group.servers[0].address();
    w.group.sentinels[2].pause();
    let witness = Witness::new(&w.store, vec![user("u1")]);
    in_time("a switch is ordered", async || {
        w.group.sentinels[0].ask(&["SENTINEL", "FAILOVER", GROUP]).await.is_some()
    })
    .await;
    w.group.another_master(&old).await;
    in_time("the switch is noticed", async || w.store.stats().link_losses >= 1).await;
    // What the old master took before it was told may be lost: replicas follow behind.
    in_time("a change is seen", async || {
        w.write(2).await;
        token_of(&w.store, &user("u1"))
            .await
            .is_ok_and(|token| token.and_then(|token| crate::rig::serial(&token)) == Some(2))
    })
    .await;
    w.is_live().await;
    w.write(3).await;
    w.knows(3).await;
    assert!(witness.tells().await.0 > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_most_of_the_sentinels_a_master_is_kept_and_none_is_chosen() {
    let mut w = World::start().await;
    w.group.sentinels[0].kill();
    w.group.sentinels[1].kill();
    let cache = CacheConfig::default();
    let other = Store::redis(config(&w.group), Keys::default(), cache).unwrap();
    let no_majority = Unavailable::NoMaster(NoMaster::Quorum);
    eventually("a new store has no master", async || {
        other.session(&session_id(1)).await.map(|_| ()) == Err(no_majority)
    })
    .await;
    assert_eq!(other.probe().await, Err(no_majority));
    assert_eq!(other.health(), Health::Down);
    w.write(2).await;
    w.knows(2).await;
    w.is_live().await;
    assert_eq!(w.store.stats().link_losses, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_nobody_watches_and_a_wrong_password_are_told_apart() {
    let w = World::start().await;
    let mut unknown = config(&w.group);
    let Servers::Sentinel(group) = &mut unknown.servers else { unreachable!("the store is a group") };
    group.master = "nobody".to_owned();
    let probe = async |config: RedisConfig| {
        Store::redis(config, Keys::default(), CacheConfig::default()).unwrap().probe().await
    };
    assert_eq!(probe(unknown).await, Err(Unavailable::NoMaster(NoMaster::Unknown)));
    let wrong = RedisConfig { login: login(SENTINEL_PASSWORD), ..config(&w.group) };
    assert_eq!(probe(wrong).await.unwrap_err().as_str(), "refused_no_auth");
}
