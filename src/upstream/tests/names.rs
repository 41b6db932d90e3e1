//! Names whose addresses come, change and go.

use std::io;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::keeper::Keeper;
use super::super::names::{Resolve, preferred};
use super::*;

/// A resolver that says what a test wrote.
#[derive(Debug, Default)]
struct Scripted {
    /// What is known; `None` is NXDOMAIN.
    addresses: Mutex<Option<Vec<SocketAddr>>>,
}

impl Scripted {
    fn says(&self, addresses: Option<&[SocketAddr]>) {
        *self.addresses.lock() = addresses.map(<[_]>::to_vec);
    }
}

#[async_trait]
impl Resolve for Scripted {
    async fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        assert_eq!(host, "openim");
        self.addresses.lock().clone().ok_or_else(|| io::Error::other("no such name"))
    }
}

struct Followed {
    resolver: Arc<Scripted>,
    upstream: Arc<Upstream>,
    quit: CancellationToken,
}

impl Followed {
    fn new(first: &[SocketAddr]) -> Self {
        let resolver = Arc::new(Scripted::default());
        resolver.says(Some(first));
        let origin = Origin { host: "openim".into(), port: 1, found: first.to_vec() };
        let dynamic = Arc::clone(&resolver) as Arc<dyn Resolve>;
        let resolve = super::super::names::Options { every: Duration::from_millis(5), ..Default::default() };
        let options = Options { resolve, ..options() };
        let upstream = Arc::new(Upstream::with_resolver(None, "u", &[origin], options, dynamic));
        let (keeper, quit) = (Arc::new(Keeper::default()), CancellationToken::new());
        keeper.watch(&upstream);
        tokio::spawn(keeper.run(quit.clone()));
        Self { resolver, upstream, quit }
    }

    /// Waits until the name was looked up, and what was found is in use.
    async fn another_lookup(&self) {
        let done = || self.event("lookup") + self.event("lookup_failed");
        // One may be under way that began before.
        let (before, give_up) = (done(), std::time::Instant::now() + Duration::from_secs(20));
        while done() < before + 2 {
            assert!(std::time::Instant::now() < give_up, "never looked up");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::task::yield_now().await;
    }

    fn servers(&self) -> Vec<SocketAddr> {
        self.upstream.servers().iter().map(|server| server.address).collect()
    }

    fn event(&self, name: &str) -> u64 {
        self.upstream.counts().all().into_iter().find(|(event, _)| *event == name).unwrap().1
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.quit.cancel();
    }
}

#[tokio::test]
async fn servers_follow_their_name_and_those_that_stay_are_kept() {
    let all = addresses(3);
    let followed = Followed::new(&all[..2]);
    let kept = Arc::clone(&followed.upstream.servers()[1]);
    followed.resolver.says(Some(&all[1..]));
    followed.another_lookup().await;
    assert_eq!(followed.servers(), all[1..]);
    assert!(Arc::ptr_eq(&followed.upstream.servers()[0], &kept));
    assert_eq!(followed.event("address_change"), 1);
    // Resolvers turn their answers round.
    followed.resolver.says(Some(&[all[2], all[1]]));
    followed.another_lookup().await;
    assert_eq!(followed.event("address_change"), 1);
}

#[tokio::test]
async fn what_cannot_be_looked_up_keeps_its_last_good_addresses() {
    let all = addresses(2);
    let followed = Followed::new(&all);
    followed.resolver.says(None);
    followed.another_lookup().await;
    followed.resolver.says(Some(&[]));
    followed.another_lookup().await;
    assert_eq!(followed.servers(), all);
    assert!(followed.event("lookup_failed") >= 2);
    assert_eq!(followed.event("address_change"), 0);
}

#[tokio::test]
async fn a_name_that_never_had_an_address_is_waited_for() {
    let followed = Followed::new(&[]);
    assert!(matches!(followed.upstream.admit(by(1)), Err(ConnectError::NoServer)));
    followed.resolver.says(Some(&addresses(1)));
    followed.another_lookup().await;
    assert_eq!(followed.upstream.admit(by(1)).unwrap().server().address, addresses(1)[0]);
}

#[test]
fn the_same_server_does_not_count_twice() {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
    let found = parse(&["[::1]:1", "127.0.0.2:1", "127.0.0.1:1", "127.0.0.2:1"]);
    assert_eq!(preferred(&found), parse(&["127.0.0.1:1", "127.0.0.2:1"]));
    assert_eq!(preferred(&parse(&["[::1]:1"])), parse(&["[::1]:1"]));
}
