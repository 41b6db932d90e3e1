//! A Redis Cluster: changes on every master are seen, and slots and masters may move.

use std::sync::Arc;
use std::time::Duration;

use imgate_identity::key::Keys;
use imgate_identity::store::{
    Address, CacheConfig, Claim, Health, Policy, RedisConfig, Servers, Store, Taken, Unavailable, Writer,
};
use imgate_identity::time::UnixTime;
use imgate_identity::user::UserId;

use crate::nodes::{Cluster, ask};
use crate::rig::{eventually, fresh_token, record, session_id, user};
use crate::{Witness, in_time, token_of};

const USERS: u64 = 24;

struct World {
    store: Arc<Store>,
    writer: Writer,
    cluster: Cluster,
}

fn config(cluster: &Cluster) -> RedisConfig {
    // Any node will do to begin with, also one that is a replica or not there.
    let mut seeds = vec![Address::parse("127.0.0.1:1").unwrap()];
    seeds.extend(
        cluster.nodes[Cluster::MASTERS..].iter().map(|node| Address::parse(&node.address()).unwrap()),
    );
    RedisConfig {
        timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(3),
        ..RedisConfig::of(Servers::Cluster(seeds))
    }
}

fn ids() -> Vec<UserId> {
    (0..USERS).map(|number| user(&format!("u{number}"))).collect()
}

impl World {
    /// A marked cluster in which every user has a token, and a store on it that is live.
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let writer = Writer::connect(config(&cluster), Keys::default()).await.unwrap();
        assert!(!writer.is_marked().await.unwrap());
        writer.put_mark().await.unwrap();
        assert!(writer.is_marked().await.unwrap());
        let cache = CacheConfig { stale_grace: Duration::from_secs(60), ..CacheConfig::default() };
        let store = Store::redis(config(&cluster), Keys::default(), cache).unwrap();
        let world = Self { store, writer, cluster };
        world.write(1).await;
        in_time("the store is live", async || world.store.health() == Health::Live).await;
        world
    }

    /// Gives every user a new token. Tries again what the cluster does not take meanwhile.
    async fn write(&self, serial: u64) {
        for id in ids() {
            let token = fresh_token(id.as_str(), 2, serial);
            in_time("a token is written", async || self.writer.put_token(&id, &token).await.is_ok()).await;
        }
    }

    /// Waits until every user is known with the token of `serial`.
    async fn knows(&self, serial: u64) {
        for id in ids() {
            let token = Ok(Some(fresh_of(&id, serial)));
            in_time("the token is seen", async || same(&token_of(&self.store, &id).await, &token)).await;
        }
    }

    async fn is_live(&self) {
        in_time("the store is live", async || self.store.health() == Health::Live).await;
    }
}

fn fresh_of(id: &UserId, serial: u64) -> String {
    fresh_token(id.as_str(), 2, serial)
}

