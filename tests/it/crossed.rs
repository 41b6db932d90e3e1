//! Answers reach the request they answer, whatever the upstream does to them.
//!
//! The upstream cuts, delays and garbles at every byte while 64 people ask. Each answer names the
//! operation it answers and the token it was asked with, so one that goes astray is found out.

mod script;
mod singly;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use openim_standin::{Options, Standin};
use tokio::io::AsyncReadExt as _;

use self::script::{Job, acts, body, operation, plan};
use crate::support::{
    Act, Client, Gateway, Got, Person, RedisServer, Reply, Sent, Setup, Upstream, eventually, writer,
};

const PEOPLE: usize = 64;
const PATH: &str = "/crossed";

/// How long a client waits, so that one left without an answer is found.
const PATIENCE: Duration = Duration::from_secs(15);

/// People at a gateway whose upstream does as it is told.
struct Crowd {
    people: Vec<Person>,
    jobs: Vec<Job>,
    /// How much is added to the body of an answer.
    fill: usize,
    next: AtomicUsize,
    /// How often the upstream saw each operation.
    seen: Vec<AtomicU32>,
    honest: AtomicUsize,
    failed: AtomicUsize,
}

impl Crowd {
    async fn new(people: usize, jobs: Vec<Job>, fill: usize, redis: &RedisServer) -> Arc<Self> {
        let openim = Standin::start(Options::default()).await.unwrap();
        let writer = writer(redis).await;
        writer.put_mark().await.unwrap();
        let people: Vec<Person> =
            (0..people).map(|n| Person::unknown(&format!("user{n:02}"), &openim)).collect();
        for person in &people {
            writer.put_session(&person.session, &person.record).await.unwrap();
            writer.put_token(&person.user, &person.token).await.unwrap();
        }
        let seen = jobs.iter().map(|_| AtomicU32::new(0)).collect();
        let (next, honest, failed) = Default::default();
        Arc::new(Self { people, jobs, fill, next, seen, honest, failed })
    }

    async fn upstream(self: &Arc<Self>) -> Upstream {
        let crowd = Arc::clone(self);
        Upstream::start(move |got| {
            let acts = crowd.answer(&got);
            async move { acts }
        })
        .await
    }

    fn answer(&self, got: &Got) -> Vec<Act> {
        let op = got.header("operationID").unwrap();
        let number: usize = op.strip_prefix("op-").unwrap().parse().unwrap();
        self.seen[number].fetch_add(1, Ordering::SeqCst);
        acts(self.jobs[number], &body(op, tail(got.header("token").unwrap()), self.fill))
    }

