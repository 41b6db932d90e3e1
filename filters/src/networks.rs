//! Sets of addresses, for the filters that go by where a request comes from.
//!
//! An entry is an address or a network, as in `10.0.0.0/8`. Overlapping ones are merged and looked up
//! by halving, so a long list costs little more than a short one. An IPv4 address in IPv6 clothes
//! (`::ffff:10.0.0.1`) counts as what it is, in a list and at the door; so `::/0` holds no IPv4 address.
//!
//! A file has an entry per line; empty lines and what stands behind a `#` do not count. It is read when
//! the configuration is, at start and at each reload.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::folder::{Content, Folder};

/// The largest file that is read, in bytes: about 400,000 networks.
const MAX_FILE: usize = 8 * 1024 * 1024;

/// So many entries are shown one by one.
const MAX_SHOWN: usize = 4;

/// The YAML of a set.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenNetworks {
    /// Entries that stand in the YAML itself.
    pub addresses: Vec<Network>,
    /// A file with more.
    pub file: Option<PathBuf>,
}

/// A network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// Why a text is no entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// Neither an address nor a network.
    #[error(
        "is no address and no network\nhint: write it as in 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"
    )]
    Neither,
    /// An address of a host and the size of a network: which of them is meant?
    #[error("has bits of a host behind its prefix\nhint: the network is {0}")]
    HostBits(IpNet),
}

/// Why there is no such set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetworks {
    /// Nothing is named.
    #[error("names no address\nhint: list them in `addresses`, or name a `file`")]
    None,
    /// The file cannot be opened or read.
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: Box<Path>,
        /// Why.
        cause: io::ErrorKind,
    },
    /// The file is too large.
    #[error("{} is larger than 8 MiB", .0.display())]
    TooLarge(Box<Path>),
    /// A line of it is no entry. It is not repeated: this may be the wrong file, and a secret.
    #[error("{}:{line} {cause}", path.display())]
    Line {
        /// The file.
        path: Box<Path>,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: BadNetwork,
    },
}

impl Network {
    fn parse(text: &str) -> Result<Self, BadNetwork> {
        let net: IpNet = match text.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => text.parse().map_err(|_| BadNetwork::Neither)?,
        };
        if net != net.trunc() {
            return Err(BadNetwork::HostBits(net.trunc()));
        }
        Ok(Self(undressed(net)))
    }
}

/// The IPv4 network that an IPv6 network of mapped addresses is.
fn undressed(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let Some(address) = v6.network().to_ipv4_mapped() else { return net };
    v6.prefix_len()
        .checked_sub(96)
        .and_then(|prefix| Ipv4Net::new(address, prefix).ok())
        .map_or(net, IpNet::V4)
}

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$" })
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(|bad| de::Error::custom(format!("`{text}` {bad}")))
    }
}

impl WrittenNetworks {
    /// Reads the file, if one is named, and makes the set. Relative names are sought in `base`.
    ///
    /// # Errors
    /// Nothing is named, or the file cannot be read or has a line that is no entry.
    pub fn read(&self, base: &Folder) -> Result<Networks, BadNetworks> {
        let mut networks = self.addresses.clone();
        if let Some(file) = &self.file {
            read_file(base, file, &mut networks)?;
        } else if networks.is_empty() {
            return Err(BadNetworks::None);
        }
        Ok(Networks::new(&networks))
    }
}

fn read_file(base: &Folder, name: &Path, networks: &mut Vec<Network>) -> Result<(), BadNetworks> {
    let path = || base.path_of(name).into();
    let unreadable = |cause| BadNetworks::Unreadable { path: path(), cause };
    let bytes = base.read(name, MAX_FILE, Content::Plain).map_err(|error| unreadable(error.kind()))?;
    if bytes.len() > MAX_FILE {
        return Err(BadNetworks::TooLarge(path()));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable(io::ErrorKind::InvalidData))?;
    for (i, line) in text.lines().enumerate() {
        let entry = line.split_once('#').map_or(line, |(entry, _)| entry).trim();
        if entry.is_empty() {
            continue;
        }
        let line = |cause| BadNetworks::Line { path: path(), line: i + 1, cause };
        networks.push(Network::parse(entry).map_err(line)?);
    }
    Ok(())
}

