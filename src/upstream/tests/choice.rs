//! Which server gets a request.

use std::collections::HashMap;

use super::*;

#[tokio::test]
async fn the_less_loaded_server_is_chosen() {
    let upstream = upstream(&addresses(2));
    let load = |upstream: &Upstream| upstream.servers().iter().map(|s| s.in_flight()).collect::<Vec<_>>();
    let leases: Vec<Lease> = (0..100).map(|n| upstream.admit(by(n)).unwrap()).collect();
    assert_eq!(load(&upstream), [50, 50]);
    drop(leases);
    assert_eq!(load(&upstream), [0, 0]);
}

fn hashing(n: u16) -> Upstream {
    Upstream::new("u", &addresses(n), Options { balance: Balance::Hash(Key::User), ..options() })
}

#[tokio::test]
async fn a_key_stays_with_its_server_and_all_servers_have_keys() {
    let (one, other) = (hashing(4), hashing(4));
    let mut shares: HashMap<SocketAddr, u32> = HashMap::new();
    for caller in 0..4000 {
        let server = chosen(&one, caller);
        assert_eq!([chosen(&one, caller), chosen(&other, caller)], [server; 2], "in every gateway");
        *shares.entry(server).or_default() += 1;
    }
    assert!(shares.len() == 4 && shares.values().all(|share| (800..1200).contains(share)), "{shares:?}");
}

#[tokio::test]
async fn a_server_that_fails_hands_on_only_its_own_share() {
    let upstream = hashing(4);
    let before: Vec<SocketAddr> = (0..1000).map(|caller| chosen(&upstream, caller)).collect();
    let gone = Arc::clone(&upstream.servers()[2]);
    gone.set_down(true, None);
    for (caller, server) in (0..1000).zip(&before) {
        let now = chosen(&upstream, caller);
        assert_ne!(now, gone.address);
        assert!(now == *server || *server == gone.address, "{caller} moved from {server} to {now}");
    }
}

#[tokio::test]
async fn a_key_that_everybody_has_does_not_drown_its_server() {
    let upstream = hashing(4);
    let same = Asker { caller: 1, key: 7 };
    let leases: Vec<Lease> = (0..400).map(|_| upstream.admit(same).unwrap()).collect();
    let load: Vec<u32> = upstream.servers().iter().map(|server| server.in_flight()).collect();
    // A quarter above the average of 100, and one for rounding up.
    assert!(load.iter().all(|n| *n <= 126), "{load:?}");
    drop(leases);
}
