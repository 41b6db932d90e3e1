//! What operators do to records: mark the store, ban, rotate, seal anew.

use imgate_identity::session::SessionId;

use super::{BODY, FRIENDS, World, json, world};
use crate::support::command::{Ran, imgate, imgate_telling};
use crate::support::{Person, Setup, eventually, leaks, writer};

/// A line for a file of seal keys, as the command makes it.
fn seal_key(id: &str) -> String {
    let ran = imgate_telling(std::path::Path::new("."), &["seal-key", "new", "--id", id]);
    let line = ran.ok();
    let (named, key) = line.trim_end().split_once(' ').unwrap();
    assert_eq!(named, id);
    leaks::secret(key);
    line
}

impl World {
    async fn ban(&self, verb: &str, more: &[&str]) -> String {
        self.run(&[&["ban", verb, "-c", "imgate.yaml", "ann"], more].concat()).await.ok()
    }

    async fn session(&self, verb: &str, more: &[&str]) -> Ran {
        self.run_as(imgate_telling, &[&["session", verb, "-c", "imgate.yaml"], more].concat()).await
    }

    async fn asks(&self, person: &Person) -> (u16, i64) {
        self.gateway.send(&person.post(FRIENDS, BODY)).await.verdict()
    }
}

#[tokio::test]
async fn a_new_session_in_a_flushed_store_is_no_verdict_on_all_others() {
    let w = world().await;
    w.openim.register("bob");
    let ann = Person::new("ann", &w.redis, &w.openim).await;
    assert_eq!(w.asks(&ann).await, (200, 0));
    let client = redis::Client::open(w.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();

    let note = "note: the store bears no mark, so gateways answer 503: it is new, was flushed, or is the wrong one\n\
                hint: once its records are complete, run `imgate store mark`\n";
    let created = w.session("create", &["--user", "bob", "--platform", "android"]).await;
    assert_eq!((created.code, created.stderr.as_str()), (0, note));
    leaks::secret(json(&created.stdout)["secret"].as_str().unwrap());
    let admin = w.file("admin", super::ADMIN_SECRET);
    let mint = ["token", "mint", "-c", "imgate.yaml", "--user", "bob", "--platform", "2"];
    let minted = w.run(&[&mint[..], &["--admin-secret-file", &admin]].concat()).await;
    assert_eq!((minted.code, minted.stderr.as_str()), (0, note));
    eventually("ann is not logged out", async || w.asks(&ann).await == (503, 20401)).await;

    // Only who says that the store is complete makes what is missing count.
    w.run(&["store", "mark", "-c", "imgate.yaml"]).await.ok();
    eventually("ann's session is gone", async || w.asks(&ann).await == (401, 1501)).await;
    w.session("create", &["--user", "bob", "--platform", "android"]).await.ok();
}

#[tokio::test]
async fn a_ban_holds_until_it_ends_or_is_lifted() {
    let w = world().await;
    let ann = Person::new("ann", &w.redis, &w.openim).await;
    let never = json(&w.ban("show", &[]).await);
    assert_eq!((&never["banned"], &never["reason"]), (&false.into(), &serde_json::Value::Null));

    let set = json(&w.ban("set", &["--for", "24h", "--reason", "spam in groups"]).await);
    eventually("ann is banned", async || w.asks(&ann).await == (401, 1506)).await;
    let shown = json(&w.ban("show", &[]).await);
    assert_eq!((&shown, &shown["banned"], &shown["reason"]), (&set, &true.into(), &"spam in groups".into()));
    assert!(shown["until"].as_u64().unwrap() > imgate_identity::time::UnixTime::now().0 + 23 * 3600);
    assert_eq!(json(&w.ban("set", &[]).await)["until"], serde_json::Value::Null, "without end");

    assert_eq!(w.ban("lift", &[]).await, "lifted\n");
    eventually("ann may call again", async || w.asks(&ann).await == (200, 0)).await;

    for (more, said) in [
        (&["--for", "0s"][..], "a ban lasts a second or longer"),
        (&["--for", "soon"], "invalid value 'soon'"),
        (&["--reason", "a\nb"], "a reason is one line"),
    ] {
        let ran = w.run(&[&["ban", "set", "-c", "imgate.yaml", "ann"], more].concat()).await;
        assert!(ran.code == 2 && ran.stderr.contains(said), "{}", ran.stderr);
    }
    assert_eq!(w.asks(&ann).await, (200, 0));
}

#[tokio::test]
async fn a_rotated_session_takes_both_secrets_for_the_grace() {
    let w = world().await;
    let before = Person::new("ann", &w.redis, &w.openim).await;
    let id = before.session.to_string();
    let rotate = async |grace: &str| {
        let shown = json(&w.session("rotate", &["--grace", grace, &id]).await.ok());
        let secret = shown["secret"].as_str().unwrap();
        leaks::secret(secret);
        let mut after = before.clone();
        after.record.secret = imgate_identity::session::SessionSecret::from_base64(secret).unwrap();
        (after, shown["previous_until"].clone())
    };
    let (after, until) = rotate("1h").await;
    assert!(until.is_u64());
    eventually("the new secret is taken", async || w.asks(&after).await == (200, 0)).await;
    assert_eq!(w.asks(&before).await, (200, 0));

    let (last, until) = rotate("0s").await;
    assert!(until.is_null());
    eventually("the new secret is taken", async || w.asks(&last).await == (200, 0)).await;
    assert_eq!((w.asks(&after).await, w.asks(&before).await), ((401, 20104), (401, 20104)));

    w.session("revoke", &[&id]).await.ok();
    let unknown = SessionId::from_bytes([0xf8; 16]).to_string();
    for (id, said) in [(&id, "the session was revoked, at "), (&unknown, "there is no such session")] {
        let ran = w.session("rotate", &[id]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}

/// A world whose gateway and command line seal with these keys, in `seal.keys`.
async fn sealing_world(keys: String) -> World {
    let World { openim, redis, .. } = world().await;
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.identity = "  seal_keys: { file: seal.keys }".to_owned();
    setup.files = vec![("seal.keys".to_owned(), keys)];
    let gateway = setup.start().await;
    World { openim, redis, gateway }
}

#[tokio::test]
async fn sessions_are_sealed_anew_and_the_old_key_is_taken_out() {
    let (old, new) = (seal_key("old"), seal_key("new"));
    let w = sealing_world(old.clone()).await;
    w.run(&["store", "mark", "-c", "imgate.yaml"]).await.ok();
    let mut sessions = Vec::new();
    for user in ["ann", "bob", "eve"] {
        let made = w.session("create", &["--user", user, "--platform", "2"]).await.ok();
        let made = json(&made);
        leaks::secret(made["secret"].as_str().unwrap());
        let id = made["session_id"].as_str().unwrap().to_owned();
        assert!(w.stored(&format!("imgate:session:{id}")).await.contains("\"s1.old."));
        sessions.push(id);
    }
    let reseal = async |more: &[&str]| {
        let ran = w.session("reseal", more).await;
        (ran.code, json(&ran.stdout), ran.stderr)
    };
    w.file("seal.keys", &format!("{new}{old}"));
    let (code, said, _) = reseal(&["--limit", "0"]).await;
    assert_eq!((code, &said["resealed"], &said["next"]), (0, &0.into(), &0.into()));
    let (code, said, _) = reseal(&["--from", "0"]).await;
    assert_eq!((code, &said["resealed"], &said["unreadable"]), (0, &3.into(), &0.into()), "{said}");
    assert_eq!(said["next"], serde_json::Value::Null);

    w.file("seal.keys", &new);
    for id in &sessions {
        assert_eq!(json(&w.session("show", &[id]).await.ok())["standing"], "live");
    }
    // What is not sealed is named, and left alone.
    let ann = Person::unknown("ann", &w.openim);
    writer(&w.redis).await.put_session(&ann.session, &ann.record).await.unwrap();
    let (code, said, stderr) = reseal(&[]).await;
    assert_eq!((code, &said["current"], &said["unreadable"]), (69, &3.into(), &1.into()), "{said}");
    assert_eq!(said["why"][ann.session.to_string()], "secret is not sealed");
    assert!(stderr.contains("1 sessions cannot be read"), "{stderr}");
}

#[test]
fn without_a_key_nothing_is_sealed() {
    let dir = super::written(|yaml| yaml);
    let ran = imgate(dir.path(), &["session", "reseal", "-c", "imgate.yaml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (64, ""));
    assert!(ran.stderr.contains("hint: set identity.seal_keys"), "{}", ran.stderr);
    let line = imgate_telling(dir.path(), &["seal-key", "new"]).ok();
    assert!(line.starts_with('k') && line.trim_end().len() > 44 + 2, "an id of its own");
    assert_eq!(imgate(dir.path(), &["seal-key", "new", "--id", "a.b"]).code, 2);
}
