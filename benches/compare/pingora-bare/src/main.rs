//! Pingora as it comes: forwards everything to one upstream on one worker thread.
//!
//! Usage: `pingora-bare LISTEN UPSTREAM`, both `ip:port`. It has no filter, no log and no tuning, so
//! that it shows what Pingora itself costs.

use std::env;
use std::net::SocketAddr;
use std::process::ExitCode;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Forward {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() -> ExitCode {
    let upstream = env::args().nth(2).and_then(|address| address.parse().ok());
    let (Some(listen), Some(upstream)) = (env::args().nth(1), upstream) else {
        return ExitCode::from(2);
    };
    let conf = ServerConf { threads: 1, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let mut proxy = http_proxy_service(&server.configuration, Forward { upstream });
    proxy.add_tcp(&listen);
    server.bootstrap();
    server.add_service(proxy);
    server.run_forever()
}
