//! The PROXY protocol, versions 1 and 2: a load balancer in front says whose connection it relays.
//!
//! Only listed load balancers may open a connection to such a listener, and each must begin it with a
//! header. [`parse`] is pure and says how many bytes are surely missing, so that none behind the header
//! is ever taken from the connection.
//!
//! Source: the HAProxy project's `doc/proxy-protocol.txt`, sections 2.1, 2.2 and 4.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use imgate_filters::networks::Networks;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// How version 1 begins.
const WORD: &[u8] = b"PROXY ";

/// The shortest header there is, `PROXY UNKNOWN` and a line break.
const SHORTEST: usize = 15;

/// The shortest line of version 1 that names IPv4 addresses.
const SHORTEST_TCP4: usize = b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".len();

/// The shortest line of version 1 that names IPv6 addresses.
const SHORTEST_TCP6: usize = b"PROXY TCP6 :: :: 0 0\r\n".len();

/// The longest line of version 1, with its line break. Source: section 2.1.
const LONGEST_V1: usize = 107;

/// What stands in front of the addresses of version 2.
const FIXED_V2: usize = 16;

/// The longest header of version 2 that is taken. Load balancers add some hundred bytes of extensions.
const LONGEST_V2: usize = 4096;

/// The extension with a checksum of the whole header. Source: section 2.2.3.
const TLV_CRC32C: u8 = 0x03;

/// What a listener asks of whoever connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Who may connect.
    pub from: Arc<Networks>,
    /// How long the header may take.
    pub timeout: Duration,
}

/// Whose connection it is, by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This client's.
    Client(SocketAddr),
    /// The load balancer's own, as for a health check, or somebody's it cannot name.
    Itself,
}

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes more belong to it at least.
    Needs(usize),
    /// It is whole.
    Done(Origin),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They begin in another way.
    #[error("no PROXY header")]
    Absent,
    /// A line of version 1 with something else in it.
    #[error("a line that says something else")]
    Line,
    /// Version, command, family or length that version 2 does not have.
    #[error("a head of no known kind")]
    Head,
    /// An extension that ends behind the header, or one that may stand once and does twice.
    #[error("an extension that does not fit")]
    Extension,
    /// Another checksum than the header says.
    #[error("a wrong checksum")]
    Checksum,
    /// More bytes than any header has.
    #[error("too long")]
    TooLong,
}

/// Why a connection is refused before a byte of it is served.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It comes from elsewhere.
    #[error("it comes from no load balancer of this listener")]
    Stranger,
    /// It does not begin with a header.
    #[error("its PROXY header is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The header did not come in time.
    #[error("its PROXY header did not come in time")]
    Late,
    /// It ended before the header did.
    #[error("it ended before its PROXY header: {0}")]
    Gone(#[from] io::Error),
}

impl Refused {
    /// The words for metrics.
    pub const WORDS: [&str; 4] =
        ["proxy_protocol_stranger", "proxy_protocol_malformed", "proxy_protocol_late", "proxy_protocol_gone"];

    /// A word for metrics.
    pub fn as_str(&self) -> &'static str {
        Self::WORDS[match self {
            Self::Stranger => 0,
            Self::Malformed(_) => 1,
            Self::Late => 2,
            Self::Gone(_) => 3,
        }]
    }
}

impl ProxyProtocol {
    /// Takes the header off a connection that `peer` opened, and says whose it is.
    ///
    /// # Errors
    /// `peer` is not listed, or no whole header comes in time.
    pub async fn client<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        peer: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        if !self.from.contain(peer.ip()) {
            return Err(Refused::Stranger);
        }
        let origin = tokio::time::timeout(self.timeout, read(stream)).await.map_err(|_| Refused::Late)??;
        Ok(match origin {
            Origin::Client(client) => client,
            Origin::Itself => peer,
        })
    }
}

/// Reads a header and nothing behind it.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Origin, Refused> {
    let mut header = Vec::with_capacity(LONGEST_V1);
    loop {
        match parse(&header)? {
            Progress::Done(origin) => return Ok(origin),
            Progress::Needs(more) => {
                let from = header.len();
                header.resize(from + more, 0);
                stream.read_exact(&mut header[from..]).await?;
            }
        }
    }
}

/// Says whose connection begins with this header, or how many bytes it still needs.
///
/// # Errors
/// It is no header, whatever comes.
pub fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if !begins(&SIGNATURE) && !begins(WORD) {
        return Err(Malformed::Absent);
    }
    if bytes.len() < SHORTEST {
        return Ok(Progress::Needs(SHORTEST - bytes.len()));
    }
    if begins(WORD) { parse_line(bytes) } else { parse_binary(bytes) }
}

fn parse_line(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        return needs_of_line(bytes);
    };
    let text = bytes[..end].strip_suffix(b"\r").filter(|_| end + 1 == bytes.len()).ok_or(Malformed::Line)?;
    if bytes.len() > LONGEST_V1 {
        return Err(Malformed::TooLong);
    }
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Line)?;
    if text == "PROXY UNKNOWN" || text.strip_prefix("PROXY UNKNOWN ").is_some_and(|rest| !rest.contains('\r'))
    {
        return Ok(Progress::Done(Origin::Itself));
    }
    let client = named_client(text).ok_or(Malformed::Line)?;
    Ok(Progress::Done(Origin::Client(client)))
}

