//! A signed request in, OpenIM's answer out; and what is refused on the way.

use imgate_identity::session::Ban;
use imgate_identity::time::UnixTime;
use openim_standin::{Answer, Options, Standin};

use crate::support::{Client, Closed, Gateway, Person, RedisServer, Sent, Setup, writer};

struct World {
    openim: Standin,
    redis: RedisServer,
    gateway: Gateway,
    ann: Person,
}

async fn world() -> World {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut Setup)) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let mut setup = Setup::new(&openim, &redis).patient();
    change(&mut setup);
    let gateway = setup.start().await;
    World { openim, redis, gateway, ann }
}

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann","pagination":{"pageNumber":1,"showNumber":10}}"#;

#[tokio::test]
async fn a_signed_request_reaches_openim_with_the_callers_token() {
    let w = world().await;
    let sent = w
        .ann
        .post(FRIENDS, BODY)
        .header("operationID", "op-1")
        .header("Token", "mine")
        .header("TOKEN", "mine too")
        .header("Authorization", "Bearer app-credential")
        .header("Cookie", "app=credential")
        .header("Content-Type", "application/json; charset=utf-8")
        .header("X-Request-Api", "http://evil.example")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-Prefix", "/evil")
        .header("X-Imgate-Assertion", "forged")
        .header("Accept-Encoding", "br");
    let reply = w.gateway.send(&sent).await;
    assert_eq!(reply.verdict(), (200, 0), "{}", reply.text());
    assert_eq!(reply.header("operationID"), Some("op-1"));

    let seen = w.openim.records().pop().unwrap();
    let once = |name: &str| {
        assert_eq!(seen.copies(name), 1, "{name}");
        seen.header(name).unwrap().to_owned()
    };
    assert_eq!(once("token"), w.ann.token);
    assert_eq!(once("operationID"), "op-1");
    assert_eq!(once("x-request-api"), "https://im.example.com");
    assert_eq!(once("x-forwarded-for"), "127.0.0.1");
    assert_eq!(once("content-type"), "application/json");
    assert_eq!(once("accept-encoding"), "identity");
    assert_eq!(once("content-length"), BODY.len().to_string());
    for gone in [
        "authorization",
        "cookie",
        "signature",
        "signature-input",
        "content-digest",
        "x-forwarded-prefix",
        "x-imgate-assertion",
    ] {
        assert_eq!(seen.copies(gone), 0, "{gone}");
    }
    assert_eq!(seen.body, BODY.as_bytes());

    let line = w.gateway.line("op-1").await;
    assert_eq!(line["user"], "ann");
    assert_eq!(line["status"], 200);
    assert_eq!(line["err_code"], 0);
    assert_eq!(line["path"], FRIENDS);
    assert_eq!(line["upstream"], "openim_api");
}

#[tokio::test]
async fn a_missing_operation_id_is_made_up_and_a_doubtful_one_replaced() {
    let w = world().await;
    let reply = w.gateway.send(&w.ann.post(FRIENDS, BODY)).await;
    let made = reply.header("operationID").unwrap().to_owned();
    assert!(made.starts_with("ig-"));
    assert_eq!(w.openim.records().pop().unwrap().operation_id, made);

    let twice = w.ann.post(FRIENDS, BODY).header("operationID", "a").header("operationid", "b");
    w.gateway.send(&twice).await;
    let seen = w.openim.records().pop().unwrap();
    assert_eq!(seen.copies("operationID"), 1);
    assert!(seen.operation_id.starts_with("ig-"));
}