    /// The next thing to do, if there is any.
    fn take(&self) -> Option<usize> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        (number < self.jobs.len()).then_some(number)
    }

    /// Panics if `text` names an operation or a token that is not this person's.
    fn nobody_elses(&self, text: &str, op: &str, me: &Person) {
        for (at, mark) in text.match_indices("op-") {
            // An answer may break off in the middle of the number.
            let digits = text[at + mark.len()..].bytes().take_while(u8::is_ascii_digit).count();
            let named = &text[at..at + mark.len() + digits];
            assert!(op.starts_with(named), "{op} got the answer to another: {text}");
        }
        let others = self.people.iter().filter(|other| other.user != me.user);
        for other in others {
            assert!(!text.contains(tail(&other.token)), "{op} got {}'s answer: {text}", other.user);
        }
        assert!(!text.contains("forged"), "{op} got an answer to nobody: {text}");
    }

    /// Panics unless `reply` is this job's answer, or says in our words that there is none.
    fn check(&self, number: usize, reply: &Reply, me: &Person) {
        let (op, job) = (operation(number), self.jobs[number]);
        let head: String = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let text = head + &reply.text();
        self.nobody_elses(&text, &op, me);
        assert_eq!(reply.header("operationID"), Some(op.as_str()), "{job:?}");
        assert_eq!(reply.copies("operationID"), 1, "{job:?}");
        match reply.verdict() {
            (200, 0) => {
                assert_eq!(reply.text(), body(&op, tail(&me.token), self.fill), "{job:?}");
                self.honest.fetch_add(usize::from(job.is_sound()), Ordering::SeqCst);
            }
            (200, -1) => assert!(reply.json().is_null() && job.garbles_soundly(), "{job:?} {text}"),
            (502, 20402) | (504, 20403) => {
                assert_eq!(reply.json()["errDlt"], "", "{job:?}");
                assert_eq!(reply.header("content-type"), Some("application/json"), "{job:?}");
                self.failed.fetch_add(usize::from(job.is_sound()), Ordering::SeqCst);
            }
            other => panic!("{job:?} {other:?} {text}"),
        }
    }

    fn sent(&self, number: usize, me: &Person) -> Sent {
        me.post(PATH, "{}").header("operationID", &operation(number))
    }

    /// Nothing was sent twice, sound answers arrived, and no connection is still counted as busy.
    async fn ends_well(&self, gateway: &Gateway, upstream: &Upstream) {
        for (number, seen) in self.seen.iter().enumerate() {
            assert!(seen.load(Ordering::SeqCst) <= 1, "{} was sent twice", operation(number));
        }
        let (honest, failed) = (self.honest.load(Ordering::SeqCst), self.failed.load(Ordering::SeqCst));
        // An upstream that closes a connection it seemed to keep may take one that is sound with it.
        assert!(failed * 20 <= honest, "{failed} sound answers were lost, {honest} arrived");
        let busy =
            format!("imgate_upstream_in_flight{{server=\"{}\",upstream=\"scripted\"}}", upstream.address);
        eventually("no request is under way", async || gateway.metric(&busy).await == 0.0).await;
    }
}

/// The end of a token's signature, which no other token shares.
fn tail(token: &str) -> &str {
    &token[token.len() - 16..]
}

