//! A peer that breaks costs its own routes, no longer than their deadline, and nothing once it is well.

use std::time::{Duration, Instant};

use openim_standin::{KNOWN_OBJECT, Options, Standin};

use crate::support::fault_proxy::{Deaf, Fault, FaultProxy, Way};
use crate::support::ws::handshake;
use crate::support::{
    Act, Client, Gateway, Person, RedisServer, Reply, Sent, Setup, Upstream, eventually, leaks, ok, within,
    writer,
};

const FRIENDS: &str = "/friend/get_friend_list";
const BODY: &str = r#"{"userID":"ann"}"#;

/// When OpenIM's clients give up. Source: openim-sdk-core `pkg/network/http_client.go`.
const SDK_PATIENCE: Duration = Duration::from_secs(10);

/// How long the gateway may take to find a peer again.
const BACK: Duration = Duration::from_secs(10);

/// One byte a second: never silent, never done.
const TRICKLE: Fault = Fault::Drip(1, Duration::from_secs(1));

const UNREACHABLE: (u16, i64) = (502, 20402);
const TIMED_OUT: (u16, i64) = (504, 20403);
const UNKNOWN: (u16, i64) = (503, 20401);

struct World {
    gateway: Gateway,
    ann: Person,
    api: FaultProxy,
    ws: FaultProxy,
    backend: FaultProxy,
    store: FaultProxy,
    openim: Standin,
    redis: RedisServer,
    _sidecar: Upstream,
}

