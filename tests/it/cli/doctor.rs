//! `imgate doctor` in front of a real Redis and a faithful OpenIM, each broken in its own way.

use std::path::Path;

use imgate_identity::user::UserId;
use openim_standin::{Line, Options, Standin};
use serde_json::Value;

use crate::support::command::{Ran, imgate, shell};
use crate::support::{Act, Closed, Person, RedisServer, Setup, Upstream, leaks, ok, writer};

/// OpenIM's shared secret where it is one of its own.
const SECRET: &str = "a-secret-of-this-openim-alone";

/// Where clients upload to, in the configurations here: to the gateway itself.
const STORAGE: &str = "https://im.example.com/openim";

const STORAGE_ROUTE: &str =
    "  - { prefix: /openim/, methods: [GET, PUT], upstream: openim_api, stream: true, public: true }\n";

/// An address of loopback on which nobody listens, in the place of one that others reach.
const OUTSIDE: &str = "127.0.0.2";

/// All that a gateway stands on.
struct World {
    openim: Standin,
    redis: RedisServer,
    dir: tempfile::TempDir,
}

async fn openim(secret: &str) -> Standin {
    let options =
        Options { secret: secret.to_owned(), object_store: STORAGE.to_owned(), ..Options::default() };
    Standin::start(options).await.unwrap()
}

/// Everything as it must be, with this done to Redis and to the configuration.
async fn world(openim: Standin, redis: &[&str], change: impl FnOnce(&mut Setup)) -> World {
    let redis = RedisServer::start_with(&[&["--appendonly", "yes"], redis].concat());
    let dir = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.more = STORAGE_ROUTE.to_owned();
    change(&mut setup);
    std::fs::write(dir.path().join("imgate.yaml"), setup.yaml()).unwrap();
    World { openim, redis, dir }
}

impl World {
    /// Fills the store as a backend does; gives the admin's token.
    async fn filled(self) -> Self {
        let writer = writer(&self.redis).await;
        writer.put_mark().await.unwrap();
        let token = self.openim.mint_admin("imAdmin");
        leaks::secret(&token);
        writer.put_admin_token(&UserId::parse("imAdmin").unwrap(), &token).await.unwrap();
        self
    }

