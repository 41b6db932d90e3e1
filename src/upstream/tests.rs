//! Upstreams whose servers are up, down, slow, failing and renamed.

mod choice;
mod health;
mod names;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::*;

/// More than any connection of these tests is idle.
const LONG: Duration = Duration::from_secs(50);

fn options() -> Options {
    Options {
        connect_timeout: Duration::from_millis(500),
        first_byte_timeout: Duration::from_secs(1),
        read_timeout: Duration::from_secs(1),
        keepalive: 8,
        ..Options::default()
    }
}

fn upstream(servers: &[SocketAddr]) -> Upstream {
    Upstream::new("u", servers, options())
}

fn addresses(n: u16) -> Vec<SocketAddr> {
    (1..=n).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
}

fn by(caller: u64) -> Asker {
    Asker { caller, key: Asker::hash(&caller.to_le_bytes()) }
}

fn chosen(upstream: &Upstream, caller: u64) -> SocketAddr {
    upstream.admit(by(caller)).unwrap().server().address
}

#[tokio::test]
async fn a_server_that_is_down_is_passed_over() {
    let up = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = [down.local_addr().unwrap(), up.local_addr().unwrap()];
    drop(down);
    let upstream = upstream(&servers);
    for _ in 0..20 {
        let connection = upstream.connect_anew(by(1)).await.unwrap();
        assert_eq!(connection.server().address, servers[1]);
    }
    // Nobody's request was at fault, so one caller is enough.
    assert_eq!(upstream.servers()[0].state(), State::LeftOut);
}

#[tokio::test]
async fn no_server_at_all_is_an_error() {
    let down = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(&[down.local_addr().unwrap()]);
    drop(down);
    assert!(matches!(upstream.connect(by(1), LONG).await, Err(ConnectError::Refused(_))));
}

#[tokio::test]
async fn a_connection_that_cannot_be_paid_for_is_not_tried_elsewhere() {
    let (a, b) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let servers = [a.local_addr().unwrap(), b.local_addr().unwrap()];
    drop((a, b));
    let retries = budget::Options { share: 0, per_second: 0 };
    let upstream = Upstream::new("u", &servers, Options { retries, breaker: None, eject: None, ..options() });
    for _ in 0..120 {
        assert!(matches!(upstream.connect(by(1), LONG).await, Err(ConnectError::Refused(_))));
    }
    let all = upstream.counts().all();
    assert!(all.contains(&("repeat", 100)) && all.contains(&("repeat_unpaid", 20)), "{all:?}");
}

#[tokio::test]
async fn a_kept_connection_is_used_again_unless_bytes_or_an_end_wait_on_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(&[listener.local_addr().unwrap()]);
    let first = upstream.connect(by(1), LONG).await.unwrap();
    let (mut server_side, _) = listener.accept().await.unwrap();
    assert!(!first.is_reused());
    let port = first.local_port();
    first.keep();

    let second = upstream.connect(by(1), LONG).await.unwrap();
    assert!(second.is_reused());
    assert_eq!(second.local_port(), port);

    // Unsolicited bytes would be read as the next answer.
    tokio::io::AsyncWriteExt::write_all(&mut server_side, b"x").await.unwrap();
    second.keep();
    let third = upstream.connect(by(1), LONG).await.unwrap();
    assert_ne!(third.local_port(), port);
}

#[tokio::test]
async fn what_must_not_be_sent_twice_gets_no_connection_that_was_idle_for_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(&[listener.local_addr().unwrap()]);
    let first = upstream.connect(by(1), LONG).await.unwrap();
    let port = first.local_port();
    first.keep();
    let fresh = upstream.connect(by(1), Duration::ZERO).await.unwrap();
    assert!(!fresh.is_reused());
    // The other one is still there for those that may be sent twice.
    let again = upstream.connect(by(1), LONG).await.unwrap();
    assert_eq!((again.is_reused(), again.local_port()), (true, port));
}

#[tokio::test]
async fn a_reload_keeps_the_servers_that_stay() {
    let all = addresses(3);
    let before = upstream(&all[..2]);
    let lease = before.admit(by(1)).unwrap();
    let origins: Vec<Origin> = all[1..].iter().copied().map(Origin::from).collect();
    assert!(!before.is_configured_as("u", &origins, &options()));
    let after = Upstream::succeeding(Some(&before), "u", &origins, options());
    assert!(Arc::ptr_eq(&after.servers()[0], &before.servers()[1]));
    assert_eq!(after.servers()[1].address, all[2]);
    let changed = Options { keepalive: 9, ..options() };
    let anew = Upstream::succeeding(Some(&before), "u", &origins, changed);
    assert!(!Arc::ptr_eq(&anew.servers()[0], &before.servers()[1]), "its pool is of another size");
    assert!(std::ptr::eq(anew.counts(), before.counts()), "what was counted goes on");
    drop(lease);
}