/// A gateway that reaches each of its peers through a proxy.
async fn world() -> World {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let sidecar =
        Upstream::start(|_| async { vec![Act::Send(ok(r#"{"errCode":0,"errMsg":"","errDlt":""}"#))] }).await;
    let api = FaultProxy::start(openim.api()).await;
    let ws = FaultProxy::start(openim.ws()).await;
    let backend = FaultProxy::start(sidecar.address).await;
    let store = FaultProxy::start(redis.address().parse().unwrap()).await;
    let mut setup = Setup::at(api.address(), ws.address(), &store.address().to_string());
    setup.cache = "ttl: 60s, stale_grace: 60s".to_owned();
    setup.more = "limits: { request_timeout: 3s }".to_owned();
    setup.upstreams = format!(
        "  backend: {{ servers: [\"{}\"], connect_timeout: 500ms, read_timeout: 1s }}",
        backend.address()
    );
    setup.chains = "  session:
    - operation_id: {}
    - verify_signature: {}
    - strip_credentials: {}
  open:
    - operation_id: {}
    - strip_credentials: {}"
        .to_owned();
    setup.routes = "  - { prefix: /api/, upstream: backend, chain: session }
  - { prefix: /files/, upstream: backend, chain: open, public: true, stream: true }"
        .to_owned();
    let gateway = setup.start().await;
    World { gateway, ann, api, ws, backend, store, openim, redis, _sidecar: sidecar }
}

/// What is asked of the gateway, and so which of its peers it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// OpenIM's API, whole requests and answers.
    Api,
    /// OpenIM's API, streamed.
    Object,
    /// The sidecar, whole.
    Sidecar,
    /// The sidecar, streamed.
    File,
    /// OpenIM's message gateway.
    Socket,
}

impl World {
    fn sent(&self, ask: Ask) -> Sent {
        match ask {
            Ask::Api => self.ann.post(FRIENDS, BODY),
            Ask::Object => Sent::new("GET", &format!("/object/{KNOWN_OBJECT}")),
            Ask::Sidecar => self.ann.post("/api/me", "{}"),
            Ask::File => Sent::new("GET", "/files/x"),
            Ask::Socket => handshake(&crate::support::ws::target("ann", &self.ann.token, 2, "")),
        }
    }

    /// Asks, and is answered before an SDK would give up, under the request's own name.
    async fn ask(&self, ask: Ask, op: &str) -> Reply {
        let began = Instant::now();
        let sent = self.sent(ask).header("operationID", op);
        let reply = Client::once(self.gateway.address, &sent).await;
        assert!(began.elapsed() < SDK_PATIENCE, "{ask:?} {op} took {:?}", began.elapsed());
        leaks::none_in("an answer", &reply.text());
        // A socket names its operation in the query.
        if ask != Ask::Socket {
            assert_eq!(reply.header("operationID"), Some(op), "{ask:?}");
        }
        reply
    }

    async fn is_well(&self, ask: Ask, op: &str) -> bool {
        let reply = self.ask(ask, op).await;
        match ask {
            Ask::Object => reply.status == 302,
            Ask::Socket => reply.status == 101,
            Ask::Api | Ask::Sidecar | Ask::File => reply.verdict() == (200, 0),
        }
    }

    /// Waits until changes are announced and Ann is served without a look into Redis. What was read before
    /// the announcements came back is dropped when they do.
    async fn knows_ann(&self, what: &str) {
        let misses = async || self.gateway.metric("imgate_store_events_total{event=\"miss\"}").await;
        let known = async || {
            let up = self.gateway.metric("imgate_store_up").await == 1.0;
            let before = misses().await;
            up && self.is_well(Ask::Api, "op-before").await && misses().await == before
        };
        within(BACK, &format!("ann is known, {what}"), known).await;
    }

    fn peer(&mut self, ask: Ask) -> &mut FaultProxy {
        match ask {
            Ask::Api | Ask::Object => &mut self.api,
            Ask::Sidecar | Ask::File => &mut self.backend,
            Ask::Socket => &mut self.ws,
        }
    }

    /// Breaks the peer of `ask` and says what came of it; meanwhile `others` are served.
    async fn suffers(&mut self, ask: Ask, case: &Case, others: &[Ask]) {
        let (what, fault, verdict) = case;
        let (what, verdict) = (format!("{ask:?}: {what}"), *verdict);
        within(BACK, &what, async || self.is_well(ask, "op-before").await).await;
        fault.befall(self.peer(ask)).await;
        let before = self.peer(ask).accepted();
        let reply = self.ask(ask, "op-broken").await;
        assert_eq!(reply.verdict(), verdict, "{what}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
        assert!(reply.body.len() <= 1024 && reply.header("retry-after").is_some(), "{what}");
        for other in others {
            assert!(self.is_well(*other, "op-other").await, "{what} took {other:?} with it");
        }
        self.peer(ask).heal().await;
        within(BACK, &what, async || self.is_well(ask, "op-after").await).await;
        // What was broken once carries nobody else.
        assert!(self.peer(ask).accepted() > before || *fault == Break::Refuse, "{what}");
    }
}

/// What happens to a peer, in words and in deeds, and what the client is told.
type Case = (&'static str, Break, (u16, i64));

/// What happens to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Break {
    /// Nobody listens.
    Refuse,
    /// A fault of one direction.
    In(Way, Fault),
}

impl Break {
    async fn befall(&self, peer: &mut FaultProxy) {
        match self {
            Self::Refuse => peer.refuse().await,
            Self::In(way, fault) => peer.set(*way, fault.clone()),
        }
        if matches!(self, Self::Refuse | Self::In(_, Fault::Reset | Fault::Close)) {
            // The gateway may not know yet that what it kept is gone.
            eventually("connections end", async || peer.live() == 0).await;
        }
    }
}

/// Every way in which an upstream can fail to answer.
fn breaks() -> Vec<Case> {
    let up = |fault| Break::In(Way::Up, fault);
    let down = |fault| Break::In(Way::Down, fault);
    let say = |text: &str| down(Fault::Say(text.as_bytes().to_vec()));
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    vec![
        ("nobody listens", Break::Refuse, UNREACHABLE),
        ("closed when accepted", up(Fault::Close), UNREACHABLE),
        ("reset when accepted", up(Fault::Reset), UNREACHABLE),
        ("reads nothing", up(Fault::Hold), TIMED_OUT),
        ("reset within the request", up(Fault::ResetAfter(50)), UNREACHABLE),
        ("reads a byte a second", up(TRICKLE), TIMED_OUT),
        ("answers nothing", down(Fault::Hold), TIMED_OUT),
        ("answers too late", down(Fault::Delay(Duration::from_secs(20))), TIMED_OUT),
        ("closes for an answer", down(Fault::CutAfter(0)), UNREACHABLE),
        ("closes within the head", down(Fault::CutAfter(20)), UNREACHABLE),
        ("resets for an answer", down(Fault::ResetAfter(0)), UNREACHABLE),
        ("resets within the head", down(Fault::ResetAfter(20)), UNREACHABLE),
        ("speaks no HTTP", say("\u{16}\u{3}\u{1} what is this\r\n\r\n"), UNREACHABLE),
        ("has a status of its own", say("HTTP/1.1 2000 Very OK\r\n\r\n"), UNREACHABLE),
        ("switches to something", say(switch), UNREACHABLE),
        ("switches without a word", say("HTTP/1.1 101 Switching Protocols\r\n\r\n"), UNREACHABLE),
    ]
}

/// A whole answer that breaks off in its body is none; a trickle runs out of time.
fn breaks_of_whole_answers() -> Vec<Case> {
    let say = |text: &str| Break::In(Way::Down, Fault::Say(text.as_bytes().to_vec()));
    let head = "HTTP/1.1 200 OK\r\n";
    let endless = "HTTP/1.1 102 Processing\r\n\r\n".repeat(20);
    let huge = format!("{head}X-Huge: {}\r\nContent-Length: 2\r\n\r\n{{}}", "x".repeat(200_000));
    let many = format!("{head}{}Content-Length: 2\r\n\r\n{{}}", "X-Many: x\r\n".repeat(200));
    let two = format!("{head}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}}}");
    let chunk = format!("{head}Transfer-Encoding: chunked\r\n\r\n0x2\r\n{{}}\r\n0\r\n\r\n");
    let short = format!("{head}Content-Length: 90\r\n\r\n{{}}");
    vec![
        ("answers a byte a second", Break::In(Way::Down, TRICKLE), TIMED_OUT),
        ("stands still within the body", say(&short), TIMED_OUT),
        ("has two lengths", say(&two), UNREACHABLE),
        ("spells the size of a chunk oddly", say(&chunk), UNREACHABLE),
        ("has interim answers without end", say(&endless), UNREACHABLE),
        ("has a huge head", say(&huge), UNREACHABLE),
        ("has too many headers", say(&many), UNREACHABLE),
    ]
}

#[tokio::test]
async fn openim_that_breaks_is_told_in_time_and_costs_its_own_routes_only() {
    let mut w = world().await;
    for case in breaks().iter().chain(&breaks_of_whole_answers()) {
        w.suffers(Ask::Api, case, &[Ask::Sidecar, Ask::File]).await;
    }
    assert_eq!(w.gateway.admin_get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_sidecar_that_breaks_is_told_in_time_and_costs_its_own_routes_only() {
    let mut w = world().await;
    for case in breaks().iter().chain(&breaks_of_whole_answers()) {
        w.suffers(Ask::Sidecar, case, &[Ask::Api, Ask::Object]).await;
    }
    assert_eq!(w.gateway.admin_get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_streamed_answer_that_never_begins_is_told_in_time() {
    let mut w = world().await;
    for case in &breaks() {
        w.suffers(Ask::File, case, &[Ask::Api, Ask::Object]).await;
    }
}

#[tokio::test]
async fn a_message_gateway_that_breaks_is_told_in_time_and_costs_no_other_route() {
    let mut w = world().await;
    for case in &breaks() {
        w.suffers(Ask::Socket, case, &[Ask::Api, Ask::Sidecar]).await;
    }
}

#[tokio::test]
async fn a_streamed_answer_that_stands_still_ends_without_an_end() {
    let mut w = world().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
    for fault in [Fault::CutAfter(head.len() + 5), Fault::ResetAfter(head.len() + 5), Fault::Say(head.into())]
    {
        within(BACK, "the sidecar answers", async || w.is_well(Ask::File, "op-before").await).await;
        w.backend.set(Way::Down, fault.clone());
        let mut client = Client::connect(w.gateway.address).await;
        client.write(&w.sent(Ask::File).wire()).await;
        // A body that is not whole is none, and nothing says that it ended.
        let reply = client.try_read("GET").await;
        assert!(reply.is_none_or(|reply| reply.status >= 500), "{fault:?}");
        assert!(client.is_closed().await, "{fault:?}");
        w.backend.heal().await;
        within(BACK, "the sidecar is back", async || w.is_well(Ask::File, "op-after").await).await;
    }
}

#[tokio::test]
async fn a_server_that_hears_nothing_is_given_up_in_time() {
    let openim = Standin::start(Options::default()).await.unwrap();
    let redis = RedisServer::start();
    let ann = Person::new("ann", &redis, &openim).await;
    let deaf = Deaf::new().await;
    let mut setup = Setup::at(deaf.address, deaf.address, &redis.address()).patient();
    setup.more = "limits: { request_timeout: 4s }".to_owned();
    let gateway = setup.start().await;
    let socket = handshake(&crate::support::ws::target("ann", &ann.token, 2, ""));
    for sent in [ann.post(FRIENDS, BODY), Sent::new("GET", "/object/x"), socket] {
        let began = Instant::now();
        assert_eq!(gateway.send(&sent).await.verdict(), TIMED_OUT, "{}", sent.method);
        assert!(began.elapsed() < SDK_PATIENCE);
    }
}

/// What may happen to Redis, or to the way there.
fn spoils() -> Vec<(&'static str, Break)> {
    let up = |fault| Break::In(Way::Up, fault);
    let down = |fault| Break::In(Way::Down, fault);
    let say = |text: &str| down(Fault::Say(text.as_bytes().to_vec()));
    vec![
        ("nobody listens", Break::Refuse),
        ("reset when accepted", up(Fault::Reset)),
        ("closed when accepted", up(Fault::Close)),
        ("reads nothing", up(Fault::Hold)),
        ("reset within a command", up(Fault::ResetAfter(7))),
        ("reads a byte a second", up(TRICKLE)),
        ("answers nothing", down(Fault::Hold)),
        ("answers after 10 s", down(Fault::Delay(Duration::from_secs(10)))),
        ("closes for a reply", down(Fault::CutAfter(0))),
        ("closes within a reply", down(Fault::CutAfter(3))),
        ("resets within a reply", down(Fault::ResetAfter(3))),
        ("answers a byte a second", down(TRICKLE)),
        ("speaks HTTP", say("HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("speaks nothing known", say("\u{0}\u{1}\u{2}")),
        ("announces a huge string", say("$99999999999\r\n")),
        ("announces a huge list", say("*99999999999\r\n")),
        ("is loading", say("-LOADING Redis is loading the dataset in memory\r\n")),
        ("is a replica", say("-READONLY You can't write against a read only replica.\r\n")),
        ("wants a password", say("-NOAUTH Authentication required.\r\n")),
        ("is elsewhere", say("-MOVED 3999 127.0.0.1:1\r\n")),
        ("has no room", say("-ERR max number of clients reached\r\n")),
        ("has no memory", say("-OOM command not allowed when used memory > 'maxmemory'.\r\n")),
    ]
}

#[tokio::test]
async fn a_redis_that_breaks_is_no_verdict_on_anybody_and_spares_who_is_known() {
    let mut w = world().await;
    for (n, (what, spoil)) in spoils().into_iter().enumerate() {
        let stranger = Person::new(&format!("bob{n}"), &w.redis, &w.openim).await;
        w.knows_ann(what).await;
        spoil.befall(&mut w.store).await;
        let began = Instant::now();
        let reply = w.gateway.send(&stranger.post("/group/get_groups_info", "{}")).await;
        assert_eq!(reply.verdict(), UNKNOWN, "{what}: {}", reply.text());
        assert!(began.elapsed() < SDK_PATIENCE, "{what} took {:?}", began.elapsed());
        for other in [Ask::Api, Ask::Sidecar, Ask::Object, Ask::File] {
            assert!(w.is_well(other, "op-other").await, "{what} took {other:?} with it");
        }
        w.store.heal().await;
        let served = async || {
            let reply = w.gateway.send(&stranger.post("/group/get_groups_info", "{}")).await;
            assert!([200, 503].contains(&reply.status), "{what}: {}", reply.text());
            reply.status == 200
        };
        within(BACK, &format!("served after {what}"), served).await;
    }
}

#[tokio::test]
async fn a_redis_without_room_for_us_is_waited_for_without_a_storm() {
    let mut w = world().await;
    w.knows_ann("at first").await;
    let client = redis::Client::open(w.redis.url()).unwrap();
    let mut own = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("CONFIG").arg(&["SET", "maxclients", "1"]).exec_async(&mut own).await.unwrap();
    w.store.set(Way::Up, Fault::Reset);
    eventually("links end", async || w.store.live() == 0).await;
    w.store.heal().await;
    let stranger = Person::unknown("bob", &w.openim);
    let before = w.store.accepted();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(w.gateway.send(&stranger.post("/group/get_groups_info", "{}")).await.verdict(), UNKNOWN);
        assert!(w.is_well(Ask::Api, "op-known").await);
    }
    let tried = w.store.accepted() - before;
    assert!((1..200).contains(&tried), "{tried} connections in {:?}", began.elapsed());
    redis::cmd("CONFIG").arg(&["SET", "maxclients", "1000"]).exec_async(&mut own).await.unwrap();
    drop(own);
    let store = writer(&w.redis).await;
    store.put_session(&stranger.session, &stranger.record).await.unwrap();
    store.put_token(&stranger.user, &stranger.token).await.unwrap();
    let served =
        async || w.gateway.send(&stranger.post("/group/get_groups_info", "{}")).await.verdict() != UNKNOWN;
    within(BACK, "Redis has room again", served).await;
}