#[tokio::test]
async fn each_refusal_has_its_envelope_and_reaches_nobody() {
    let w = world().await;
    let writer = writer(&w.redis).await;
    let stranger = Person::unknown("bob", &w.openim);
    let expired = {
        let mut p = Person::unknown("eve", &w.openim);
        p.record.expires_at = UnixTime(UnixTime::now().0 + 1);
        writer.put_session(&p.session, &p.record).await.unwrap();
        p
    };
    let revoked = Person::new("rev", &w.redis, &w.openim).await;
    writer.revoke_session(&revoked.session, UnixTime::now()).await.unwrap();
    let banned = Person::new("ban", &w.redis, &w.openim).await;
    writer.put_ban(&banned.user, &Ban::new(UnixTime(0), "test")).await.unwrap();
    let tokenless = Person::new("tok", &w.redis, &w.openim).await;
    writer.delete_token(&tokenless.user).await.unwrap();
    let admin = Person::new("imAdmin", &w.redis, &w.openim).await;
    let now = UnixTime::now();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;

    let good = || w.ann.post(FRIENDS, BODY);
    let old = w.ann.sign_at(Sent::new("POST", FRIENDS).body(BODY.as_bytes()), UnixTime(now.0 - 100));
    let swapped = Sent { body: Some(b"{}".to_vec()), ..good() };
    let cases: Vec<(&str, Sent, (u16, i64))> = vec![
        ("no signature", Sent::new("POST", FRIENDS).body(b"{}"), (401, 20101)),
        ("half a signature", good().without("signature"), (401, 20102)),
        ("twice", good().header("Signature", "imgate=:AA==:"), (401, 20102)),
        ("old", old, (401, 20103)),
        ("other body", swapped, (401, 20104)),
        ("other path", Sent { target: "/friend/get_friend_id".to_owned(), ..good() }, (401, 20104)),
        ("unknown session", stranger.post(FRIENDS, BODY), (401, 1501)),
        ("expired session", expired.post(FRIENDS, BODY), (401, 1501)),
        ("revoked session", revoked.post(FRIENDS, BODY), (401, 1506)),
        ("banned user", banned.post(FRIENDS, BODY), (401, 1506)),
        ("no token", tokenless.post(FRIENDS, r#"{"userID":"tok"}"#), (401, 1507)),
        ("an admin", admin.post(FRIENDS, BODY), (403, 1002)),
        ("another user", w.ann.post(FRIENDS, r#"{"userID":"bob"}"#), (403, 1002)),
        ("protobuf", good().header("Content-Type", "application/x-protobuf"), (400, 20202)),
        ("no route", w.ann.post("/auth/get_admin_token", "{}"), (404, 20201)),
        ("admin route", w.ann.post("/msg/send_msg", "{}"), (404, 20201)),
        ("escaped route", w.ann.post("/%66riend/get_friend_list", BODY), (400, 20202)),
        ("dots", w.ann.post("/friend/../friend/get_friend_list", BODY), (400, 20202)),
        ("wrong method", w.ann.get(FRIENDS), (405, 20201)),
        ("wrong host", good().without("host").header("Host", "evil.example"), (400, 20202)),
        ("body too large", w.ann.post(FRIENDS, &"x".repeat(65 * 1024)), (413, 20203)),
        (
            "upgrade",
            Sent::new("POST", FRIENDS).header("Upgrade", "x").header("Connection", "upgrade").body(b"{}"),
            (401, 20101),
        ),
        (
            "websocket upgrade",
            Sent::new("POST", FRIENDS)
                .header("Upgrade", "websocket")
                .header("Connection", "upgrade")
                .body(b"{}"),
            (401, 20101),
        ),
    ];
    w.openim.clear_records();
    for (name, sent, verdict) in cases {
        let sent = sent.header("Origin", "https://app.example.com");
        let reply = w.gateway.send(&sent).await;
        assert_eq!(reply.verdict(), verdict, "{name}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/json"), "{name}");
        assert_eq!(reply.copies("access-control-allow-origin"), 1, "{name}");
        assert!(reply.header("operationID").is_some(), "{name}");
        assert!(reply.body.len() <= 1024, "{name}");
        assert_eq!(reply.header("www-authenticate").is_some(), reply.status == 401, "{name}");
    }
    assert!(w.openim.records().is_empty(), "something reached OpenIM");
}

#[tokio::test]
async fn a_skewed_clock_is_told_the_time_and_a_wrong_method_the_right_one() {
    let w = world().await;
    let old = w.ann.sign_at(Sent::new("POST", FRIENDS).body(b"{}"), UnixTime(1));
    let reply = w.gateway.send(&old).await;
    let told: u64 = reply.header("X-Server-Time").unwrap().parse().unwrap();
    assert!(UnixTime::now().0 - told < 5);
    assert_eq!(reply.json()["errDlt"], format!("server_time={told}"));
    let reply = w.gateway.send(&Sent::new("DELETE", FRIENDS)).await;
    assert_eq!(reply.header("Allow"), Some("POST"));
}

#[tokio::test]
async fn a_replay_is_refused_even_in_a_crowd() {
    for replay in ["local", "redis"] {
        let w = world_with(|s| s.verify = format!("replay: {replay}")).await;
        let sent = w.ann.post(FRIENDS, BODY);
        let crowd: Vec<_> = (0..100)
            .map(|_| {
                let (address, sent) = (w.gateway.address, sent.clone());
                tokio::spawn(async move { Client::once(address, &sent).await.verdict() })
            })
            .collect();
        let (mut passed, mut refused) = (0, 0);
        for one in crowd {
            match one.await.unwrap() {
                (200, 0) => passed += 1,
                (401, 20105) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((passed, refused), (1, 99), "{replay}");
    }
}

#[tokio::test]
async fn a_connection_carries_many_requests_refused_ones_included() {
    let w = world().await;
    let mut client = Client::connect(w.gateway.address).await;
    for _ in 0..20 {
        assert_eq!(client.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
        assert_eq!(client.send(&Sent::new("POST", FRIENDS).body(b"{}")).await.verdict(), (401, 20101));
        assert_eq!(client.send(&w.ann.post("/nowhere", "{}")).await.verdict(), (404, 20201));
    }
    // The upstream's connection was kept, too.
    let connections: std::collections::HashSet<u64> =
        w.openim.records().iter().map(|r| r.connection).collect();
    assert_eq!(connections.len(), 1);
}

#[tokio::test]
async fn a_chunked_body_is_taken_whole_and_leaves_with_a_length() {
    let w = world().await;
    let signed = w.ann.post(FRIENDS, BODY);
    let mut head = format!("POST {FRIENDS} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n");
    for (name, value) in &signed.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let (a, b) = BODY.split_at(10);
    let wire =
        format!("{head}\r\n{:x}\r\n{a}\r\n{:x};ext=1\r\n{b}\r\n0\r\ntoken: evil\r\n\r\n", a.len(), b.len());
    let mut client = Client::connect(w.gateway.address).await;
    for byte in wire.as_bytes().chunks(7) {
        client.write(byte).await;
    }
    assert_eq!(client.read("POST").await.verdict(), (200, 0));
    let seen = w.openim.records().pop().unwrap();
    assert_eq!(seen.header("content-length"), Some(BODY.len().to_string().as_str()));
    assert_eq!((seen.copies("transfer-encoding"), seen.copies("token")), (0, 1));
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let w = world().await;
    let sent = w.ann.post(FRIENDS, BODY).header("Expect", "100-continue");
    let wire = sent.wire();
    let (head, body) = wire.split_at(wire.len() - BODY.len());
    let mut client = Client::connect(w.gateway.address).await;
    client.write(head).await;
    assert_eq!(client.read("POST").await.status, 100);
    client.write(body).await;
    assert_eq!(client.read("POST").await.verdict(), (200, 0));

    // One whose credential is bad is not.
    let refused = Sent::new("POST", FRIENDS).header("Expect", "100-continue").body(BODY.as_bytes());
    let wire = refused.wire();
    let mut client = Client::connect(w.gateway.address).await;
    client.write(&wire[..wire.len() - BODY.len()]).await;
    assert_eq!(client.read("POST").await.verdict(), (401, 20101));
    let seen = w.openim.records().pop().unwrap();
    assert_eq!(seen.copies("expect"), 0);
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_take_it_and_huge_ones_flow() {
    use std::io::Read as _;
    let w = world().await;
    let data = format!("{{\"errCode\":0,\"errMsg\":\"\",\"errDlt\":\"\",\"data\":\"{}\"}}", "x".repeat(5000));
    w.openim.answer_next(FRIENDS, Answer::json(200, data.clone()));
    let plain = w.gateway.send(&w.ann.post(FRIENDS, BODY)).await;
    assert!(plain.text() == data);

    w.openim.answer_next(FRIENDS, Answer::json(200, data.clone()));
    let packed = w.gateway.send(&w.ann.post(FRIENDS, BODY).header("Accept-Encoding", "gzip, br")).await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < 500);
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut text).unwrap();
    assert!(text == data);

    let huge = format!("{{\"errCode\":0,\"data\":\"{}\"}}", "y".repeat(3_000_000));
    w.openim.answer_next(FRIENDS, Answer::json(200, huge.clone()));
    let mut client = Client::connect(w.gateway.address).await;
    let flowed = client.send(&w.ann.post(FRIENDS, BODY)).await;
    assert!(flowed.text() == huge);
    assert_eq!(client.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
}

#[tokio::test]
async fn openims_cors_headers_are_replaced_and_preflights_answered_here() {
    let w =
        world_with(|s| s.more = "cors: { allow_origins: [\"https://app.example.com\"] }".to_owned()).await;
    let from = |origin: &str| w.ann.post(FRIENDS, BODY).header("Origin", origin);
    let reply = w.gateway.send(&from("https://app.example.com")).await;
    assert_eq!(reply.copies("access-control-allow-origin"), 1);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://app.example.com"));
    let reply = w.gateway.send(&from("https://evil.example")).await;
    assert_eq!(reply.copies("access-control-allow-origin"), 0);

    w.openim.clear_records();
    let preflight = Sent::new("OPTIONS", FRIENDS)
        .header("Origin", "https://app.example.com")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "signature,signature-input");
    let reply = w.gateway.send(&preflight).await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-headers"), Some("signature,signature-input"));
    assert!(w.openim.records().is_empty());
}

#[tokio::test]
async fn an_upstream_that_is_away_or_silent_is_told_apart() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = Closed::new();
    let w = world_with(|s| s.api = vec![gone.address()]).await;
    let reply = w.gateway.send(&w.ann.post(FRIENDS, BODY)).await;
    assert_eq!(reply.verdict(), (502, 20402));
    assert!(reply.header("retry-after").is_some());
    assert_eq!(reply.json()["errDlt"], "");

    let address = silent.local_addr().unwrap();
    let w = world_with(|s| {
        s.api = vec![address];
        s.more = "limits: { request_timeout: 1s }".to_owned();
    })
    .await;
    let reply = w.gateway.send(&w.ann.post(FRIENDS, BODY).header("operationID", "op-slow")).await;
    assert_eq!(reply.verdict(), (504, 20403));
    assert_eq!(w.gateway.line("op-slow").await["cause"], "upstream_timeout");
}

#[tokio::test]
async fn one_dead_server_of_two_costs_no_request() {
    let gone = Closed::new();
    let w = world_with(|s| s.api.push(gone.address())).await;
    for _ in 0..40 {
        assert_eq!(w.gateway.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    }
}
