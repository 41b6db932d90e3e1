//! Upstreams that fail, hang, fall ill, change their name's address, and come back.

mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use openim_standin::{Answer, Options, Standin};

use crate::support::ws::handshake;
use crate::support::{
    Act, Closed, Gateway, Person, RedisServer, Reply, Sent, Setup, Upstream, eventually, ok,
};

const PATH: &str = "/asked";

const WELL: &str = r#"{"errCode":0,"errMsg":"","errDlt":""}"#;

/// What OpenIM says when something behind its API is down. Source: openimsdk/tools
/// mw/rpc_client_interceptor.go.
const DOWN: &str = r#"{"errCode":14,"errMsg":"Unavailable","errDlt":""}"#;

struct World {
    gateway: Gateway,
    people: Vec<Person>,
    _redis: RedisServer,
    _openim: Standin,
}

impl World {
    /// A gateway with a route to an upstream that is written this way.
    async fn with(upstream: &str) -> Self {
        let openim = Standin::start(Options::default()).await.unwrap();
        Self::around(openim, upstream).await
    }

    async fn around(openim: Standin, upstream: &str) -> Self {
        let redis = RedisServer::start();
        let mut people = Vec::new();
        for name in ["ann", "ben", "cyd", "dan"] {
            people.push(Person::new(name, &redis, &openim).await);
        }
        let mut setup = Setup::new(&openim, &redis).patient();
        setup.upstreams = format!("  scripted: {{ {upstream} }}");
        setup.routes = [
            format!("  - {{ path: {PATH}, upstream: scripted, chain: user, bind: none }}"),
            "  - { path: /gotten, upstream: scripted, methods: [GET], public: true }".to_owned(),
            "  - { prefix: /flow/, upstream: scripted, stream: true, public: true }".to_owned(),
            "  - { path: /sock, websocket: scripted, chain: socket }".to_owned(),
            "  - { path: /hasty, upstream: scripted, chain: user, bind: none, timeout: 1s }".to_owned(),
        ]
        .join("\n");
        let gateway = setup.start().await;
        Self { gateway, people, _redis: redis, _openim: openim }
    }

    /// A POST by one of the four.
    async fn ask(&self, person: usize) -> Reply {
        self.gateway.send(&self.people[person % 4].post(PATH, "{}")).await
    }

    async fn event(&self, event: &str) -> f64 {
        let name = format!("imgate_upstream_events_total{{event=\"{event}\",upstream=\"scripted\"}}");
        self.gateway.metric(&name).await
    }

    async fn is(&self, server: &Upstream, state: &str) -> bool {
        let labels = format!("server=\"{}\",state=\"{state}\",upstream=\"scripted\"", server.address);
        self.gateway.metric(&format!("imgate_upstream_server_state{{{labels}}}")).await == 1.0
    }

    /// Why this request was refused, as the access line has it.
    async fn reason(&self, sent: &Sent, op: &str) -> ((u16, i64), String) {
        let verdict = self.gateway.send(&sent.clone().header("operationID", op)).await.verdict();
        let line = self.gateway.line(op).await;
        (verdict, line["reason"].as_str().unwrap_or("").to_owned())
    }
}

/// An upstream that answers everything with this, and counts.
async fn answering(body: &'static str) -> (Upstream, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    let upstream = Upstream::start(move |_| {
        counts.fetch_add(1, Ordering::SeqCst);
        async move { vec![Act::Send(ok(body))] }
    })
    .await;
    (upstream, asked)
}

