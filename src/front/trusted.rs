//! Where a request comes from when proxies stand in front: the one answer that logs, filters, rate
//! limits and the headers we write go by.
//!
//! A proxy that is trusted appends its own peer to `X-Forwarded-For`, so the list is believed from its
//! end on, for as long as each entry is a trusted proxy again. The first that is none is the client;
//! whatever stands before it, that client may have made up.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use imgate_filters::networks::Networks;
use imgate_filters::reserved::X_FORWARDED_FOR;

/// Whose `X-Forwarded-For` is believed; by default nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Option<Arc<Networks>>);

impl TrustedProxies {
    /// Believes these.
    pub fn new(networks: Networks) -> Self {
        Self(Some(Arc::new(networks)))
    }

    /// Whether this is one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.as_ref().is_some_and(|networks| networks.contain(address))
    }

    /// The address of whoever sent a request with these headers by a connection from `peer`.
    ///
    /// An entry that is no address ends the list: the client is then the last that was known.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contain(client) {
            return client;
        }
        // Each line continues the one before it. Source: RFC 9110 section 5.3.
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|b| *b == b','));
        for entry in entries {
            let Some(address) = address(entry) else { break };
            client = address;
            if !self.contain(client) {
                break;
            }
        }
        client
    }
}

/// The address of an entry, which may have a port, and brackets around IPv6.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let address = text.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    address.or_else(bare).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use imgate_filters::networks::WrittenNetworks;

    use super::*;

    fn client(peer: &str, lines: &[&str]) -> String {
        let written: WrittenNetworks =
            serde_saphyr::from_str(r#"addresses: [10.0.0.0/8, "2001:db8::/32"]"#).unwrap();
        let trusted = TrustedProxies::new(
            written.read(&imgate_filters::folder::Folder::new(std::path::Path::new(""))).unwrap(),
        );
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        trusted.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_last_that_is_no_proxy_of_ours() {
        assert_eq!(client("10.0.0.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["203.0.113.7, 10.0.0.2"]), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["203.0.113.7", "10.0.0.2,10.0.0.3"]), "203.0.113.7");
        assert_eq!(client("2001:db8::1", &["203.0.113.7:5000"]), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["[2a00::7]:5000"]), "2a00::7");
        assert_eq!(client("10.0.0.1", &["[2a00::7]"]), "2a00::7");
        assert_eq!(client("::ffff:10.0.0.1", &["::ffff:203.0.113.7"]), "203.0.113.7");
    }

    #[test]
    fn what_a_client_makes_up_stands_before_it_and_counts_for_nothing() {
        assert_eq!(client("10.0.0.1", &["10.9.9.9, 198.51.100.1, 203.0.113.7, 10.0.0.2"]), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["198.51.100.1", "203.0.113.7"]), "203.0.113.7");
    }

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(client("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, "198.51.100.1".parse().unwrap());
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(TrustedProxies::default().client(peer, &headers), peer);
    }

    #[test]
    fn what_is_no_address_ends_the_list() {
        for broken in
            ["unknown", "", "203.0.113.7 x", "_hidden", "203.0.113", "[10.0.0.1]", "10.0.0.1:", "0x0a.1"]
        {
            assert_eq!(client("10.0.0.1", &[&format!("198.51.100.1, {broken}")]), "10.0.0.1", "{broken:?}");
            let behind = format!("198.51.100.1, {broken}, 10.0.0.2");
            assert_eq!(client("10.0.0.1", &[&behind]), "10.0.0.2", "{broken:?}");
        }
    }

    #[test]
    fn proxies_all_the_way_end_with_the_first() {
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }
}
