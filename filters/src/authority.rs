//! Hosts as a URL or an `Origin` names them.

/// Reads `host[:port]` into lower case, without the default port of `scheme`; `None` if it is no such
/// thing.
pub fn parse_authority(text: &str, scheme: &str) -> Option<Box<str>> {
    let (name, port) = split(text)?;
    let name = name.to_ascii_lowercase();
    let default = if scheme == "https" { 443 } else { 80 };
    match port {
        Some(port) if port != default => Some(format!("{name}:{port}").into()),
        _ => Some(name.into()),
    }
}

/// Whether this is `host` or `host:port`, with nobody's name and password before it.
pub fn is_authority(text: &str) -> bool {
    split(text).is_some()
}

/// Name and port, both legal.
fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    if !is_host(name) {
        return None;
    }
    let Some(port) = port else { return Some((name, None)) };
    // A sign would get past `parse`.
    let port: u16 = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok())??;
    (port != 0).then_some((name, Some(port)))
}

/// Whether this is a name or an address, without a port.
pub fn is_host(name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let legal = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(legal)
}
