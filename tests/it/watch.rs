//! Files that are watched: whichever way they change, and whatever they hold while they do.

use std::path::{Path, PathBuf};

use openim_standin::{Options, Standin};

use crate::support::{Gateway, RedisServer, Sent, Setup, eventually};

const OK: &str = "configuration reloaded";
const REFUSED: &str = "configuration refused";
const LISTED: &str = "  - { prefix: /listed/, upstream: openim_api, chain: listed, public: true }";

struct World {
    _openim: Standin,
    _redis: RedisServer,
    gateway: Gateway,
    /// The configuration that the gateway started with.
    yaml: String,
}

/// A gateway whose configuration is a file, a table and a list of addresses.
async fn world(watch: bool) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.chains = "  listed:\n    - ip_deny: { file: list.txt }".to_owned();
    setup.routes =
        format!("  - {{ table: jobs.yaml, at: /jobs, upstream: openim_api, public: true }}\n{LISTED}");
    setup.more = format!("watch: {watch}");
    let files = [("list.txt", "10.0.0.0/8\n"), ("jobs.yaml", "post: [/first]\n")];
    setup.files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let yaml = setup.yaml();
    World { gateway: setup.start().await, _openim: openim, _redis: redis, yaml }
}

impl World {
    fn file(&self, name: &str) -> PathBuf {
        self.gateway.config().with_file_name(name)
    }

    /// The configuration with one more public route, `/<name>/`.
    fn with_route(&self, name: &str) -> String {
        let route = format!("routes:\n  - {{ prefix: /{name}/, upstream: openim_api, public: true }}");
        self.yaml.replacen("routes:", &route, 1)
    }

    /// Waits until this is said once more than before `change`.
    async fn said_after(&self, message: &str, change: impl FnOnce()) {
        let count = || self.gateway.stderr().matches(message).count();
        let before = count();
        change();
        eventually(message, async || count() > before).await;
    }

    async fn is_routed(&self, path: &str) -> bool {
        self.gateway.send(&Sent::new("POST", path).body(b"{}")).await.json()["errCode"] != 20201
    }

    /// The last line with this message.
    fn line(&self, message: &str) -> serde_json::Value {
        let text = self.gateway.stderr();
        let line = text.lines().rfind(|line| line.contains(message)).unwrap();
        serde_json::from_str(line).unwrap()
    }
}

#[tokio::test]
async fn a_file_is_taken_up_whichever_way_it_is_replaced() {
    let w = world(true).await;
    let file = w.gateway.config();
    w.said_after(OK, || std::fs::write(&file, w.with_route("written")).unwrap()).await;
    assert!(w.is_routed("/written/x").await);

    w.said_after(OK, || {
        std::fs::write(w.file("new"), w.with_route("renamed")).unwrap();
        std::fs::rename(w.file("new"), &file).unwrap();
    })
    .await;
    assert!(w.is_routed("/renamed/x").await && !w.is_routed("/written/x").await);

    // As vi does it: the old one is moved away, and a new one is written.
    w.said_after(OK, || {
        std::fs::rename(&file, w.file("imgate.yaml~")).unwrap();
        std::fs::write(&file, w.with_route("moved")).unwrap();
    })
    .await;
    eventually("the new file is in force", async || w.is_routed("/moved/x").await).await;
}

#[tokio::test]
async fn a_mounted_config_map_is_taken_up_when_its_link_is_swapped() {
    let w = world(true).await;
    let publish = |generation: &str, name: &str| {
        std::fs::create_dir(w.file(generation)).unwrap();
        std::fs::write(w.file(generation).join("imgate.yaml"), w.with_route(name)).unwrap();
        std::os::unix::fs::symlink(generation, w.file("..data_tmp")).unwrap();
        std::fs::rename(w.file("..data_tmp"), w.file("..data")).unwrap();
    };
    w.said_after(OK, || {
        publish("..first", "linked");
        std::os::unix::fs::symlink(Path::new("..data/imgate.yaml"), w.file("link")).unwrap();
        std::fs::rename(w.file("link"), w.gateway.config()).unwrap();
    })
    .await;
    assert!(w.is_routed("/linked/x").await);
    w.said_after(OK, || {
        publish("..second", "swapped");
        std::fs::remove_dir_all(w.file("..first")).unwrap();
    })
    .await;
    assert!(w.is_routed("/swapped/x").await && !w.is_routed("/linked/x").await);
}

