//! More requests than there is time for: some are refused at once, so that the others are in time.
//!
//! Each request makes the gateway compress an answer, on the one thread it has. They come at a steady
//! pace, three times faster than it can serve them, whether or not earlier ones were answered.

use std::time::{Duration, Instant};

use openim_standin::{Options, Standin};
use tokio::task::JoinSet;

use crate::support::{Act, Client, Gateway, RedisServer, Reply, Sent, Setup, Upstream, ok, within};

/// How large the answers are, in bytes: compressing one must cost much more than refusing does.
const ANSWER: usize = 256 * 1024;

/// For how many requests' time requests come.
const LENGTH: u32 = 200;

/// How many requests' time an answer may take to be of use.
const PATIENCE: u32 = 30;

/// What came of the requests.
#[derive(Debug, Default)]
struct Outcome {
    in_time: u32,
    late: u32,
    refused: u32,
}

fn big() -> Sent {
    Sent::new("GET", "/big").header("Accept-Encoding", "gzip")
}

async fn gateway(shed: &str, openim: &Standin, redis: &RedisServer) -> (Gateway, Upstream) {
    // Numbers that are hard to compress.
    let mut number = 1_u64;
    let numbers = std::iter::repeat_with(|| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{:016x}", number ^ (number >> 29))
    });
    let data: String = numbers.take(ANSWER / 16).collect();
    let answer = ok(&format!(r#"{{"errCode":0,"errMsg":"","errDlt":"","data":"{data}"}}"#));
    let upstream = Upstream::start(move |_| {
        let answer = answer.clone();
        async move { vec![Act::Send(answer)] }
    })
    .await;
    let mut setup = Setup::new(openim, redis).patient();
    setup.upstreams = format!("  big: {{ servers: [\"{}\"] }}", upstream.address);
    setup.routes = "  - { path: /big, methods: [GET], upstream: big, public: true }".to_owned();
    setup.more = format!("threads: 1\nlimits: {{ shed: {shed} }}");
    (setup.start().await, upstream)
}

/// How long the gateway works for a request: by how many it answers when it is never idle.
async fn service_time(gateway: &Gateway) -> Duration {
    let (clients, each) = (4, 10);
    let began = Instant::now();
    let mut working = JoinSet::new();
    for _ in 0..clients {
        let address = gateway.address;
        working.spawn(async move {
            for _ in 0..each {
                let reply = Client::once(address, &big()).await;
                assert_eq!((reply.status, reply.header("content-encoding")), (200, Some("gzip")));
            }
        });
    }
    working.join_all().await;
    began.elapsed() / (clients * each)
}

/// Sends three times what can be served.
async fn overload(gateway: &Gateway, service: Duration) -> Outcome {
    let mut requests = JoinSet::new();
    let began = Instant::now();
    for n in 0..LENGTH * 3 {
        tokio::time::sleep_until((began + service / 3 * n).into()).await;
        let address = gateway.address;
        let asked = async move { Client::once(address, &big()).await };
        requests.spawn(tokio::time::timeout(service * PATIENCE, asked));
    }
    assert_eq!(gateway.admin_get("/healthz").await.status, 200, "nobody is kept from looking");
    let mut outcome = Outcome::default();
    for reply in requests.join_all().await {
        match reply {
            Ok(reply) if reply.status == 200 => outcome.in_time += 1,
            Ok(reply) => {
                check_refusal(&reply);
                outcome.refused += 1;
            }
            // The client has gone away, as they do.
            Err(_) => outcome.late += 1,
        }
    }
    outcome
}

fn check_refusal(reply: &Reply) {
    assert_eq!(reply.verdict(), (503, 20404), "{}", reply.text());
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_gateway_refuses_some_at_once_and_serves_others() {
    let (openim, redis) = (Standin::start(Options::default()).await.unwrap(), RedisServer::start());
    let (plain, _upstream) = gateway("{ target: 0s }", &openim, &redis).await;
    let service = service_time(&plain).await;
    let target = (service * 3).clamp(Duration::from_millis(5), Duration::from_secs(1)).as_millis();
    let interval = target.max(20);
    let terms = format!("{{ target: {target}ms, interval: {interval}ms }}");
    let (shedding, _upstream) = gateway(&terms, &openim, &redis).await;
    let without = overload(&plain, service).await;
    let with = overload(&shedding, service).await;
    assert_eq!(without.refused, 0);
    let counted = shedding.metric("imgate_shed_total{class=\"newcomer\"}").await;
    assert!(counted > 0.0 && counted >= f64::from(with.refused), "{counted} of {with:?}");
    // By how much that helps depends on who else is busy; a simulated server shows it without a clock (the unit
    // tests of `admission`).
    assert!(with.in_time > 0 && with.refused > 0, "with: {with:?}, without: {without:?}, each {service:?}");

    // When it is over, nobody is refused any more.
    let calm = async || shedding.metric("imgate_shed_ratio{class=\"newcomer\"}").await == 0.0;
    within(Duration::from_secs(60), "it is over", calm).await;
    assert_eq!(shedding.send(&big()).await.status, 200);
}
