//! The gateway and its command line on a Redis Cluster, and on a Sentinel group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openim_standin::{Options, Standin};
use tokio::task::JoinHandle;

use super::{PATH, UNKNOWN, ask, telling};
use crate::support::cluster::{self, Cluster};
use crate::support::command::imgate;
use crate::support::sentinel::{self, GROUP, Group, PASSWORD, SENTINEL_PASSWORD};
use crate::support::{Client, Gateway, Person, Setup, Upstream, within};

/// How long a group of servers may take to get over the loss of one, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(90);

/// People spread over all masters of a cluster.
const PEOPLE: usize = 9;

struct World {
    gateway: Gateway,
    people: Vec<Person>,
    _openim: Standin,
    _upstream: Upstream,
}

/// A gateway on this store, which the command line has marked and filled.
async fn world(store: String, more: &[(&str, &str)]) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let upstream = telling().await;
    let mut setup = Setup::at(upstream.address, upstream.address, "127.0.0.1:1");
    setup.store = store;
    setup.cache = "ttl: 60s, stale_grace: 60s".to_owned();
    setup.files = more.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let gateway = setup.start().await;
    let names: Vec<String> = (0..PEOPLE).map(|number| format!("person{number}")).collect();
    let people = names.iter().map(|name| Person::unknown(name, &openim)).collect();
    World { gateway, people, _openim: openim, _upstream: upstream }
}

impl World {
    /// Runs the command line on the gateway's own configuration, until it goes well.
    async fn run(&self, arguments: &[&str]) {
        let dir = self.gateway.config().parent().unwrap().to_owned();
        let arguments: Vec<String> = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .chain(["-c".into(), "imgate.yaml".into()])
            .collect();
        within(RECOVERY, "the command goes well", async || {
            let (dir, arguments) = (dir.clone(), arguments.clone());
            let run = move || imgate(&dir, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).code;
            tokio::task::spawn_blocking(run).await.unwrap() == 0
        })
        .await;
    }

    async fn is(&self, who: &Person, verdict: (u16, i64)) {
        let what = format!("{} gets {verdict:?}", who.user);
        within(RECOVERY, &what, async || ask(&self.gateway, who).await.verdict() == verdict).await;
    }

    async fn up(&self, up: f64) {
        within(RECOVERY, "the store is up or down", async || {
            self.gateway.metric("imgate_store_up").await == up
        })
        .await;
    }

    /// Asks for somebody all the time, who must be served or told that the gateway does not know.
    fn witness(&self, who: &Person) -> (Arc<AtomicBool>, JoinHandle<u32>) {
        let stop = Arc::new(AtomicBool::new(false));
        let (until, address, who) = (Arc::clone(&stop), self.gateway.address, who.clone());
        let task = tokio::spawn(async move {
            let mut served = 0;
            while !until.load(Ordering::SeqCst) {
                match Client::once(address, &who.post(PATH, "{}")).await.verdict() {
                    (200, 0) => served += 1,
                    UNKNOWN => {}
                    other => panic!("{} was told {other:?}", who.user),
                }
            }
            served
        });
        (stop, task)
    }
}