#[tokio::test]
async fn a_server_that_fails_several_users_is_left_out_and_one_user_cannot_do_that() {
    let ((well, _), (ill, asked)) = (answering(WELL).await, answering(DOWN).await);
    let servers =
        format!("servers: [\"{}\", \"{}\"], breaker: {{ enabled: false }}", well.address, ill.address);
    let w =
        World::with(&format!("{servers}, eject: {{ within: 10m, pause: 10m, longest_pause: 10m }}")).await;
    for _ in 0..40 {
        w.ask(0).await;
    }
    assert!(asked.load(Ordering::SeqCst) > 5 && w.is(&ill, "up").await, "one user proves nothing");
    for person in 0..40 {
        w.ask(person).await;
    }
    assert!(w.is(&ill, "left_out").await && w.is(&well, "up").await);
    assert_eq!(w.event("ejection").await, 1.0);
    let before = asked.load(Ordering::SeqCst);
    for person in 0..40 {
        assert_eq!(w.ask(person).await.verdict(), (200, 0));
    }
    assert_eq!(asked.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn an_upstream_of_which_all_fails_is_not_asked_until_a_trial_goes_well() {
    let well = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&well);
    let upstream = Upstream::start(move |_| {
        let body = if says.load(Ordering::SeqCst) { WELL } else { DOWN };
        async move { vec![Act::Send(ok(body))] }
    })
    .await;
    let pauses = "pause: 100ms, longest_pause: 100ms, within: 10m";
    let w = World::with(&format!("servers: [\"{}\"], breaker: {{ {pauses} }}", upstream.address)).await;
    for person in 0..20 {
        assert_eq!(w.ask(person).await.verdict(), (200, 14), "as OpenIM says it");
    }
    eventually("refused at once", async || w.ask(0).await.verdict() == (502, 20402)).await;
    assert_eq!(w.gateway.metric("imgate_upstream_breaker_open{upstream=\"scripted\"}").await, 1.0);
    assert!(w.event("breaker_opening").await >= 1.0 && w.event("breaker_refusal").await >= 1.0);
    // Streams and sockets are refused alike.
    eventually("a socket is refused", async || {
        let target = "/sock?sendID=ann&token=x&platformID=2&operationID=op&isBackground=false";
        w.gateway.send(&handshake(target)).await.verdict() == (502, 20402)
    })
    .await;
    well.store(true, Ordering::SeqCst);
    eventually("asked again", async || w.ask(0).await.verdict() == (200, 0)).await;
    assert_eq!(w.gateway.metric("imgate_upstream_breaker_open{upstream=\"scripted\"}").await, 0.0);
}

#[tokio::test]
async fn a_server_that_fails_openims_health_check_gets_no_requests_until_it_passes() {
    let (one, other) = (
        Standin::start(Options::default()).await.unwrap(),
        Standin::start(Options::default()).await.unwrap(),
    );
    let (well, ill) = (one.api(), other.api());
    for _ in 0..1000 {
        other.answer_next("/auth/parse_token", Answer::error(14, "Unavailable", ""));
    }
    let check = "health_check: { ask: openim_api, interval: 1s }";
    let w = World::around(one, &format!("servers: [\"{well}\", \"{ill}\"], {check}")).await;
    let state = |server: std::net::SocketAddr, state: &str| {
        format!("imgate_upstream_server_state{{server=\"{server}\",state=\"{state}\",upstream=\"scripted\"}}")
    };
    let down = state(ill, "down");
    eventually("down", async || w.gateway.metric(&down).await == 1.0).await;
    assert!(w.event("check_passed").await >= 1.0 && w.event("check_failed").await >= 3.0);
    other.clear_records();
    for person in 0..20 {
        w.ask(person).await;
    }
    let asked = other.records();
    assert!(asked.iter().all(|record| record.target == "/auth/parse_token"), "{asked:?}");
}

#[tokio::test]
async fn the_message_gateway_passes_its_health_check_by_refusing() {
    let openim = Standin::start(Options::default()).await.unwrap();
    let ws = openim.ws();
    // A busy machine may be late now and then, so failures are not counted; a wrong answer never passes.
    let check = "health_check: { ask: openim_socket, interval: 1s }";
    let w = World::around(openim, &format!("servers: [\"{ws}\"], {check}")).await;
    eventually("passed", async || w.event("check_passed").await >= 2.0).await;
}

#[tokio::test]
async fn what_went_wrong_with_an_upstream_is_told_apart() {
    let upstream = Upstream::start(|got| {
        let line = got.head.lines().next().unwrap_or("").to_owned();
        let (acts, held) = (line, Arc::new(tokio::sync::Notify::new()));
        async move {
            match acts.split('?').nth(1).unwrap_or("") {
                way if way.starts_with("silent") => vec![Act::Wait(held)],
                way if way.starts_with("stalled") => {
                    vec![Act::Send(b"HTTP/1.1 200 OK\r\nContent-".to_vec()), Act::Wait(held)]
                }
                way if way.starts_with("closed") => vec![Act::Close],
                way if way.starts_with("reset") => vec![Act::Reset],
                way if way.starts_with("garbled") => {
                    vec![Act::Send(b"SMTP hello\r\n\r\n".to_vec()), Act::Close]
                }
                _ => vec![Act::Send(ok(WELL))],
            }
        }
    })
    .await;
    let times = "first_byte_timeout: 400ms, read_timeout: 300ms, breaker: { enabled: false }";
    let w = World::with(&format!("servers: [\"{}\"], {times}", upstream.address)).await;
    let unreachable = (502, 20402);
    let late = (504, 20403);
    let cases = [
        ("silent", late, "upstream_silent"),
        ("stalled", late, "upstream_stalled"),
        ("closed", unreachable, "upstream_closed"),
        ("reset", unreachable, "upstream_broken"),
        ("garbled", unreachable, "answer_head_invalid"),
    ];
    for (way, verdict, reason) in cases {
        let told = w.reason(&Sent::new("GET", &format!("/gotten?{way}")), &format!("op-x-{way}")).await;
        assert_eq!(told, (verdict, reason.to_owned()), "exchange");
        let (told, _) = w.reason(&Sent::new("GET", &format!("/flow/x?{way}")), &format!("op-f-{way}")).await;
        assert_eq!(told, verdict, "stream {way}");
    }
    let hasty = w.people[0].post("/hasty?silent", "{}");
    let (told, _) = w.reason(&hasty, "op-hasty").await;
    assert_eq!(told, late);
    assert_eq!(w.reason(&Sent::new("GET", "/gotten?fine"), "op-fine").await, ((200, 0), String::new()));
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_502_however_it_is_asked() {
    let gone = Closed::new();
    let w = World::with(&format!("servers: [\"{}\"], breaker: {{ enabled: false }}", gone.address())).await;
    let refused = ((502, 20402), "connect_refused".to_owned());
    assert_eq!(w.reason(&Sent::new("GET", "/gotten"), "op-1").await, refused);
    assert_eq!(w.reason(&Sent::new("GET", "/flow/x"), "op-2").await, refused);
    let target = "/sock?sendID=ann&token=x&platformID=2&operationID=op-3&isBackground=false";
    assert_eq!(w.gateway.send(&handshake(target)).await.verdict(), (502, 20402));
}

#[tokio::test]
async fn a_dead_server_costs_no_stream_and_few_tries() {
    let ((well, _), gone) = (answering(WELL).await, Closed::new());
    let servers = format!("servers: [\"{}\", \"{}\"]", gone.address(), well.address);
    let w =
        World::with(&format!("{servers}, eject: {{ within: 10m, pause: 10m, longest_pause: 10m }}")).await;
    for n in 0..40 {
        let reply = w.gateway.send(&Sent::new("GET", &format!("/flow/{n}"))).await;
        assert_eq!(reply.verdict(), (200, 0));
    }
    assert_eq!(w.event("ejection").await, 1.0);
    // Five failures have the dead one left out, and nothing is tried there again.
    assert_eq!(w.event("repeat").await, 5.0);
}

#[tokio::test]
async fn servers_may_be_names_and_one_without_an_address_keeps_nobody_from_starting_unless_asked_to() {
    let (well, _) = answering(WELL).await;
    let w = World::with(&format!("servers: [\"localhost:{}\"]", well.address.port())).await;
    assert_eq!(w.ask(0).await.verdict(), (200, 0));
    drop(w);
    // Source: RFC 6761 section 6.4: `.invalid` never has an address.
    let w = World::with("servers: [\"openim.invalid:1\"], resolve: { strict: false, every: 1s }").await;
    let told = w.reason(&Sent::new("GET", "/gotten"), "op-none").await;
    assert_eq!(told, ((502, 20402), "no_server_known".to_owned()));
    eventually("looked up in vain", async || w.event("lookup_failed").await >= 1.0).await;
}

#[tokio::test]
async fn a_post_goes_on_a_connection_that_was_in_use_just_now_or_on_a_new_one() {
    for (bound, is_one) in [("30s", true), ("0s", false)] {
        let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        let upstream = Upstream::start(move |got| {
            notes.lock().push(got.connection);
            async move { vec![Act::Send(ok(WELL))] }
        })
        .await;
        let w =
            World::with(&format!("servers: [\"{}\"], idle_timeout_unsafe: {bound}", upstream.address)).await;
        for person in 0..3 {
            assert_eq!(w.ask(person).await.verdict(), (200, 0));
        }
        let seen = seen.lock().clone();
        let is_fresh = seen.windows(2).all(|pair| pair[0] != pair[1]);
        // Threads of the gateway keep connections of their own, so not all need be the same.
        assert_eq!(!is_fresh, is_one, "{bound} {seen:?}");
    }
}

#[tokio::test]
async fn a_key_always_finds_its_server() {
    let ((one, asked), (other, _)) = (answering(WELL).await, answering(WELL).await);
    let servers = format!("servers: [\"{}\", \"{}\"]", one.address, other.address);
    let w = World::with(&format!("{servers}, balance: {{ hash: {{ header: X-Room }} }}")).await;
    let mut shares = Vec::new();
    for room in 0..24 {
        let before = asked.load(Ordering::SeqCst);
        for _ in 0..4 {
            let sent = Sent::new("GET", "/gotten").header("X-Room", &room.to_string());
            assert_eq!(w.gateway.send(&sent).await.verdict(), (200, 0));
        }
        shares.push(asked.load(Ordering::SeqCst) - before);
    }
    assert!(shares.iter().all(|share| [0, 4].contains(share)), "{shares:?}");
    assert!(shares.contains(&0) && shares.contains(&4), "{shares:?}");
}
