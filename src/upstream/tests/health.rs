//! Servers that fail, in answers or in health checks, and come back.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::super::keeper::Keeper;
use super::super::probe::{Kind, probe};
use super::*;

fn fail(upstream: &Upstream, server: usize, caller: u64) {
    let mut lease = Lease::new(&upstream.servers()[server], caller, Admission::Free);
    lease.bad();
}

fn states(upstream: &Upstream) -> Vec<State> {
    upstream.servers().iter().map(|server| server.state()).collect()
}

/// Lets time pass.
fn pass(upstream: &Upstream, time: Duration) {
    *upstream.group.ahead.lock() += time;
}

fn unbroken() -> Options {
    Options { breaker: None, ..options() }
}

#[tokio::test]
async fn a_server_that_fails_several_callers_is_left_out_and_returns_step_by_step() {
    let upstream = Upstream::new("u", &addresses(2), unbroken());
    (0..1000).for_each(|_| fail(&upstream, 0, 1));
    assert_eq!(states(&upstream), [State::Up, State::Up], "one caller is not enough");
    (2..4).for_each(|caller| fail(&upstream, 0, caller));
    assert_eq!(states(&upstream), [State::LeftOut, State::Up]);
    let out = upstream.servers()[0].address;
    assert!((0..100).all(|caller| chosen(&upstream, caller) != out));

    pass(&upstream, Duration::from_secs(11));
    assert_eq!(states(&upstream)[0], State::Returning);
    let early = (0..4000).filter(|caller| chosen(&upstream, *caller) == out).count();
    pass(&upstream, Duration::from_secs(10));
    assert_eq!(states(&upstream)[0], State::Up);
    let late = (0..4000).filter(|caller| chosen(&upstream, *caller) == out).count();
    // It has a tenth of its share at first, and then all of it: half of the requests.
    assert!(early * 3 < late && (1600..2400).contains(&late), "{early} {late}");
}

#[tokio::test]
async fn the_last_server_is_never_left_out() {
    let upstream = Upstream::new("u", &addresses(2), unbroken());
    (0..100).for_each(|caller| fail(&upstream, 0, caller));
    (0..100).for_each(|caller| fail(&upstream, 1, caller));
    assert_eq!(states(&upstream), [State::LeftOut, State::Up]);
}

#[tokio::test]
async fn if_all_servers_fail_their_checks_all_are_asked() {
    let upstream = upstream(&addresses(2));
    upstream.servers().iter().for_each(|server| server.set_down(true, None));
    let seen: Vec<SocketAddr> = (0..100).map(|caller| chosen(&upstream, caller)).collect();
    assert!(addresses(2).iter().all(|server| seen.contains(server)));
}

#[tokio::test]
async fn a_breaker_refuses_until_a_trial_goes_well() {
    let upstream = upstream(&addresses(1));
    (0..20).for_each(|caller| fail(&upstream, 0, caller));
    assert!(upstream.has_open_breaker());
    assert!(matches!(upstream.admit(by(1)), Err(ConnectError::BreakerOpen)));
    pass(&upstream, Duration::from_secs(1));
    let mut trial = upstream.admit(by(1)).unwrap();
    assert!(upstream.admit(by(2)).is_err(), "one trial at a time");
    trial.good();
    assert!(upstream.admit(by(2)).is_ok() && !upstream.has_open_breaker());
}

#[tokio::test]
async fn a_request_that_is_given_up_counts_if_the_server_let_it_wait() {
    let give_up = |upstream: &Upstream, wait: u64| {
        for caller in 0..20 {
            let mut lease = upstream.admit(by(caller)).unwrap();
            lease.waits();
            pass(upstream, Duration::from_millis(wait));
        }
    };
    // A breaker that looks back for long enough.
    let threshold = window::Threshold { failures: 20, users: 3, share: 80, within: Duration::from_secs(600) };
    let breaker = breaker::Options { threshold, ..breaker::Options::default() };
    let upstream = Upstream::new("u", &addresses(1), Options { breaker: Some(breaker), ..options() });
    // Who gives up at once was let wait by nobody.
    give_up(&upstream, 0);
    assert!(!upstream.has_open_breaker());
    give_up(&upstream, 1000);
    assert!(upstream.has_open_breaker());
}

