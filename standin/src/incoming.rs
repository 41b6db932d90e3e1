//! The body of a request while it arrives: counted or chunked, read only as far as someone asks.

use std::io;

use bytes::{Buf, Bytes, BytesMut};

use crate::http::{BadRequest, Head, Wire};
use crate::json::ValueScanner;

/// How much of a body nobody asked for is read before the connection is given up instead.
///
/// Source: Go `net/http` maxPostHandlerReadBytes.
const MAX_DISCARD: usize = 256 << 10;

/// The most that is ever held of one body.
const MAX_HELD: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Ended,
    Counted(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
}

/// A body in arrival.
pub(crate) struct Incoming {
    framing: Framing,
    awaits_continue: bool,
    received: BytesMut,
}

impl Incoming {
    /// Decides how the body is framed; chunked wins over a length, as in Go.
    pub(crate) fn open(head: &Head) -> Result<Self, BadRequest> {
        let framing = framing(head)?;
        let awaits_continue =
            framing != Framing::Ended && head.first("expect").eq_ignore_ascii_case("100-continue");
        Ok(Self { framing, awaits_continue, received: BytesMut::new() })
    }

    /// What has been received so far.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Hands over what has been received.
    pub(crate) fn into_received(self) -> Bytes {
        self.received.freeze()
    }

    /// Reads until the top-level JSON value closes, which may be long before the body ends.
    pub(crate) async fn read_value(&mut self, wire: &mut Wire) -> io::Result<()> {
        let mut scanner = ValueScanner::default();
        loop {
            let known = self.received.len();
            if !self.read_piece(wire).await? || scanner.feed(&self.received[known..]) {
                return Ok(());
            }
        }
    }

    /// Reads the whole body.
    pub(crate) async fn read_all(&mut self, wire: &mut Wire) -> io::Result<()> {
        while self.read_piece(wire).await? {}
        Ok(())
    }

    /// Reads the rest as far as Go does, and tells whether the body has ended.
    pub(crate) async fn discard(&mut self, wire: &mut Wire) -> io::Result<bool> {
        if self.awaits_continue {
            return Ok(self.framing == Framing::Ended);
        }
        let limit = self.received.len() + MAX_DISCARD;
        while self.received.len() <= limit {
            if !self.read_piece(wire).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Appends the next piece to what was received; false when the body has ended.
    async fn read_piece(&mut self, wire: &mut Wire) -> io::Result<bool> {
        if self.awaits_continue {
            self.awaits_continue = false;
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let known = self.received.len();
        while self.framing != Framing::Ended {
            let stalled = !self.advance(&mut wire.inbound)?;
            if self.received.len() > MAX_HELD {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if self.received.len() > known {
                return Ok(true);
            }
            if stalled && wire.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(false)
    }

    /// Takes one step of the framing; false when more bytes are needed.
    fn advance(&mut self, inbound: &mut BytesMut) -> io::Result<bool> {
        match self.framing {
            Framing::Ended => {}
            Framing::Counted(left) | Framing::ChunkData(left) => return Ok(self.take_data(inbound, left)),
            Framing::ChunkSize => {
                let Some(line) = take_line(inbound) else { return Ok(false) };
                self.framing = chunk_size(&line)?;
            }
            Framing::ChunkEnd => {
                let Some(line) = take_line(inbound) else { return Ok(false) };
                if !line.is_empty() {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                self.framing = Framing::ChunkSize;
            }
            Framing::Trailers => {
                let Some(line) = take_line(inbound) else { return Ok(false) };
                if line.is_empty() {
                    self.framing = Framing::Ended;
                }
            }
        }
        Ok(true)
    }

    fn take_data(&mut self, inbound: &mut BytesMut, left: u64) -> bool {
        let count = usize::try_from(left).map_or(inbound.len(), |left| left.min(inbound.len()));
        self.received.extend_from_slice(&inbound[..count]);
        inbound.advance(count);
        let left = left - count as u64;
        self.framing = match self.framing {
            Framing::Counted(_) if left == 0 => Framing::Ended,
            Framing::Counted(_) => Framing::Counted(left),
            _ if left == 0 => Framing::ChunkEnd,
            _ => Framing::ChunkData(left),
        };
        count > 0
    }
}

fn framing(head: &Head) -> Result<Framing, BadRequest> {
    let codings: Vec<&str> = head.copies("transfer-encoding").collect();
    match codings.as_slice() {
        [] => {}
        [coding] if coding.eq_ignore_ascii_case("chunked") && head.minor > 0 => {
            return Ok(Framing::ChunkSize);
        }
        _ => return Err(BadRequest::Coding),
    }
    let mut lengths: Vec<&str> = head.copies("content-length").map(str::trim).collect();
    lengths.dedup();
    match lengths.as_slice() {
        [] => Ok(Framing::Ended),
        [length] if length.bytes().all(|digit| digit.is_ascii_digit()) => match length.parse() {
            Ok(0) => Ok(Framing::Ended),
            Ok(count) => Ok(Framing::Counted(count)),
            Err(_) => Err(BadRequest::Length),
        },
        _ => Err(BadRequest::Length),
    }
}

fn take_line(inbound: &mut BytesMut) -> Option<BytesMut> {
    let end = inbound.iter().position(|&byte| byte == b'\n')?;
    let mut line = inbound.split_to(end + 1);
    line.truncate(end);
    if line.last() == Some(&b'\r') {
        line.truncate(end - 1);
    }
    Some(line)
}

fn chunk_size(line: &[u8]) -> io::Result<Framing> {
    let text = String::from_utf8_lossy(line);
    let digits = text.split(';').next().unwrap_or_default().trim();
    match u64::from_str_radix(digits, 16) {
        Ok(0) => Ok(Framing::Trailers),
        Ok(size) => Ok(Framing::ChunkData(size)),
        Err(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}