/// Writes what people have through a writer to the same store.
async fn write(writer: &imgate_identity::store::Writer, people: &[Person]) {
    for person in people {
        writer.put_session(&person.session, &person.record).await.unwrap();
        writer.put_token(&person.user, &person.token).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_revocations_are_seen_on_every_master_and_a_dead_one_is_replaced() {
    use imgate_identity::store::{Address, RedisConfig, Servers, Writer};

    let mut cluster = Cluster::start().await;
    let nodes: Vec<String> = cluster.addresses().iter().map(|address| format!("\"{address}\"")).collect();
    let store = format!("cluster: {{ nodes: [{}], timeout: 2s, connect_timeout: 3s }}", nodes.join(", "));
    let w = world(store, &[]).await;
    assert_eq!(ask(&w.gateway, &w.people[0]).await.verdict(), UNKNOWN, "nobody has marked the store");
    w.run(&["store", "mark"]).await;
    let seeds = cluster.addresses().iter().map(|address| Address::parse(address).unwrap()).collect();
    let config = RedisConfig { timeout: Duration::from_secs(5), ..RedisConfig::of(Servers::Cluster(seeds)) };
    let writer = Writer::connect(config, imgate_identity::key::Keys::default()).await.unwrap();
    write(&writer, &w.people).await;
    w.up(1.0).await;
    for person in &w.people {
        w.is(person, (200, 0)).await;
    }

    let (last, others) = w.people.split_last().unwrap();
    let witness = w.witness(last);
    let mut masters = [0; Cluster::MASTERS];
    for person in &others[..PEOPLE - 3] {
        masters[cluster.master_of(&format!("imgate:ban:{}", person.user)).await] += 1;
        w.run(&["ban", "set", person.user.as_str()]).await;
        w.is(person, (401, 1506)).await;
    }
    assert!(masters.iter().all(|seen| *seen > 0), "{masters:?}");

    let lost = cluster.master_of(&format!("im:token:{}", last.user)).await;
    cluster.nodes[lost].kill();
    w.up(0.0).await;
    cluster.is_master(lost + Cluster::MASTERS).await;
    w.up(1.0).await;
    for person in &others[PEOPLE - 3..] {
        w.is(person, (200, 0)).await;
        w.run(&["session", "revoke", &person.session.to_string()]).await;
        w.is(person, (401, 1506)).await;
    }
    witness.0.store(true, Ordering::SeqCst);
    assert!(witness.1.await.unwrap() > 0);
    w.is(last, (200, 0)).await;
    cluster::ask(&cluster.nodes[lost + Cluster::MASTERS], &["PING"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_sentinel_group_cached_callers_go_on_and_all_is_well_with_the_next_master() {
    let mut group = Group::start().await;
    let sentinels: Vec<String> =
        group.sentinels.iter().map(|sentinel| format!("\"{}\"", sentinel.address())).collect();
    let store = format!(
        "sentinel: {{ master: {GROUP}, timeout: 2s, connect_timeout: 3s, password: {{ file: redis }}, \
         sentinels: {{ addresses: [{}], password: {{ file: sentinel }} }} }}",
        sentinels.join(", ")
    );
    for password in [PASSWORD, SENTINEL_PASSWORD] {
        crate::support::leaks::secret(password);
    }
    let w = world(store, &[("redis", PASSWORD), ("sentinel", SENTINEL_PASSWORD)]).await;
    w.run(&["store", "mark"]).await;
    let url = group.servers[0].url().replace("redis://", &format!("redis://:{PASSWORD}@"));
    let config = imgate_identity::store::RedisConfig {
        timeout: Duration::from_secs(5),
        ..imgate_identity::store::RedisConfig::new(url)
    };
    let keys = imgate_identity::key::Keys::default();
    let writer = imgate_identity::store::Writer::connect(config, keys).await.unwrap();
    write(&writer, &w.people).await;
    w.up(1.0).await;
    let (cached, rest) = w.people.split_at(2);
    for person in cached {
        w.is(person, (200, 0)).await;
    }
    for server in &group.servers[1..] {
        sentinel::agreed("a replica is in step", async || {
            let key = format!("im:token:{}", rest.last().unwrap().user);
            sentinel::ask(server, &["GET", &key]).await.is_some()
        })
        .await;
    }

    let witness = w.witness(&cached[0]);
    let old = group.servers[0].address();
    group.servers[0].kill();
    w.up(0.0).await;
    assert_eq!(ask(&w.gateway, &cached[1]).await.verdict(), (200, 0), "cached callers go on");
    assert_eq!(ask(&w.gateway, &rest[0]).await.verdict(), UNKNOWN);
    group.another_master(&old).await;
    w.up(1.0).await;
    w.is(&rest[0], (200, 0)).await;
    w.run(&["session", "revoke", &cached[1].session.to_string()]).await;
    w.is(&cached[1], (401, 1506)).await;
    w.run(&["ban", "set", rest[0].user.as_str()]).await;
    w.is(&rest[0], (401, 1506)).await;
    witness.0.store(true, Ordering::SeqCst);
    assert!(witness.1.await.unwrap() > 0);
}
