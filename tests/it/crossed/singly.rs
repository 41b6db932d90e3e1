//! One thing at a time: who gets a connection after something went wrong on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use openim_standin::{Options, Standin};
use tokio::sync::Notify;

use super::script::{Shape, body, operation, wire};
use super::{PATH, setup, tail};
use crate::support::{Act, Client, Gateway, Got, Person, RedisServer, Reply, Sent, Upstream};

/// A route whose requests may be sent again.
const SAFE: &str = "/crossed/again";

/// Two people at one gateway, and what its upstream got.
struct Pair {
    ann: Person,
    bob: Person,
    gateway: Gateway,
    seen: Arc<Mutex<Vec<Got>>>,
    _upstream: Upstream,
    _redis: RedisServer,
}

/// Two people at a gateway whose upstream answers as `act` says.
async fn pair(timeout: &str, act: impl Fn(&Got) -> Vec<Act> + Send + Sync + 'static) -> Pair {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let (ann, bob) = (Person::new("ann", &redis, &openim).await, Person::new("bob", &redis, &openim).await);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let upstream = Upstream::start(move |got| {
        let acts = act(&got);
        notes.lock().unwrap().push(got);
        async move { acts }
    })
    .await;
    let more = format!("methods: [POST, HEAD], timeout: {timeout}");
    let mut setup = setup(&upstream, &redis, "5s", &more);
    let again =
        format!("  - {{ path: {SAFE}, upstream: scripted, chain: user, bind: none, replay_safe: true }}");
    setup.routes = format!("{}\n{again}", setup.routes);
    let gateway = setup.start().await;
    Pair { ann, bob, gateway, seen, _upstream: upstream, _redis: redis }
}

/// The body that answers `got`.
fn own(got: &Got) -> String {
    body(got.header("operationID").unwrap(), tail(got.header("token").unwrap()), 0)
}

fn forged() -> Vec<u8> {
    wire(Shape::Length, &body(&operation(9_999_999), "forged-forged-00", 0))
}

impl Pair {
    /// The connections on which an operation was sent.
    fn connections(&self, op: &str) -> Vec<usize> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|got| got.header("operationID") == Some(op)).map(|got| got.connection).collect()
    }

    async fn ask(&self, who: &Person, op: &str) -> Reply {
        Client::once(self.gateway.address, &who.post(PATH, "{}").header("operationID", op)).await
    }

    /// Asks as Bob, who must get his own answer; says on which connection it came.
    async fn bob_is_answered(&self, op: &str, why: &str) -> usize {
        let reply = self.ask(&self.bob, op).await;
        assert_eq!(reply.text(), body(op, tail(&self.bob.token), 0), "{why}");
        let connections = self.connections(op);
        assert_eq!(connections.len(), 1, "{why}");
        connections[0]
    }
}

#[tokio::test]
async fn what_comes_on_an_idle_connection_reaches_nobody() {
    let late = [
        ("an answer", Act::Send(forged())),
        ("half an answer", Act::Send(forged()[..40].to_vec())),
        ("a byte", Act::Send(b"H".to_vec())),
        ("the end", Act::Close),
    ];
    for (what, late) in late {
        let came = Arc::new(Notify::new());
        let told = Arc::clone(&came);
        let w = pair("9s", move |got| {
            let answer = Act::Send(wire(Shape::Length, &own(got)));
            match got.header("operationID") {
                Some(op) if op.starts_with("ann") => {
                    vec![answer, Act::Pause, late.clone(), Act::Tell(Arc::clone(&told))]
                }
                _ => vec![answer],
            }
        })
        .await;
        for round in 0..10 {
            let (first, second) = (format!("ann-{round}"), format!("bob-{round}"));
            assert_eq!(w.ask(&w.ann, &first).await.verdict(), (200, 0), "{what}");
            came.notified().await;
            let connection = w.bob_is_answered(&second, what).await;
            assert!(!w.connections(&first).contains(&connection), "{what}");
        }
    }
}

/// Where in an answer something happens: in the status line, the head, between head and body, in the
/// body, before its last byte.
fn places(answer: &[u8]) -> [usize; 6] {
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    [0, 5, 40, head, head + 20, answer.len() - 1]
}

/// A pair whose upstream stops in the middle of Ann's answers until told to go on. The place is the
/// last digit of the operation.
async fn stopping(timeout: &str, stopped: &Arc<Notify>, go: &Arc<Notify>) -> Pair {
    let (stopped, go) = (Arc::clone(stopped), Arc::clone(go));
    pair(timeout, move |got| {
        let op = got.header("operationID").unwrap();
        let answer = wire(Shape::Length, &own(got));
        let Some(place) = op.strip_prefix("ann-") else { return vec![Act::Send(answer)] };
        let (first, rest) = answer.split_at(places(&answer)[place.parse::<usize>().unwrap()]);
        let (tell, wait) = (Act::Tell(Arc::clone(&stopped)), Act::Wait(Arc::clone(&go)));
        vec![Act::Send(first.to_vec()), tell, wait, Act::Send(rest.to_vec())]
    })
    .await
}

