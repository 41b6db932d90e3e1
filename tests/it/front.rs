//! A client's connection from accept to close: what is asked one after the other, what comes too slowly,
//! what is turned away before anybody parsed it, and how a connection ends.

use openim_standin::{Options, Standin};
use serde_json::Value;

use crate::support::{Client, Gateway, Person, RedisServer, Sent, Setup};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann","pagination":{"pageNumber":1,"showNumber":10}}"#;

struct World {
    openim: Standin,
    _redis: RedisServer,
    gateway: Gateway,
    ann: Person,
}

/// A gateway with these limits.
async fn world(limits: &str) -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let mut setup = Setup::new(&openim, &redis).patient();
    setup.more = format!("limits: {{ {limits} }}\ncors: {{ allow_origins: [\"https://app.example.com\"] }}");
    World { gateway: setup.start().await, openim, _redis: redis, ann }
}

impl World {
    async fn client(&self) -> Client {
        Client::connect(self.gateway.address).await
    }

    /// The access line with this reason, waiting until it is written.
    async fn refused(&self, reason: &str) -> Value {
        let found = || self.gateway.access_log().into_iter().find(|line| line["reason"] == reason);
        crate::support::eventually("an access line", async || found().is_some()).await;
        found().unwrap()
    }
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_order() {
    let w = world("").await;
    let mut client = w.client().await;
    let named = |id: &str| w.ann.post(FRIENDS, BODY).header("operationID", id).wire();
    // The second is refused after its body was read, or skipped; the third is still itself.
    let forged = Sent::new("POST", FRIENDS).header("operationID", "two").body(BODY.as_bytes()).wire();
    let chunked = "POST /nowhere HTTP/1.1\r\nHost: im.example.com\r\nTransfer-Encoding: chunked\r\noperationID: three\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    client.write(&[named("one"), forged, chunked.into(), named("four")].concat()).await;
    for (id, status) in [("one", 200), ("two", 401), ("three", 404)] {
        let reply = client.read("POST").await;
        assert_eq!((reply.header("operationID"), reply.status), (Some(id), status), "{}", reply.text());
        if reply.header("connection") == Some("close") {
            // Nobody says how long the rest of a refused body in chunks is, so its connection may end.
            assert_eq!(id, "three");
            return;
        }
    }
    assert_eq!(client.read("POST").await.header("operationID"), Some("four"));
    assert_eq!(w.openim.records().len(), 2);
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let w = world("").await;
    let mut client = w.client().await;
    for byte in w.ann.post(FRIENDS, BODY).wire() {
        client.write(&[byte]).await;
    }
    assert_eq!(client.read("POST").await.verdict(), (200, 0));
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_told_so() {
    let w = world("head: { timeout: 300ms }").await;
    let mut client = w.client().await;
    client.write(b"POST /friend/get_friend_list?secret=1 HTTP/1.1\r\nHost: im.example.com\r\noperationID: slow\r\n").await;
    let reply = client.read("POST").await;
    assert_eq!(reply.verdict(), (408, 20202), "{}", reply.text());
    assert_eq!((reply.header("connection"), reply.header("operationID")), (Some("close"), Some("slow")));
    assert!(client.is_closed().await);
    let line = w.gateway.line("slow").await;
    assert_eq!((&line["status"], &line["reason"]), (&408.into(), &"head_too_slow".into()));
    assert_eq!((&line["path"], &line["host"]), (&FRIENDS.into(), &"im.example.com".into()));
}

#[tokio::test]
async fn who_is_turned_away_unparsed_can_read_why_and_so_can_the_operator() {
    let w = world("").await;
    let mut client = w.client().await;
    client
        .write(
            b"POST /x?token=secret HTTP/1.1\r\nHost: im.example.com\r\nOrigin: https://app.example.com\r\n\
              User-Agent: sdk/1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .await;
    let reply = client.read("POST").await;
    assert_eq!(reply.verdict(), (400, 20202));
    assert_eq!(reply.json()["errDlt"], "length_and_coding");
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(client.is_closed().await);
    let line = w.refused("length_and_coding").await;
    assert_eq!(line["operation_id"], reply.header("operationID").unwrap());
    for (field, value) in
        [("path", "/x"), ("method", "POST"), ("user_agent", "sdk/1"), ("client", "127.0.0.1")]
    {
        assert_eq!(line[field], value, "{field}");
    }
    assert_eq!(w.gateway.metric("imgate_refusals_total{cause=\"bad_request\"}").await, 1.0);
    assert!(w.openim.records().is_empty());
}

#[tokio::test]
async fn bounds_on_a_head_are_those_of_the_file() {
    let w = world("head: { size: 4KiB, line: 1KiB, target: 1KiB, headers: 10 }").await;
    let long = "a".repeat(1100);
    let many = (0..10).fold(Sent::new("GET", "/x"), |sent, i| sent.header(&format!("X-{i}"), "y"));
    let large = (0..6).fold(Sent::new("GET", "/x"), |sent, i| sent.header(&format!("X-{i}"), &long[..900]));
    for (sent, verdict) in [
        (Sent::new("GET", &format!("/{long}")), (414, 20203)),
        (Sent::new("GET", "/x").header("X", &long), (431, 20203)),
        (many, (431, 20203)),
        (large, (431, 20203)),
    ] {
        assert_eq!(w.gateway.send(&sent).await.verdict(), verdict);
    }
    assert!(w.openim.records().is_empty());
}

#[tokio::test]
async fn a_connection_carries_so_many_requests() {
    let w = world("requests_per_connection: 3").await;
    let mut client = w.client().await;
    for last in [false, false, true] {
        let reply = client.send(&w.ann.post(FRIENDS, BODY)).await;
        assert_eq!(reply.verdict(), (200, 0));
        assert_eq!(reply.header("connection") == Some("close"), last);
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let w = world("keepalive_timeout: 300ms").await;
    let mut fresh = w.client().await;
    assert!(fresh.is_closed().await);
    let mut used = w.client().await;
    assert_eq!(used.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    assert!(used.is_closed().await);
    assert_eq!(w.gateway.metric("imgate_connections").await, 0.0);
}

/// The kernel resets a connection that is closed with bytes unread, and the reset destroys what was not read
/// yet. So a client that is still sending when it is refused must be read on for a while.
#[tokio::test]
async fn a_client_that_sends_on_after_its_refusal_still_reads_it() {
    let w = world("body: 1KiB").await;
    let large = vec![b'x'; 700_000];
    for sent in [
        w.ann.post(FRIENDS, BODY).without("Host").body(&large),
        Sent::new("POST", FRIENDS).body(&large),
        Sent::new("POST", "/nowhere").body(&large),
    ] {
        let mut client = w.client().await;
        client.write(&sent.wire()).await;
        let reply = client.read("POST").await;
        assert!([400, 401, 404, 413].contains(&reply.status), "{}", reply.text());
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn an_idle_connection_gets_one_more_answer_when_the_gateway_stops() {
    let mut w = world("").await;
    let mut idle = w.client().await;
    assert_eq!(idle.send(&w.ann.post(FRIENDS, BODY)).await.verdict(), (200, 0));
    w.gateway.signal("-TERM");
    let stopping = async || w.gateway.admin_get("/readyz").await.status == 503;
    crate::support::eventually("the gateway stops", stopping).await;
    let reply = idle.send(&w.ann.post(FRIENDS, BODY)).await;
    assert_eq!((reply.verdict(), reply.header("connection")), ((200, 0), Some("close")));
    assert!(idle.is_closed().await);
    assert!(w.gateway.ended().await.success());
}