/// A set of addresses.
#[derive(Debug, PartialEq, Eq)]
pub struct Networks {
    v4: Ranges<Ipv4Addr>,
    v6: Ranges<Ipv6Addr>,
    shown: String,
}

impl Networks {
    fn new(networks: &[Network]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Network(net) in networks {
            match net {
                IpNet::V4(net) => v4.push((net.network(), net.broadcast())),
                IpNet::V6(net) => v6.push((net.network(), net.broadcast())),
            }
        }
        Self { v4: Ranges::new(v4), v6: Ranges::new(v6), shown: shown(networks) }
    }

    /// Whether there is no address in it.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// Whether this address is in it.
    pub fn contain(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contain(address),
            IpAddr::V6(address) => self.v6.contain(address),
        }
    }
}

/// As `imgate explain` shows it: few entries one by one, many as their number.
impl std::fmt::Display for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

fn shown(networks: &[Network]) -> String {
    if networks.is_empty() || networks.len() > MAX_SHOWN {
        return format!("{} networks", networks.len());
    }
    let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
    let one = |Network(net): &Network| if single(net) { net.addr().to_string() } else { net.to_string() };
    networks.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// First and last addresses of ranges that do not overlap, in order.
#[derive(Debug, PartialEq, Eq)]
struct Ranges<A>(Box<[(A, A)]>);

impl<A: Copy + Ord> Ranges<A> {
    fn new(mut ranges: Vec<(A, A)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(A, A)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= *end => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    fn contain(&self, address: A) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        behind.checked_sub(1).is_some_and(|at| address <= self.0[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[&str]) -> Networks {
        let entries: Vec<Network> = entries.iter().map(|text| Network::parse(text).unwrap()).collect();
        Networks::new(&entries)
    }

    #[test]
    fn an_address_is_in_a_set_or_not() {
        let set = set(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.0.2.7",
            "2001:db8::/32",
            "::1",
            "::ffff:198.51.100.0/120",
        ]);
        for inside in [
            "10.0.0.0",
            "10.1.2.3",
            "10.255.255.255",
            "::ffff:10.1.2.3",
            "192.0.2.7",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "::1",
            "198.51.100.9",
        ] {
            assert!(set.contain(inside.parse().unwrap()), "{inside}");
        }
        for outside in
            ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::2", "::", "::a01:203"]
        {
            assert!(!set.contain(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn each_family_has_its_own_whole() {
        let (four, six) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert!(set(&["0.0.0.0/0"]).contain(four) && !set(&["0.0.0.0/0"]).contain(six));
        assert!(set(&["::/0"]).contain(six) && !set(&["::/0"]).contain(four));
        assert!(set(&["::ffff:0.0.0.0/96"]).contain(four));
    }

    #[test]
    fn a_long_list_finds_what_a_slow_search_finds() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        let nets: Vec<Ipv4Net> = (0..2000)
            .map(|_| Ipv4Net::new(Ipv4Addr::from(random()), 12 + (random() % 21) as u8).unwrap().trunc())
            .collect();
        let set = Networks::new(&nets.iter().map(|net| Network(IpNet::V4(*net))).collect::<Vec<_>>());
        let edges = nets.iter().flat_map(|net| {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
        });
        let mut found = 0;
        for address in edges.map(Ipv4Addr::from) {
            let expected = nets.iter().any(|net| net.contains(&address));
            assert_eq!(set.contain(IpAddr::V4(address)), expected, "{address}");
            found += usize::from(expected);
        }
        assert!((4000..8000).contains(&found), "{found}");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "a", "10.0.0.0/33", "10.0.0/8", "010.0.0.1", "10.0.0.0/", "10.0.0.0/+8", "::1%eth0", "1"]
        {
            assert_eq!(Network::parse(text), Err(BadNetwork::Neither), "{text}");
        }
        let error = Network::parse("10.0.0.1/8").unwrap_err().to_string();
        assert_eq!(error, "has bits of a host behind its prefix\nhint: the network is 10.0.0.0/8");
    }

    #[test]
    fn few_networks_are_shown_and_many_counted() {
        assert_eq!(set(&["10.0.0.0/8", "::1"]).to_string(), "10.0.0.0/8, ::1");
        assert_eq!(set(&["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5"]).to_string(), "5 networks");
    }
}
