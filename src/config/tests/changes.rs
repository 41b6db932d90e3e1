//! What a reload is said to change.

use std::path::Path;

use super::{BASE, accepted, parse, with, with_route};
use crate::config::{Changes, Config};

fn changes(from: &str, to: &str) -> Changes {
    Changes::between(&parse(BASE).unwrap(), &accepted(from, to))
}

fn names(list: &[Box<str>]) -> Vec<&str> {
    list.iter().map(|name| &**name).collect()
}

#[test]
fn an_entry_is_named_by_its_place_and_never_by_its_value() {
    let changes = changes("public_url: https://im.example.com", "public_url: https://other.example.com");
    assert_eq!(names(&changes.changed), ["public_url"]);
    assert!(changes.added.is_empty() && changes.removed.is_empty() && !changes.is_empty());
    let limits = Changes::between(
        &parse(BASE).unwrap(),
        &accepted("upstreams:", "limits: { body: 1KiB }\nupstreams:"),
    );
    assert_eq!(names(&limits.added), ["limits.body"]);
    assert_eq!(limits.by_section().into_iter().collect::<Vec<_>>(), [("limits", 1)]);
    let upstream = self::changes("127.0.0.1:10001", "127.0.0.1:10002");
    assert_eq!(names(&upstream.changed), ["upstreams.chat"]);
}

#[test]
fn routes_are_told_apart_by_what_they_match_wherever_they_stand() {
    let route = "{ prefix: /x/, upstream: chat, public: true, methods: [GET] }";
    let (old, new) = (parse(BASE).unwrap(), parse(&with_route(route)).unwrap());
    assert_eq!(names(&Changes::between(&old, &new).added), ["routes: GET /x/*"]);
    assert_eq!(names(&Changes::between(&new, &old).removed), ["routes: GET /x/*"]);
    let slower = parse(&with_route(&route.replace("public", "timeout: 3s, public"))).unwrap();
    assert_eq!(names(&Changes::between(&new, &slower).changed), ["routes: GET /x/*"]);
    let above = parse(&with("routes:\n", &format!("routes:\n  - {route}\n"))).unwrap();
    assert!(Changes::between(&new, &above).is_empty());
}

#[test]
fn comments_and_spelling_change_nothing() {
    let other = BASE
        .replace("routes:", "# A comment.\n\nroutes:")
        .replace("{ address: 0.0.0.0:8080 }", "address: 0.0.0.0:8080");
    let other = other.replace("[address: 0.0.0.0:8080]", "\n  - address: 0.0.0.0:8080");
    assert!(Changes::between(&parse(BASE).unwrap(), &parse(&other).unwrap()).is_empty());
}

#[test]
fn a_hash_is_of_all_files_but_of_no_secret() {
    let load = |yaml: &str, secret: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("imgate.yaml"), yaml).unwrap();
        std::fs::write(dir.path().join("password"), secret).unwrap();
        // By names that do not tell the folder, which is another one each time.
        let config = Config::load(&dir.path().join("imgate.yaml")).unwrap();
        let files = config.base.files();
        let digests: Vec<_> = files.values().map(|seen| seen.digest()).collect();
        (files.keys().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>(), digests)
    };
    let store = r#"store: { redis: { url: "redis://127.0.0.1:1", password: { file: password } } }"#;
    let yaml = with("store: { memory: {} }", store);
    let (names, digests) = load(&yaml, "one secret");
    assert_eq!(names, ["imgate.yaml", "password"]);
    assert!(digests[0].is_some() && digests[1].is_none());
    assert_eq!(load(&yaml, "another one").1, digests);
    assert_ne!(load(&format!("{yaml}\n"), "one secret").1, digests);
}

#[test]
fn a_failed_load_has_noted_what_it_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("imgate.yaml");
    let table = "{ table: away.yaml, upstream: chat, public: true }";
    std::fs::write(&path, with_route(table)).unwrap();
    let folder = Config::folder_of(&path);
    assert!(Config::load_in(&folder, &path).is_err());
    let noted: Vec<_> = folder.files().into_keys().collect();
    let expected = ["away.yaml", "imgate.yaml"].map(|name| dir.path().join(name));
    assert!(noted.iter().map(|path| &**path).eq(expected.iter().map(AsRef::<Path>::as_ref)), "{noted:?}");
}
