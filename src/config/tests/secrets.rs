//! Secrets: refused in the YAML, read from elsewhere, shown nowhere.

use imgate_identity::seal::{Plain, Seals};
use tempfile::TempDir;

use super::{refused, with};
use crate::config::{Config, StoreSource};

#[test]
fn a_secret_in_the_yaml_is_refused_and_not_repeated() {
    let inline =
        "a secret does not stand in the YAML\nhint: write { file: ... }, { env: ... } or { credential: ... }";
    let redis = |inside: &str| refused("memory: {}", &format!("redis: {{ url: \"redis://h:1\", {inside} }}"));
    let password = "imgate.yaml:3:61: identity.store.redis.password";
    assert_eq!(redis("password: hunter2"), format!("{password}: {inline}"));
    assert_eq!(redis("password: 12345"), format!("{password}: {inline}"));
    assert_eq!(redis("password: { hunter2: }"), format!("{password}: {inline}"));
    assert_eq!(
        redis("password: { fil: a }"),
        format!("{password}: unknown source of a secret\nhint: did you mean `file`?")
    );
    assert_eq!(
        refused("memory: {}", "redis: { url: \"redis://:hunter2@h:1\" }"),
        "imgate.yaml:3:36: identity.store.redis.url: the URL holds a password\n\
         hint: take it out and set password: { file: ... }, { env: ... } or { credential: ... }"
    );
    // Whatever else is wrong on such a line, the line is not shown.
    for broken in ["pasword: hunter2", "password: hunter2, timeout: 5", "timeout: 5, password: hunter2"] {
        assert!(!redis(broken).contains("hunter2"), "{broken}");
    }
    for broken in
        ["{ store: { redis: { password: hunter2", "\n  store:\n    redis:\n      pasword: \"hunter2"]
    {
        let error = refused("{ store: { memory: {} } }", broken);
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_secret_is_read_from_where_it_is() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("password"), "hunter2\n").unwrap();
    let load = |source: &str| {
        let redis = format!("redis: {{ url: \"redis://h:1\", password: {source} }}");
        Config::parse(&with("memory: {}", &redis), "imgate.yaml", folder.path())
    };
    let StoreSource::Redis(redis) = load("{ file: password }").unwrap().identity.store else {
        panic!("the store is Redis")
    };
    assert_eq!(redis.login.password.unwrap().expose(), "hunter2");
    let fault = |source: &str| load(source).unwrap_err().to_string();
    let missing = folder.path().join("absent");
    assert_eq!(
        fault("{ file: absent }"),
        format!(
            "imgate.yaml:3:61: identity.store.redis.password: secret file {} cannot be read: \
             No such file or directory (os error 2)",
            missing.display()
        )
    );
    assert_eq!(
        fault("{ env: IMGATE_TEST_NO_SUCH_VARIABLE }"),
        "imgate.yaml:3:61: identity.store.redis.password: \
         environment variable IMGATE_TEST_NO_SUCH_VARIABLE is not set"
    );
    std::fs::write(folder.path().join("password"), "\n").unwrap();
    assert!(fault("{ file: password }").ends_with("the secret is empty"));
    assert!(fault("{ credential: ../password }").ends_with("a credential is named without `/`"));
}

#[test]
fn seal_keys_are_read_and_never_shown() {
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let folder = TempDir::new().unwrap();
    let load = |text: &str, more: &str| {
        std::fs::write(folder.path().join("seal.keys"), text).unwrap();
        let identity = format!("{{ memory: {{}} }}, seal_keys: {{ file: seal.keys }}{more}");
        Config::parse(&with("{ memory: {} }", &identity), "imgate.yaml", folder.path())
    };
    let config = load(&format!("# ours\nk2 {KEY}\n"), "").unwrap();
    assert!(!format!("{config:?}").contains(KEY) && config.warnings.is_empty());
    let Seals::On { keys, plain: Plain::Refuse } = config.identity.layout.seals else {
        panic!("records are sealed")
    };
    assert_eq!(keys.active().as_str(), "k2");

    let migrating = load(&format!("k2 {KEY}"), ", accept_plain: true").unwrap();
    assert!(matches!(migrating.identity.layout.seals, Seals::On { plain: Plain::Accept, .. }));
    assert!(
        migrating.warnings[0].to_string().contains("identity.accept_plain: sessions that are not sealed")
    );

    for (text, expected) in [
        ("\n", "the secret is empty"),
        ("# none\n", "there is no seal key"),
        ("k1 hunter2hunter2", "line 1: a seal key is 32 bytes in standard base64"),
        (&format!("k1 {KEY}\nk2 {KEY}"), "line 2: this id or this key stands there twice"),
        (&format!("{KEY}\n"), "line 1: not a key id, a space and a key\nhint: `imgate seal-key new`"),
    ] {
        let error = load(text, "").unwrap_err().to_string();
        assert!(error.starts_with("imgate.yaml:3:") && error.contains(expected), "{error}");
        assert!(!error.contains(KEY) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_secret_is_not_shown_by_debug() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("password"), "hunter2").unwrap();
    let redis = "redis: { url: \"redis://h:1\", password: { file: password } }";
    let config = Config::parse(&with("memory: {}", redis), "imgate.yaml", folder.path()).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_secret_in_a_filter_is_refused_and_not_repeated() {
    for secret in
        ["secret: hunter2", "secret: { hunter2: }", "secret: { file: a, hunter2: b }", "sekret: hunter2"]
    {
        for inside in
            [format!("{{ issuer: i, {secret} }}"), format!("\n      issuer: i\n      {secret}\n    ")]
        {
            let chain = format!("socket:\n  - verify_jwt: {inside}\n  other: [{{ operation_id: {{}} }}]");
            let error = refused("socket: [{ operation_id: {} }, { verify_socket: {} }]", &chain);
            assert!(error.contains("verify_jwt") && !error.contains("hunter2"), "{error}");
        }
    }
}