/// A gateway with a route to a scripted upstream.
fn setup(upstream: &Upstream, redis: &RedisServer, read_timeout: &str, more: &str) -> Setup {
    let mut setup = Setup::at(upstream.address, upstream.address, &redis.address()).patient();
    // Most of what it does is wrong on purpose, and must not be a reason to ask it no more.
    let timeouts =
        format!("connect_timeout: 1s, read_timeout: {read_timeout}, breaker: {{ enabled: false }}");
    setup.upstreams = format!("  scripted: {{ servers: [\"{}\"], {timeouts} }}", upstream.address);
    setup.routes = format!("  - {{ path: {PATH}, upstream: scripted, chain: user, bind: none, {more} }}");
    setup
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_reaches_another_request_whatever_breaks_at_whichever_byte() {
    let redis = RedisServer::start();
    let crowd = Crowd::new(PEOPLE, plan(0, 1), 0, &redis).await;
    let upstream = crowd.upstream().await;
    let gateway = setup(&upstream, &redis, "500ms", "methods: [POST]").start().await;
    let everybody: Vec<_> = (0..PEOPLE)
        .map(|who| tokio::spawn(ask_on_one_connection(Arc::clone(&crowd), who, gateway.address)))
        .collect();
    for one in everybody {
        one.await.unwrap();
    }
    assert!(crowd.jobs.len() > 4000, "{}", crowd.jobs.len());
    crowd.ends_well(&gateway, &upstream).await;
}

/// Asks until there is nothing left to ask, on one connection as long as the gateway keeps it. Every
/// other person goes away in the middle at times, and comes back.
async fn ask_on_one_connection(crowd: Arc<Crowd>, who: usize, gateway: SocketAddr) {
    let me = &crowd.people[who];
    let mut client = Client::connect(gateway).await;
    while let Some(number) = crowd.take() {
        client.write(&crowd.sent(number, me).wire()).await;
        if crowd.jobs[number].abandoned && who % 2 == 1 {
            let under_way = async || number % 8 == 0 || crowd.seen[number].load(Ordering::SeqCst) == 1;
            eventually("the request is on its way", under_way).await;
            client = Client::connect(gateway).await;
            continue;
        }
        let reply = client.try_read("POST").await;
        let reply = reply.unwrap_or_else(|| panic!("{:?} got no answer", crowd.jobs[number]));
        crowd.check(number, &reply, me);
    }
}

/// So much is held in memory; the answers are several times as long.
const HOLD: &str = "limits: { hold: 512B }";
const FILL: usize = 2500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flowing_answer_that_breaks_is_never_taken_for_whole_nor_for_another() {
    let redis = RedisServer::start();
    let crowd = Crowd::new(PEOPLE / 2, plan(FILL, 41), FILL, &redis).await;
    let upstream = crowd.upstream().await;
    let mut setup = setup(&upstream, &redis, "500ms", "methods: [POST]");
    setup.more = HOLD.to_owned();
    let gateway = setup.start().await;
    let everybody: Vec<_> = (0..crowd.people.len())
        .map(|who| tokio::spawn(ask_to_the_end(Arc::clone(&crowd), who, gateway.address)))
        .collect();
    let mut broken = 0;
    for one in everybody {
        broken += one.await.unwrap();
    }
    // Of each shape with an end of its own, cut, reset and stalled bodies were told from whole ones.
    assert!(broken > 200, "{broken}");
    crowd.ends_well(&gateway, &upstream).await;
}

/// Asks on a connection each, and reads all that comes; says how many answers were seen to break off.
async fn ask_to_the_end(crowd: Arc<Crowd>, who: usize, gateway: SocketAddr) -> usize {
    let (me, mut broken) = (&crowd.people[who], 0);
    while let Some(number) = crowd.take() {
        let sent = crowd.sent(number, me).header("Connection", "close");
        let mut client = Client::connect(gateway).await;
        client.write(&sent.wire()).await;
        if crowd.jobs[number].abandoned && who % 2 == 1 {
            let under_way = async || number % 8 == 0 || crowd.seen[number].load(Ordering::SeqCst) == 1;
            eventually("the request is on its way", under_way).await;
            continue;
        }
        let (mut stream, mut raw) = client.into_stream();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut raw));
        // A reset tells that the answer broke off just as well as an early end.
        let _ = read.await.unwrap_or_else(|_| panic!("{:?} left a client waiting", crowd.jobs[number]));
        match whole(&raw) {
            Some(reply) => crowd.check(number, &reply, me),
            None => {
                crowd.nobody_elses(&String::from_utf8_lossy(&raw), &operation(number), me);
                assert!(!crowd.jobs[number].is_sound(), "{:?} broke off", crowd.jobs[number]);
                broken += 1;
            }
        }
    }
    broken
}

/// The answer in `raw`, if it is one, whole, with nothing behind it.
fn whole(raw: &[u8]) -> Option<Reply> {
    let head_end = raw.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&raw[..head_end]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut reply = Reply { status, headers, body: raw[head_end..].to_vec() };
    match (reply.header("content-length"), reply.header("transfer-encoding")) {
        (Some(length), None) => (length.parse() == Ok(reply.body.len())).then_some(reply),
        (None, Some("chunked")) => {
            reply.body = unchunk(&reply.body)?;
            Some(reply)
        }
        other => panic!("framed by {other:?}"),
    }
}

fn unchunk(mut wire: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = wire.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&wire[..end]).ok()?, 16).ok()?;
        let chunk = wire.get(end + 2..end + 2 + size)?;
        let after = wire.get(end + 2 + size..)?.strip_prefix(b"\r\n")?;
        if size == 0 {
            return after.is_empty().then_some(body);
        }
        body.extend_from_slice(chunk);
        wire = after;
    }
}