    /// Asks the doctor. The stand-in lives in this process, so the command runs beside it.
    async fn doctor(&self, arguments: &[&str]) -> Ran {
        let dir = self.dir.path().to_owned();
        let mut words: Vec<String> = ["doctor", "-c", "imgate.yaml"].map(str::to_owned).into();
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        if !arguments.contains(&"--outside") {
            words.extend(["--outside", OUTSIDE].map(str::to_owned));
        }
        let run = move || imgate(&dir, &words.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.unwrap()
    }
}

/// Whether the doctor says this of this check, with these words in it or under it.
fn says(ran: &Ran, verdict: &str, check: &str, words: &[&str]) -> bool {
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let begins = |line: &&str| line.starts_with(&format!("{verdict:<5} {check} "));
    lines.iter().enumerate().filter(|(_, line)| begins(line)).any(|(i, line)| {
        let under = lines[i + 1..].iter().take_while(|line| line.starts_with("      "));
        let text = under.fold((*line).to_owned(), |text, line| text + "\n" + line);
        words.iter().all(|word| text.contains(word))
    })
}

#[track_caller]
fn expect(ran: &Ran, code: i32, verdict: &str, check: &str, words: &[&str]) {
    assert!(
        says(ran, verdict, check, words),
        "no {verdict} {check} {words:?} in\n{}{}",
        ran.stdout,
        ran.stderr
    );
    assert_eq!(ran.code, code, "{}", ran.stdout);
}

/// A certificate for `im.example.com` and its key, good from and until these times.
fn certificate(dir: &Path, name: &str, from: &str, until: &str) {
    let config = "[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\n\
         policy=p\nx509_extensions=e\nunique_subject=no\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=DNS:im.example.com\n";
    std::fs::write(dir.join("ca.cnf"), config).unwrap();
    let dir = dir.display();
    let ran = shell(&format!(
        "cd {dir} && touch index.txt && day() {{ date -u -d \"$1\" +%Y%m%d%H%M%SZ; }} &&
         openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -subj /CN=x \
           -config /dev/null -out {name}.csr 2>/dev/null &&
         openssl ca -batch -selfsign -notext -config ca.cnf -keyfile {name}.key -in {name}.csr -out {name}.pem \
           -startdate \"$(day '{from}')\" -enddate \"$(day '{until}')\" 2>/dev/null"
    ));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}

#[tokio::test]
async fn a_healthy_house_gets_no_word_of_blame() {
    let w = world(openim(SECRET).await, &[], |_| {}).await.filled().await;
    let ann = Person::new("ann", &w.redis, &w.openim).await;
    certificate(w.dir.path(), "good", "yesterday", "+90 days");
    let ran =
        w.doctor(&["--certificate", "good.pem", "--key", "good.key", "--user", ann.user.as_str()]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    assert!(!ran.stdout.contains("WARN") && !ran.stdout.contains("FAIL"), "{}", ran.stdout);
    for check in [
        "configuration",
        "redis",
        "redis tracking",
        "store mark",
        "redis memory",
        "clock",
        "openim api",
        "default secret",
        "admin token",
        "message gateway",
        "objects",
        "certificate",
        "open ports",
        "user",
    ] {
        assert!(says(&ran, "OK", check, &[]), "{check}:\n{}", ran.stdout);
    }
    assert!(says(&ran, "OK", "openim api", &["development line"]), "{}", ran.stdout);
    assert!(says(&ran, "OK", "redis tracking", &["changes are announced"]), "{}", ran.stdout);
}

#[tokio::test]
async fn the_released_line_is_told_from_the_other() {
    let options = Options { line: Line::P16, secret: SECRET.to_owned(), ..Options::default() };
    let w = world(Standin::start(options).await.unwrap(), &[], |_| {}).await.filled().await;
    let ran = w.doctor(&[]).await;
    assert!(says(&ran, "OK", "openim api", &["released line"]), "{}", ran.stdout);
    assert!(says(&ran, "OK", "default secret", &["a secret of its own"]), "{}", ran.stdout);
}

#[tokio::test]
async fn the_doctor_leaves_nothing_behind_and_mints_nothing() {
    let w = world(openim(SECRET).await, &[], |_| {}).await.filled().await;
    let keys = async || {
        let client = redis::Client::open(w.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        // What a gateway writes as well, to prove its links; Redis removes them within a second.
        keys.retain(|key| !key.contains(":canary:"));
        keys.sort();
        keys
    };
    let before = keys().await;
    w.doctor(&[]).await;
    assert_eq!(keys().await, before);
    let mints =
        w.openim.records().into_iter().filter(|record| record.path().contains("_token")).collect::<Vec<_>>();
    assert!(mints.iter().all(|record| record.path() == "/auth/parse_token"), "{mints:?}");
}

#[tokio::test]
async fn a_redis_that_is_down_is_named_and_the_rest_is_still_looked_at() {
    let mut w = world(openim(SECRET).await, &[], |_| {}).await;
    w.redis.kill();
    let ran = w.doctor(&["--user", "ann"]).await;
    expect(&ran, 1, "FAIL", "redis", &["cannot be used", "identity.store"]);
    expect(&ran, 1, "OK", "openim api", &[]);
    expect(&ran, 1, "SKIP", "admin token", &["the store cannot be used"]);
    expect(&ran, 1, "SKIP", "user", &[]);
}

#[tokio::test]
async fn a_redis_that_hangs_does_not_hang_the_doctor() {
    let w = world(openim(SECRET).await, &[], |setup| setup.store = setup.store.replace("10s", "300ms")).await;
    w.redis.pause();
    let ran = w.doctor(&[]).await;
    w.redis.resume();
    expect(&ran, 1, "FAIL", "redis", &["cannot be used"]);
}

#[tokio::test]
async fn a_wrong_password_is_told_from_a_redis_that_is_away() {
    let password = "the-right-password-of-redis";
    let redis = ["--requirepass", password];
    let w = world(openim(SECRET).await, &redis, |setup| {
        setup.store =
            setup.store.replace("timeout: 10s,", "timeout: 10s, password: { file: redis.password },");
    })
    .await;
    leaks::secret("the-wrong-password-of-redis");
    std::fs::write(w.dir.path().join("redis.password"), "the-wrong-password-of-redis").unwrap();
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "redis", &["password is missing or wrong", "identity.store"]);
}

#[tokio::test]
async fn a_user_of_redis_who_may_not_write_needs_another_proof() {
    let password = "the-password-of-the-reader";
    leaks::secret(password);
    let reader = [
        "--user",
        "reader",
        "on",
        &format!(">{password}"),
        "~*",
        "&*",
        "+@read",
        "+ping",
        "+time",
        "+client",
        "+hello",
    ];
    let w = world(openim(SECRET).await, &reader, |setup| {
        setup.store = setup
            .store
            .replace("redis://", "redis://reader@")
            .replace("timeout: 10s,", "timeout: 10s, password: { file: redis.password },");
    })
    .await
    .filled()
    .await;
    std::fs::write(w.dir.path().join("redis.password"), password).unwrap();
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "redis tracking", &["permission", "proof: info"]);
    let yaml = std::fs::read_to_string(w.dir.path().join("imgate.yaml")).unwrap();
    let trusting = yaml.replace("redis.password }", "redis.password }, proof: info");
    std::fs::write(w.dir.path().join("imgate.yaml"), trusting).unwrap();
    let ran = w.doctor(&[]).await;
    expect(&ran, 0, "OK", "redis tracking", &[]);
    expect(&ran, 0, "SKIP", "redis memory", &["INFO"]);
}

#[tokio::test]
async fn a_store_without_its_mark_is_named() {
    let w = world(openim(SECRET).await, &[], |_| {}).await;
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "store mark", &["503", "imgate store mark"]);
}

