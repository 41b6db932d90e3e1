//! Where a server listens: a host and a port.

use std::fmt;

/// A host name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    host: Box<str>,
    port: u16,
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address is a host and a port, as in 10.0.0.1:6379 or [::1]:6379")]
pub struct BadAddress;

impl Address {
    /// Names a host, without brackets around an IPv6 address, and a port.
    ///
    /// # Errors
    /// The host holds what no host name and no IP address holds, or the port is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, BadAddress> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'%');
        let good = !host.is_empty() && host.len() <= 253 && host.bytes().all(legal);
        if good && port != 0 { Ok(Self { host: host.into(), port }) } else { Err(BadAddress) }
    }

    /// Reads `host:port`, with brackets around an IPv6 address.
    ///
    /// # Errors
    /// As [`Address::new`], or there is no port.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(BadAddress)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').filter(|host| host.contains(':')).ok_or(BadAddress)?,
            None if host.contains(':') => return Err(BadAddress),
            None => host,
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadAddress);
        }
        Self::new(host, port.parse().map_err(|_| BadAddress)?)
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for good in ["127.0.0.1:6379", "[::1]:1", "redis-0.redis.svc:65535", "my_redis:6379"] {
            assert_eq!(Address::parse(good).map(|address| address.to_string()).as_deref(), Ok(good));
        }
        for bad in
            ["", "h", "h:", ":1", "h:0", "h:+1", "h:65536", "::1:1", "[h]:1", "[::1]", "u@h:1", "h/x:1"]
        {
            assert_eq!(Address::parse(bad), Err(BadAddress), "{bad}");
        }
    }
}