#[tokio::test]
async fn a_request_that_ran_out_of_time_takes_its_connection_with_it() {
    let (stopped, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let w = stopping("700ms", &stopped, &go).await;
    for place in 0..6 {
        let op = format!("ann-{place}");
        let reply = w.ask(&w.ann, &op).await;
        assert_eq!(reply.verdict(), (504, 20403));
        assert_eq!(reply.header("operationID"), Some(op.as_str()));
        go.notify_one();
        for round in 0..3 {
            let connection = w.bob_is_answered(&format!("bob-{place}-{round}"), &op).await;
            assert!(!w.connections(&op).contains(&connection), "{op}");
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_answer_to_nobody() {
    let (stopped, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let w = stopping("9s", &stopped, &go).await;
    for place in 0..6 {
        let op = format!("ann-{place}");
        let mut ann = Client::connect(w.gateway.address).await;
        ann.write(&w.ann.post(PATH, "{}").header("operationID", &op).wire()).await;
        stopped.notified().await;
        drop(ann);
        w.bob_is_answered(&format!("bob-{place}-while"), &op).await;
        go.notify_one();
        assert_eq!(w.gateway.line(&op).await["status"], 200, "the answer was taken to its end");
        for round in 0..3 {
            w.bob_is_answered(&format!("bob-{place}-{round}"), &op).await;
        }
        assert_eq!(w.connections(&op).len(), 1);
    }
}

/// A pair whose upstream answers Ann with `answer`, and on the next request of that connection, if one
/// comes, first with something else.
async fn owing(answer: Vec<u8>, owed: Vec<u8>) -> Pair {
    let owing = Mutex::new(None);
    pair("9s", move |got| {
        let mut owing = owing.lock().unwrap();
        if got.header("operationID") == Some("ann") {
            *owing = Some(got.connection);
            return vec![Act::Send(answer.clone())];
        }
        let late = if *owing == Some(got.connection) { owed.clone() } else { Vec::new() };
        vec![Act::Send(late), Act::Send(wire(Shape::Length, &own(got)))]
    })
    .await
}

#[tokio::test]
async fn a_body_that_may_not_come_and_comes_late_is_nobodys_answer() {
    let length = format!("Content-Length: {}", forged().len());
    let bodiless = [
        ("POST", "204 No Content", length.as_str()),
        ("POST", "204 No Content", "Transfer-Encoding: chunked"),
        ("POST", "304 Not Modified", &length),
        ("HEAD", "200 OK", &length),
        ("HEAD", "200 OK", "Transfer-Encoding: chunked"),
    ];
    for (method, status, framing) in bodiless {
        let head = format!("HTTP/1.1 {status}\r\n{framing}\r\n\r\n").into_bytes();
        let w = owing(head, forged()).await;
        let sent = match method {
            "HEAD" => w.ann.sign(Sent::new("HEAD", PATH)),
            _ => w.ann.post(PATH, "{}"),
        };
        let reply = Client::once(w.gateway.address, &sent.header("operationID", "ann")).await;
        assert_eq!(reply.status.to_string(), status[..3]);
        assert!(reply.body.is_empty());
        // Source: RFC 9110 section 8.6.
        assert!(reply.status != 204 || reply.header("content-length").is_none());
        w.bob_is_answered("bob", &format!("{method} {status} {framing}")).await;
    }
}

#[tokio::test]
async fn a_connection_that_carried_too_much_or_said_goodbye_is_not_used_again() {
    let whole = wire(Shape::Length, "{}");
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n";
    let with = |front: &[u8], more: &[u8]| [front, more].concat();
    let cases = [
        ("a byte", with(&whole, b"H")),
        ("an empty line", with(&whole, b"\r\n")),
        ("an interim answer", with(&whole, b"HTTP/1.1 100 Continue\r\n\r\n")),
        ("a byte after chunks", with(chunked, b"\r\nH")),
        ("a byte after a trailer", with(chunked, b"T: x\r\n\r\nH")),
        ("goodbye", wire(Shape::Closing, "{}")),
        (
            "goodbye among others",
            b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ),
        ("an old answer", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
    ];
    for (what, answer) in cases {
        let w = owing(answer, forged()).await;
        assert_eq!(w.ask(&w.ann, "ann").await.status, 200, "{what}");
        let connection = w.bob_is_answered("bob", what).await;
        assert!(!w.connections("ann").contains(&connection), "{what}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_or_not_at_all() {
    let shapes = [Shape::Length, Shape::Chunked, Shape::Closing, Shape::UntilClose];
    let w = pair("9s", move |got| {
        let op = got.header("operationID").unwrap();
        let number: usize = op.strip_prefix("op-").unwrap().parse().unwrap();
        let answer = wire(shapes[number % shapes.len()], &own(got));
        match number % 3 {
            0 => vec![Act::Send(answer), Act::Close],
            1 => vec![Act::Send([answer, forged()].concat()), Act::Close],
            _ => vec![Act::Pause, Act::Send(answer), Act::Close],
        }
    })
    .await;
    let mut answered = 0;
    for round in 0..10 {
        let mut client = Client::connect(w.gateway.address).await;
        let people = [&w.ann, &w.bob];
        let sent = |n: usize| people[n % 2].post(PATH, "{}").header("operationID", &operation(round * 8 + n));
        let refused = |n: usize| Sent { body: Some(b"[]".to_vec()), ..sent(n) };
        let all: Vec<u8> = (0..8).flat_map(|n| if n == 5 { refused(n) } else { sent(n) }.wire()).collect();
        client.write(&all).await;
        for n in 0..8 {
            let Some(reply) = client.try_read("POST").await else { break };
            let op = operation(round * 8 + n);
            assert_eq!(reply.header("operationID"), Some(op.as_str()));
            if n == 5 {
                assert_eq!(reply.verdict(), (401, 20104));
            } else if reply.status == 200 && (round * 8 + n) % 3 != 1 {
                assert_eq!(reply.text(), body(&op, tail(&people[n % 2].token), 0));
            }
            assert!(!reply.text().contains("op-") || reply.text().contains(&op), "{op}: {}", reply.text());
            answered += 1;
        }
    }
    assert!(answered >= 10, "{answered}");
    let mut seen: Vec<_> = w.seen.lock().unwrap().iter().map(|got| got.head.clone()).collect();
    let sent = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), sent, "a pipelined request was sent twice");
}

#[tokio::test]
async fn a_refused_body_is_never_read_as_a_request() {
    let w = pair("9s", |got| vec![Act::Send(wire(Shape::Length, &own(got)))]).await;
    let smuggled = |op: &str| w.bob.post(PATH, "{}").header("operationID", op).wire();
    let padded = [smuggled("smuggled"), vec![b' '; 70_000]].concat();
    let cases = [
        ("without a signature", Sent::new("POST", PATH).body(&smuggled("smuggled"))),
        ("to nowhere", Sent::new("POST", "/nowhere").body(&smuggled("smuggled"))),
        ("too large", w.ann.sign(Sent::new("POST", PATH).body(&padded))),
    ];
    for (what, sent) in cases {
        let mut client = Client::connect(w.gateway.address).await;
        let op = format!("after {what}").replace(' ', "-");
        let after = w.ann.post(PATH, "{}").header("operationID", &op);
        client.write(&[sent.wire(), after.wire()].concat()).await;
        assert!(client.try_read("POST").await.is_none_or(|reply| reply.status >= 400), "{what}");
        if let Some(reply) = client.try_read("POST").await {
            assert_eq!(reply.text(), body(&op, tail(&w.ann.token), 0), "{what}");
        }
        assert!(w.connections("smuggled").is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_post_is_sent_again_only_where_its_route_says_so() {
    // The second request on a connection is read, and the connection closed on it.
    let (carried, met) = (Mutex::new(HashMap::new()), Arc::new(Mutex::new(Vec::new())));
    let notes = Arc::clone(&met);
    let w = pair("9s", move |got| {
        let mut carried = carried.lock().unwrap();
        let count = carried.entry(got.connection).or_insert(0);
        *count += 1;
        if *count == 2 {
            notes.lock().unwrap().push(got.header("operationID").unwrap().to_owned());
            return vec![Act::Close];
        }
        vec![Act::Send(wire(Shape::Length, &own(got)))]
    })
    .await;
    for (path, verdict, times) in [(PATH, (502, 20402), 1), (SAFE, (200, 0), 2)] {
        let mut closed_on = 0;
        for round in 0..10 {
            let op = format!("{}-{round}", path.replace('/', "-"));
            let sent = w.ann.post(path, "{}").header("operationID", &op);
            let reply = Client::once(w.gateway.address, &sent).await;
            let expected = if met.lock().unwrap().contains(&op) { (verdict, times) } else { ((200, 0), 1) };
            closed_on += usize::from(expected == (verdict, times));
            assert_eq!((reply.verdict(), w.connections(&op).len()), expected, "{op}");
        }
        assert!(closed_on >= 5, "{path} {closed_on}");
    }
}