#[tokio::test]
async fn a_redis_that_forgets_is_worth_a_look() {
    let redis = ["--maxmemory-policy", "allkeys-lru", "--appendonly", "no"];
    let w = world(openim(SECRET).await, &redis, |_| {}).await.filled().await;
    let ran = w.doctor(&[]).await;
    expect(&ran, 0, "WARN", "redis memory", &["allkeys-lru", "noeviction"]);
    expect(&ran, 0, "WARN", "redis memory", &["nothing on disk"]);
}

#[tokio::test]
async fn an_openim_that_is_down_is_named() {
    let nobody = Closed::new();
    let address = nobody.address();
    let w = world(openim(SECRET).await, &[], |setup| (setup.api, setup.ws) = (vec![address], address)).await;
    let w = w.filled().await;
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "openim api", &[&address.to_string(), "nothing listens there"]);
    expect(&ran, 1, "FAIL", "message gateway", &["nothing listens there"]);
}

#[tokio::test]
async fn another_server_in_openims_place_is_noticed() {
    let page = Upstream::start(|_| async { vec![Act::Send(ok("<html>welcome</html>"))] }).await;
    let address = page.address;
    let w = world(openim(SECRET).await, &[], |setup| (setup.api, setup.ws) = (vec![address], address)).await;
    let w = w.filled().await;
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "openim api", &["is not OpenIM's API"]);
    expect(&ran, 1, "FAIL", "message gateway", &["is not OpenIM's message gateway"]);
    expect(&ran, 1, "SKIP", "default secret", &["does not say"]);
}

#[tokio::test]
async fn a_socket_that_is_opened_for_anybody_is_noticed() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let echo = Upstream::start(move |_| async move { vec![Act::Send(switch.as_bytes().to_vec())] }).await;
    let address = echo.address;
    let w = world(openim(SECRET).await, &[], |setup| setup.ws = address).await.filled().await;
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "message gateway", &["opens a WebSocket for a token that is none"]);
}

#[tokio::test]
async fn swapped_ports_are_called_by_their_name() {
    let w = world(openim(SECRET).await, &[], |setup| {
        (setup.api, setup.ws) = (vec![setup.ws], setup.api[0]);
    })
    .await
    .filled()
    .await;
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "openim api", &["message gateway, not its API", "swapped"]);
    expect(&ran, 1, "FAIL", "message gateway", &["10001"]);
}

