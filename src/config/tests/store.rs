//! Where records come from: one Redis, a Sentinel group, a cluster.

use imgate_identity::store::{Proof, Servers};
use tempfile::TempDir;

use super::{refused, with};
use crate::config::{Config, StoreSource};

#[test]
fn a_store_that_makes_no_sense_is_refused_with_its_place() {
    let address = "an address is a host and a port, as in 10.0.0.1:6379 or [::1]:6379";
    let name = "no name: it is empty, or holds a space or something that cannot be printed";
    let cases = [
        (r#"cluster: { nodes: [] }"#, "cluster.nodes: needs at least one entry"),
        (r#"cluster: { nodes: ["h"] }"#, &format!("cluster.nodes[0]: {address}")),
        (r#"cluster: { nodes: ["redis://h:1"] }"#, &format!("cluster.nodes[0]: {address}")),
        (r#"cluster: { nodes: ["h:1", "h:1"] }"#, "cluster.nodes[1]: stands here twice"),
        (r#"cluster: { nodes: ["h:1"], user: "a b" }"#, &format!("cluster.user: {name}")),
        (
            r#"sentinel: { master: "", sentinels: { addresses: ["h:1"] } }"#,
            &format!("sentinel.master: {name}"),
        ),
        (
            r#"sentinel: { master: m, sentinels: { addresses: [] } }"#,
            "sentinel.sentinels.addresses: needs at least one entry",
        ),
        (
            r#"redis: { url: "redis://h:1", tls: {} }"#,
            "redis.tls: the URL asks for no TLS\nhint: write rediss://",
        ),
        (r#"redis: { url: "rediss://h:1", tls: { ca: absent } }"#, "redis.tls.ca: cannot be read: "),
        (
            r#"redis: { url: "rediss://h:1", tls: { certificate: absent } }"#,
            "redis.tls: a certificate and its key go together",
        ),
    ];
    for (store, expected) in cases {
        let error = refused("memory: {}", store);
        assert!(error.contains(&format!(": identity.store.{expected}")), "{store}: {error}");
    }
    let unknown = refused("memory: {}", r#"cluster: { nodes: ["h:1"], pasword: x }"#);
    assert!(unknown.contains("pasword"), "{unknown}");
}

#[test]
fn a_sentinel_group_has_two_passwords_and_a_cluster_one() {
    let folder = TempDir::new().unwrap();
    for (name, text) in [("redis", "one\n"), ("sentinel", "two\n")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let load = |store: &str| {
        let config = Config::parse(&with("memory: {}", store), "imgate.yaml", folder.path()).unwrap();
        match config.identity.store {
            StoreSource::Redis(redis) => redis,
            StoreSource::Memory => panic!("the store is Redis"),
        }
    };
    let redis = load(
        r#"sentinel: { master: m, database: 2, user: a, password: { file: redis }, proof: info,
        sentinels: { addresses: ["h:1", "[::1]:2"], user: b, password: { file: sentinel } } }"#,
    );
    assert_eq!(redis.login.password.unwrap().expose(), "one");
    assert_eq!(redis.proof, Proof::Info);
    let Servers::Sentinel(group) = redis.servers else { panic!("the store is a group") };
    assert_eq!((group.master.as_str(), group.database, group.sentinels.len()), ("m", 2, 2));
    assert_eq!(group.login.user.as_deref(), Some("b"));
    assert_eq!(group.login.password.unwrap().expose(), "two");

    let redis = load(r#"cluster: { nodes: ["h:1", "h:2"], password: { file: redis } }"#);
    assert_eq!(redis.login.password.unwrap().expose(), "one");
    let Servers::Cluster(nodes) = redis.servers else { panic!("the store is a cluster") };
    assert_eq!((nodes.len(), redis.proof), (2, Proof::Canary));
}