#[tokio::test]
async fn every_file_that_was_read_is_watched_and_a_change_is_told_by_name() {
    let w = world(true).await;
    w.said_after(OK, || std::fs::write(w.file("jobs.yaml"), "post: [/first, /second]\n").unwrap()).await;
    assert!(w.is_routed("/jobs/second").await);
    let line = w.line(OK);
    assert_eq!(line["added"], "routes: POST /jobs/second", "{line}");
    assert_eq!(
        (&line["removed"], &line["changed"], &line["files"]),
        (&"".into(), &"".into(), &"jobs.yaml".into())
    );

    w.said_after(OK, || std::fs::write(w.file("list.txt"), "127.0.0.0/8\n").unwrap()).await;
    let reply = w.gateway.send(&Sent::new("GET", "/listed/x")).await;
    assert_eq!(reply.status, 403);
    assert_eq!(w.line(OK)["files"], "list.txt");

    let changed = w.yaml.replace("ttl: 60s", "ttl: 59s").replace(LISTED, "");
    w.said_after(OK, || std::fs::write(w.gateway.config(), changed).unwrap()).await;
    let line = w.line(OK);
    assert_eq!((&line["added"], &line["changed"]), (&"".into(), &"identity.cache".into()), "{line}");
    // A method is named in so far as the route has it; this one has all.
    let removed = line["removed"].as_str().unwrap();
    assert!(removed.starts_with("routes: ") && removed.ends_with(" /listed/*"), "{line}");
    for (section, count) in [("routes", 2.0), ("identity", 1.0)] {
        let metric = format!("imgate_config_changes_total{{section=\"{section}\"}}");
        assert_eq!(w.gateway.metric(&metric).await, count, "{section}");
    }
}

#[tokio::test]
async fn a_file_that_breaks_or_goes_changes_nothing_until_it_is_mended() {
    let w = world(true).await;
    let (file, table) = (w.gateway.config(), w.file("jobs.yaml"));
    let whole = w.with_route("whole");
    let hash = w.gateway.metric("imgate_config_hash").await;
    w.said_after(REFUSED, || std::fs::write(&file, &whole[..whole.len() / 2]).unwrap()).await;
    assert_eq!(w.gateway.metric("imgate_config_last_load_ok").await, 0.0);
    w.said_after(REFUSED, || std::fs::remove_file(&file).unwrap()).await;
    // In place of the file stands something that cannot be read.
    w.said_after(REFUSED, || std::fs::create_dir(&file).unwrap()).await;
    assert!(w.is_routed("/jobs/first").await && !w.is_routed("/whole/x").await);
    assert_eq!(w.gateway.metric("imgate_config_hash").await, hash);
    w.said_after(OK, || {
        std::fs::remove_dir(&file).unwrap();
        std::fs::write(&file, &whole).unwrap();
    })
    .await;
    assert!(w.is_routed("/whole/x").await);
    assert_eq!(w.gateway.metric("imgate_config_last_load_ok").await, 1.0);
    assert_ne!(w.gateway.metric("imgate_config_hash").await, hash);

    w.said_after(REFUSED, || std::fs::remove_file(&table).unwrap()).await;
    assert!(w.is_routed("/jobs/first").await);
    w.said_after(OK, || std::fs::write(&table, "post: [/third]\n").unwrap()).await;
    assert!(w.is_routed("/jobs/third").await && !w.is_routed("/jobs/first").await);
}

#[tokio::test]
async fn nothing_is_watched_unless_the_file_says_so() {
    let w = world(false).await;
    let (file, watching) = (w.gateway.config(), w.with_route("now").replace("watch: false", "watch: true"));
    std::fs::write(&file, w.with_route("early")).unwrap();
    w.said_after(OK, || {
        std::fs::write(&file, &watching).unwrap();
        w.gateway.signal("-HUP");
    })
    .await;
    // Had it been watched, the first change would have been a reload of its own.
    let reloads = "imgate_config_reloads_total{result=\"ok\"}";
    assert_eq!(w.gateway.metric(reloads).await, 1.0);
    w.said_after(OK, || std::fs::write(&file, &w.yaml).unwrap()).await;
    // The new file says that nothing is watched any more; told to reload it as it is, it says so.
    w.said_after("configuration reloaded: nothing changed", || w.gateway.signal("-HUP")).await;
    assert_eq!(w.gateway.metric(reloads).await, 3.0);
}