#[tokio::test]
async fn the_secret_openim_is_shipped_with_is_found_without_minting() {
    let w = world(openim("openIM123").await, &[], |_| {}).await.filled().await;
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "default secret", &["shipped with", "share.yml"]);
    expect(&ran, 1, "FAIL", "admin token", &["default secret"]);
}

#[tokio::test]
async fn an_admins_token_that_a_chain_sends_has_to_be_there_and_good() {
    let chain = "  send:\n    - operation_id: {}\n    - verify_signature: {}\n    - bind_identity: {}\n    \
                 - strip_credentials: {}\n    - inject_token: { as: imAdmin }\n";
    let route =
        "  - { path: /msg/send_msg, methods: [POST], upstream: openim_api, chain: send, bind: sendID }\n";
    let w = world(openim(SECRET).await, &[], |setup| {
        setup.chains = chain.to_owned();
        setup.routes = route.to_owned();
    })
    .await;
    let writer = writer(&w.redis).await;
    writer.put_mark().await.unwrap();
    expect(&w.doctor(&[]).await, 1, "FAIL", "admin token", &["there is no token of imAdmin", "503"]);
    let other = openim("another-secret-of-another-openim").await;
    let token = other.mint_admin("imAdmin");
    leaks::secret(&token);
    writer.put_admin_token(&UserId::parse("imAdmin").unwrap(), &token).await.unwrap();
    expect(&w.doctor(&[]).await, 1, "FAIL", "admin token", &["refuses", "1505", "another secret"]);
}

#[tokio::test]
async fn what_is_stored_of_a_user_is_shown_to_openim() {
    let w = world(openim(SECRET).await, &[], |_| {}).await.filled().await;
    let ann = Person::new("ann", &w.redis, &w.openim).await;
    let ask = ["--user", "ann"];
    expect(&w.doctor(&ask).await, 0, "OK", "user", &["good for"]);
    w.openim.kick("ann", 2);
    expect(&w.doctor(&ask).await, 1, "FAIL", "user", &["1506", "newer token"]);
    writer(&w.redis).await.delete_token(&ann.user).await.unwrap();
    expect(&w.doctor(&ask).await, 1, "FAIL", "user", &["no OpenIM token of ann", "imgate token mint"]);
}

#[tokio::test]
async fn a_clock_that_differs_is_worth_a_look() {
    let late = Upstream::start(|_| async {
        let body = r#"{"errCode":1503,"errMsg":"TokenMalformedError","errDlt":""}"#;
        let head =
            "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: application/json\r\n";
        vec![Act::Send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())]
    })
    .await;
    let address = late.address;
    let w = world(openim(SECRET).await, &[], |setup| setup.api = vec![address]).await.filled().await;
    let ran = w.doctor(&[]).await;
    assert!(says(&ran, "WARN", "clock", &["behind ours", "NTP"]), "{}", ran.stdout);
}

#[tokio::test]
async fn uploads_that_lead_nowhere_are_found() {
    let w = world(openim(SECRET).await, &[], |setup| setup.more.clear()).await.filled().await;
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "objects", &[STORAGE, "no route takes it"]);
    let inside = Options {
        secret: SECRET.to_owned(),
        object_store: "http://127.0.0.1:10005/openim".to_owned(),
        ..Options::default()
    };
    let w = world(Standin::start(inside).await.unwrap(), &[], |_| {}).await.filled().await;
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "objects", &["127.0.0.1:10005", "only this machine", "externalAddress"]);
    expect(&ran, 1, "WARN", "objects", &["without TLS"]);
}