#[tokio::test]
async fn answers_are_judged_by_status_and_code() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream::new("u", &[listener.local_addr().unwrap()], options());
    let cases = [(200, Some(0)), (200, Some(1001)), (200, Some(1501)), (404, None), (429, Some(429))];
    for (status, code) in cases.into_iter().cycle().take(100) {
        let mut connection = upstream.connect_anew(by(1)).await.unwrap();
        connection.judge(StatusCode::from_u16(status).unwrap(), code);
    }
    assert!(!upstream.has_open_breaker());
    let upstream = Upstream::new("u", &[listener.local_addr().unwrap()], options());
    let cases = [(200, Some(14)), (200, Some(4)), (200, Some(13)), (200, Some(500)), (503, None)];
    for (caller, (status, code)) in (0..20).zip(cases.into_iter().cycle()) {
        let mut connection = upstream.connect_anew(by(caller)).await.unwrap();
        connection.judge(StatusCode::from_u16(status).unwrap(), code);
    }
    assert!(upstream.has_open_breaker());
}

/// A server that answers each request with what `answer` says, until it says nothing.
async fn server(answer: impl Fn() -> Option<String> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(body) = answer() else { continue };
            serve(&mut stream, &body).await;
        }
    });
    address
}

async fn serve(stream: &mut TcpStream, body: &str) {
    let mut head = [0; 4096];
    if stream.read(&mut head).await.is_ok() {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_server_is_well_if_it_says_the_right_no() {
    let cases = [
        (Kind::OpenimApi, r#"{"errCode":1503}"#, true),
        (Kind::OpenimApi, r#"{"errCode":14}"#, false),
        (Kind::OpenimApi, "hello", false),
        (Kind::OpenimSocket, r#"{"errCode":1602}"#, true),
        (Kind::OpenimSocket, r#"{"errCode":1601}"#, false),
        (Kind::Http("/healthz".into()), "ok", true),
        (Kind::Tcp, "", true),
    ];
    for (kind, body, is_well) in cases {
        let address = server(|| Some(body.to_owned())).await;
        let upstream = upstream(&[address]);
        let said = probe(&upstream.servers()[0], &probe::Options::new(kind.clone())).await;
        assert_eq!(said.is_ok(), is_well, "{kind:?} {body} {said:?}");
        assert_eq!(upstream.servers()[0].in_flight(), 0);
    }
    let upstream = upstream(&[server(|| None).await]);
    assert!(probe(&upstream.servers()[0], &probe::Options::new(Kind::OpenimApi)).await.is_err());
}

/// Waits until it is so.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let give_up = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < give_up, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_server_goes_and_comes_as_its_health_checks_say() {
    let (well, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (says, counts) = (Arc::clone(&well), Arc::clone(&asked));
    let address = server(move || {
        counts.fetch_add(1, Ordering::SeqCst);
        let code = if says.load(Ordering::SeqCst) { 1503 } else { 14 };
        Some(format!(r#"{{"errCode":{code}}}"#))
    })
    .await;
    let check = probe::Options {
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        ..probe::Options::new(Kind::OpenimApi)
    };
    let upstream = Arc::new(Upstream::new("u", &[address], Options { check: Some(check), ..options() }));
    let (keeper, quit) = (Arc::new(Keeper::default()), CancellationToken::new());
    keeper.watch(&upstream);
    let running = tokio::spawn(Arc::clone(&keeper).run(quit.clone()));

    eventually("asked", || asked.load(Ordering::SeqCst) > 2).await;
    assert_eq!(states(&upstream), [State::Up]);
    well.store(false, Ordering::SeqCst);
    eventually("down", || states(&upstream) == [State::Down]).await;
    well.store(true, Ordering::SeqCst);
    eventually("back", || states(&upstream) != [State::Down]).await;

    // With the last user of the upstream its checks end, too.
    drop(upstream);
    let after = asked.load(Ordering::SeqCst);
    quit.cancel();
    running.await.unwrap();
    assert!(asked.load(Ordering::SeqCst) <= after + 1);
}