/// Whether two tokens have the same serial; the time in them differs.
fn same(one: &Result<Option<String>, Unavailable>, other: &Result<Option<String>, Unavailable>) -> bool {
    let serial = |token: &Result<Option<String>, Unavailable>| match token {
        Ok(Some(token)) => crate::rig::serial(token),
        Ok(None) | Err(_) => None,
    };
    serial(one).is_some() && serial(one) == serial(other)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_on_every_master_are_seen_and_nothing_is_lost_on_the_way() {
    let w = World::start().await;
    let mut masters = [0; Cluster::MASTERS];
    for id in ids() {
        masters[w.cluster.master_of(&format!("im:token:{id}")).await] += 1;
    }
    assert!(masters.iter().all(|users| *users > 0), "{masters:?}");
    w.knows(1).await;
    w.knows(1).await;
    let loads = w.store.stats().loads;
    w.knows(1).await;
    assert_eq!(w.store.stats().loads, loads, "what is cached costs nothing");

    w.write(2).await;
    w.knows(2).await;
    for number in 0..12 {
        let (id, owner) = (session_id(number), user("u1"));
        w.writer.put_session(&id, &record(&owner)).await.unwrap();
        eventually("the session is found", async || w.store.session(&id).await.unwrap().is_some()).await;
        w.writer.revoke_session(&id, UnixTime::now()).await.unwrap();
        let revoked = async || w.store.session(&id).await.unwrap().unwrap().revoked_at.is_some();
        eventually("the revocation is seen", revoked).await;
        let nonce = format!("n{number}");
        let ttl = Duration::from_secs(60);
        assert_eq!(w.store.claim_nonce(&id, &nonce, ttl).await, Ok(Claim::Fresh));
        assert_eq!(w.store.claim_nonce(&id, &nonce, ttl).await, Ok(Claim::Seen));
    }
    for caller in ids() {
        let policy = Policy::new("per user", Duration::from_secs(3600), 1);
        let passed = async || w.store.take(&policy, caller.as_str().as_bytes()).await.unwrap();
        assert!(matches!(passed().await, Taken::Passed { .. }), "{caller}");
        assert!(matches!(passed().await, Taken::Refused { .. }), "{caller}");
    }
    assert_eq!(w.store.probe().await, Ok(()));
    assert_eq!(w.store.stats().link_losses, 0);

    // The whole of the cluster is gone through, page by page.
    let (mut cursor, mut found) = (Some(0), 0);
    while let Some(at) = cursor {
        let page = w.writer.reseal_sessions(at).await.unwrap();
        assert_eq!((page.resealed, page.broken.len()), (0, 0));
        (cursor, found) = (page.next, found + page.current);
    }
    assert_eq!(found, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_while_it_is_read_is_followed() {
    let w = World::start().await;
    w.knows(1).await;
    let id = user("u1");
    let key = "im:token:u1";
    let slot = w.cluster.slot(key).await;
    let from = w.cluster.master_of(key).await;
    let to = (from + 1) % Cluster::MASTERS;
    let (source, target) = (&w.cluster.nodes[from], &w.cluster.nodes[to]);
    let (source_id, target_id) = (w.cluster.id(from).await, w.cluster.id(to).await);
    let witness = Witness::new(&w.store, vec![id.clone()]);
    let losses = w.store.stats().link_losses;

    ask(target, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await.unwrap();
    ask(source, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await.unwrap();
    let address = target.address();
    let (host, port) = address.split_once(':').unwrap();
    // The record first, and its mark stays behind for a while.
    ask(source, &["MIGRATE", host, port, key, "0", "5000"]).await.unwrap();
    for serial in 2..5 {
        let new = fresh_of(&id, serial);
        w.writer.put_token(&id, &new).await.unwrap();
        in_time("a change is seen half way", async || {
            same(&token_of(&w.store, &id).await, &Ok(Some(new.clone())))
        })
        .await;
    }
    let mut connection = crate::nodes::connect(source).await.unwrap();
    let left: Vec<String> = redis::cmd("CLUSTER")
        .arg("GETKEYSINSLOT")
        .arg(&slot)
        .arg(100)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(!left.is_empty(), "the mark is still there");
    for key in left {
        ask(source, &["MIGRATE", host, port, &key, "0", "5000"]).await.unwrap();
    }
    for node in [target, source] {
        ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await.unwrap();
    }
    let new = fresh_of(&id, 9);
    w.writer.put_token(&id, &new).await.unwrap();
    in_time("a change is seen after the move", async || {
        same(&token_of(&w.store, &id).await, &Ok(Some(new.clone())))
    })
    .await;
    let (served, unknown) = witness.tells().await;
    assert!(served > 0 && unknown == 0, "{served} served, {unknown} not");
    assert_eq!(w.store.stats().link_losses, losses, "both masters were linked to all along");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_over_by_hand_is_followed() {
    let w = World::start().await;
    w.knows(1).await;
    let witness = Witness::new(&w.store, ids());
    w.cluster.promote(Cluster::MASTERS).await;
    w.write(2).await;
    w.knows(2).await;
    w.is_live().await;
    w.write(3).await;
    w.knows(3).await;
    assert!(w.store.stats().link_losses >= 1, "the new master was not linked to before");
    assert!(witness.tells().await.0 > 0);
    // And back.
    w.cluster.settled().await;
    w.cluster.promote(0).await;
    w.write(4).await;
    w.knows(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_dies_is_replaced_and_nobody_is_told_a_lie() {
    let mut w = World::start().await;
    w.knows(1).await;
    let lost = w.cluster.master_of("im:token:u1").await;
    let witness = Witness::new(&w.store, ids());
    w.cluster.nodes[lost].kill();
    in_time("the loss is noticed", async || w.store.health() == Health::Down).await;
    assert!(same(&token_of(&w.store, &user("u1")).await, &Ok(Some(fresh_of(&user("u1"), 1)))), "cached");
    w.cluster.is_master(lost + Cluster::MASTERS).await;
    w.write(2).await;
    w.is_live().await;
    w.knows(2).await;
    w.write(3).await;
    w.knows(3).await;
    let (served, unknown) = witness.tells().await;
    assert!(served > 0 && unknown > 0, "{served} served, {unknown} not");

    // It comes back as a replica, and nobody asks it.
    w.cluster.nodes[lost].restart();
    w.cluster.settled().await;
    w.write(4).await;
    w.knows(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_flushed_is_not_believed_and_the_others_are() {
    let w = World::start().await;
    w.knows(1).await;
    ask(&w.cluster.nodes[0], &["FLUSHALL"]).await.unwrap();
    for id in ids() {
        let there = [format!("im:token:{id}"), format!("imgate:ban:{id}")];
        let flushed = w.cluster.master_of(&there[0]).await == 0 || w.cluster.master_of(&there[1]).await == 0;
        let expected = if flushed { Err(Unavailable::Unmarked) } else { Ok(true) };
        in_time("the flush is noticed", async || {
            token_of(&w.store, &id).await.map(|token| token.is_some()) == expected
        })
        .await;
    }
    assert_eq!(w.store.probe().await, Err(Unavailable::Unmarked));
    assert!(!w.writer.is_marked().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_point_at_each_other_cost_a_bounded_number_of_questions() {
    let w = World::start().await;
    let id = session_id(1);
    w.writer.put_session(&id, &record(&user("u1"))).await.unwrap();
    let key = Keys::default().session(&id);
    let (slot, owner) = (w.cluster.slot(&key).await, w.cluster.master_of(&key).await);
    let other = (owner + 1) % Cluster::MASTERS;
    let ids = [w.cluster.id(owner).await, w.cluster.id(other).await];
    let pair = [&w.cluster.nodes[owner], &w.cluster.nodes[other]];
    // Each says that the other owns the slot. The other first: an owner gives away no slot with keys in it
    // unless it was told where they go.
    ask(pair[0], &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]).await.unwrap();
    ask(pair[0], &["DEL", &key]).await;
    for node in pair {
        ask(node, &["CONFIG", "RESETSTAT"]).await.unwrap();
    }
    let mut connection = crate::nodes::connect(pair[0]).await.unwrap();
    let left: Vec<String> = redis::cmd("CLUSTER")
        .arg("GETKEYSINSLOT")
        .arg(&slot)
        .arg(100)
        .query_async(&mut connection)
        .await
        .unwrap();
    for key in left {
        ask(pair[0], &["DEL", &key]).await;
    }
    ask(pair[0], &["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]).await.unwrap();

    let asked = tokio::time::Instant::now();
    let moved = Err(Unavailable::Refused(imgate_identity::store::Refusal::Moved));
    assert_eq!(w.store.session(&id).await.map(|_| ()), moved);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    let mut hops = 0;
    for node in pair {
        hops += rejected(node, "get").await;
    }
    assert_eq!(hops, 5);

    // Everything else goes on, and so does this once the two agree.
    w.knows(1).await;
    ask(pair[0], &["CLUSTER", "SETSLOT", &slot, "NODE", &ids[0]]).await.unwrap();
    w.writer.put_mark().await.unwrap();
    in_time("the slot is read again", async || matches!(w.store.session(&id).await, Ok(None))).await;
}

/// How often a node turned `command` away.
async fn rejected(node: &crate::redis_server::RedisServer, command: &str) -> u64 {
    let info = ask(node, &["INFO", "commandstats"]).await.unwrap();
    let line = info.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
    let count = line.and_then(|line| line.split("rejected_calls=").nth(1)?.split(',').next()?.parse().ok());
    count.unwrap_or(0)
}