fn needs_of_line(bytes: &[u8]) -> Result<Progress, Malformed> {
    let shortest = match bytes {
        _ if bytes.starts_with(b"PROXY TCP4 ") => SHORTEST_TCP4,
        _ if bytes.starts_with(b"PROXY TCP6 ") => SHORTEST_TCP6,
        _ => SHORTEST,
    };
    let line_break = if bytes.ends_with(b"\r") { 1 } else { 2 };
    if bytes.len() + line_break > LONGEST_V1 {
        return Err(Malformed::TooLong);
    }
    Ok(Progress::Needs(line_break.max(shortest.saturating_sub(bytes.len()))))
}

/// The client that a line names, if the line is as it must be.
fn named_client(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ').skip(1);
    let (family, source, destination) = (words.next()?, words.next()?, words.next()?);
    let (from, _to) = (port(words.next()?)?, port(words.next()?)?);
    let source = match family {
        "TCP4" => source_of::<Ipv4Addr>(source, destination)?,
        "TCP6" => source_of::<Ipv6Addr>(source, destination)?,
        _ => return None,
    };
    words.next().is_none().then_some(SocketAddr::new(source, from))
}

/// The first of two addresses, if both are of this family.
fn source_of<A: FromStr + Into<IpAddr>>(source: &str, destination: &str) -> Option<IpAddr> {
    let (source, _): (A, A) = (source.parse().ok()?, destination.parse().ok()?);
    Some(source.into().to_canonical())
}

/// A port as the protocol writes it: digits, and none in vain.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn parse_binary(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_V2) else {
        return Ok(Progress::Needs(FIXED_V2 - bytes.len()));
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if FIXED_V2 + length > LONGEST_V2 {
        return Err(Malformed::TooLong);
    }
    if !matches!(fixed[12], 0x20 | 0x21) || rest.len() > length {
        return Err(Malformed::Head);
    }
    if rest.len() < length {
        return Ok(Progress::Needs(length - rest.len()));
    }
    // What a load balancer says of its own connection counts for nothing, whatever it is.
    if fixed[12] == 0x20 {
        return Ok(Progress::Done(Origin::Itself));
    }
    addressed(bytes, fixed[13], rest).map(Progress::Done)
}

/// Whose connection the addresses of a relayed one name.
fn addressed(header: &[u8], family: u8, rest: &[u8]) -> Result<Origin, Malformed> {
    let (origin, addresses) = match family {
        // Nothing is said of what follows, so nothing of it is read.
        0x00 => return Ok(Origin::Itself),
        0x11 => (Origin::Client(inet(rest).ok_or(Malformed::Head)?), 12),
        0x21 => (Origin::Client(inet6(rest).ok_or(Malformed::Head)?), 36),
        // Datagrams and Unix sockets: well formed, but no TCP client.
        0x12 => (Origin::Itself, 12),
        0x22 => (Origin::Itself, 36),
        0x31 | 0x32 => (Origin::Itself, 216),
        _ => return Err(Malformed::Head),
    };
    let extensions = rest.get(addresses..).ok_or(Malformed::Head)?;
    check_extensions(header, extensions)?;
    Ok(origin)
}

fn inet(rest: &[u8]) -> Option<SocketAddr> {
    let source: [u8; 4] = *rest.first_chunk()?;
    let port: [u8; 2] = *rest.get(8..)?.first_chunk()?;
    Some(SocketAddr::new(Ipv4Addr::from(source).into(), u16::from_be_bytes(port)))
}

fn inet6(rest: &[u8]) -> Option<SocketAddr> {
    let source: [u8; 16] = *rest.first_chunk()?;
    let port: [u8; 2] = *rest.get(32..)?.first_chunk()?;
    let source: IpAddr = Ipv6Addr::from(source).to_canonical();
    Some(SocketAddr::new(source, u16::from_be_bytes(port)))
}

/// Checks that extensions end where the header does, and the checksum if there is one.
fn check_extensions(header: &[u8], mut rest: &[u8]) -> Result<(), Malformed> {
    let mut checksum = None;
    while let Some((&[kind, high, low], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, next) = behind.split_at_checked(length).ok_or(Malformed::Extension)?;
        if kind == TLV_CRC32C {
            let value: [u8; 4] = value.try_into().map_err(|_| Malformed::Extension)?;
            let at = header.len() - behind.len();
            if checksum.replace((at, u32::from_be_bytes(value))).is_some() {
                return Err(Malformed::Extension);
            }
        }
        rest = next;
    }
    match checksum {
        _ if !rest.is_empty() => Err(Malformed::Extension),
        Some((at, said)) if crc32c(header, at) != said => Err(Malformed::Checksum),
        _ => Ok(()),
    }
}

/// The checksum of a header, with the four bytes that hold it taken as 0. Source: RFC 4960, appendix B.
fn crc32c(header: &[u8], at: usize) -> u32 {
    let bytes = header.iter().enumerate().map(|(i, b)| if (at..at + 4).contains(&i) { 0 } else { *b });
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests;