#[tokio::test]
async fn certificates_are_read_for_dates_names_and_keys() {
    let w = world(openim(SECRET).await, &[], |_| {}).await.filled().await;
    let dir = w.dir.path();
    certificate(dir, "old", "2020-01-01", "2020-02-01");
    certificate(dir, "soon", "yesterday", "+10 days");
    certificate(dir, "good", "yesterday", "+90 days");
    let ran = w.doctor(&["--certificate", "old.pem", "--key", "old.key"]).await;
    expect(&ran, 1, "FAIL", "certificate", &["expired", "2020", "renew"]);
    let ran = w.doctor(&["--certificate", "soon.pem", "--key", "soon.key"]).await;
    expect(&ran, 0, "WARN", "certificate", &["soon.pem expires in"]);
    let ran = w.doctor(&["--certificate", "good.pem", "--key", "soon.key"]).await;
    expect(&ran, 1, "FAIL", "certificate", &["good.pem", "the key is not that of the certificate"]);
    let ran = w.doctor(&["--certificate", "good.key", "--key", "good.key"]).await;
    expect(&ran, 1, "FAIL", "certificate", &["no certificate in good.key"]);
    let yaml = std::fs::read_to_string(dir.join("imgate.yaml")).unwrap();
    std::fs::write(dir.join("imgate.yaml"), yaml.replace("https://im.example.com", "https://im.example.org"))
        .unwrap();
    let ran = w.doctor(&["--certificate", "good.pem", "--key", "good.key"]).await;
    expect(&ran, 1, "FAIL", "certificate", &["none is for im.example.org"]);
}

#[tokio::test]
async fn a_listeners_certificate_is_looked_at_too() {
    let w = world(openim(SECRET).await, &[], |setup| {
        let tls = "tls: { certificate: soon.pem, key: soon.key }";
        setup.listeners = format!("{{ address: \"127.0.0.1:0\", {tls} }}");
    })
    .await
    .filled()
    .await;
    certificate(w.dir.path(), "soon", "yesterday", "+10 days");
    let ran = w.doctor(&[]).await;
    expect(&ran, 0, "WARN", "certificate", &["soon.pem expires in"]);
    expect(&ran, 0, "OK", "certificate", &["one is for im.example.com"]);
    std::fs::remove_file(w.dir.path().join("soon.key")).unwrap();
    expect(&w.doctor(&[]).await, 1, "FAIL", "configuration", &["soon.key", "cannot be read"]);
}

#[tokio::test]
async fn what_can_be_reached_beside_the_gateway_is_listed() {
    let w = world(openim(SECRET).await, &[], |_| {}).await.filled().await;
    // Everything here listens on 127.0.0.1: taken for an address that others reach, it is all open.
    let ran = w.doctor(&["--outside", "127.0.0.1"]).await;
    expect(
        &ran,
        0,
        "WARN",
        "open ports",
        &["upstream openim_api", &w.openim.api().to_string(), "beside the gateway"],
    );
    expect(&ran, 0, "WARN", "open ports", &["upstream openim_ws", &w.openim.ws().to_string()]);
    expect(&ran, 0, "WARN", "open ports", &["Redis, without a password", &w.redis.address()]);
}

#[tokio::test]
async fn a_redis_with_a_password_is_not_called_open() {
    let password = "a-long-password-of-redis";
    leaks::secret(password);
    let w = world(openim(SECRET).await, &["--requirepass", password], |_| {}).await;
    let ran = w.doctor(&["--outside", "127.0.0.1"]).await;
    assert!(!ran.stdout.contains("without a password"), "{}", ran.stdout);
    expect(&ran, 1, "FAIL", "redis", &["password is missing or wrong"]);
}

#[tokio::test]
async fn findings_are_also_one_json_object() {
    let w = world(openim(SECRET).await, &[], |_| {}).await;
    let ran = w.doctor(&["--format", "json"]).await;
    let all: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &all["failed"]), (1, &Value::Bool(true)));
    let findings = all["findings"].as_array().unwrap();
    let mark = findings.iter().find(|finding| finding["check"] == "store mark").unwrap();
    assert_eq!(mark["verdict"], "fail");
    assert!(mark["advice"].as_str().unwrap().contains("imgate store mark"));
    assert!(findings.iter().any(|finding| finding["verdict"] == "ok" && finding.get("advice").is_none()));
}

#[tokio::test]
async fn a_configuration_that_is_refused_is_all_there_is_to_say() {
    let w = world(openim(SECRET).await, &[], |setup| setup.users = ", chian: user".to_owned()).await;
    let ran = w.doctor(&[]).await;
    expect(&ran, 1, "FAIL", "configuration", &["chian", "did you mean"]);
    expect(&ran, 1, "SKIP", "all else", &[]);
}
