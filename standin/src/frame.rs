//! WebSocket frames as gorilla/websocket reads and writes them, on the server's side.
//!
//! No extension, no subprotocol, and text is not checked to be UTF-8.

use bytes::{Buf, Bytes, BytesMut};

/// The longest message a client may send.
///
/// Source: open-im-server `internal/msggateway/constant.go` maxMessageSize.
pub(crate) const MAX_MESSAGE: u64 = 51_200;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// A whole message, or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) opcode: Opcode,
    pub(crate) payload: Bytes,
}

/// Why a connection is closed with a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    TooBig,
    Protocol,
}

impl Violation {
    /// The close code of RFC 6455 section 7.4.1.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::TooBig => 1009,
            Self::Protocol => 1002,
        }
    }
}

struct Header {
    is_final: bool,
    opcode: u8,
    mask: [u8; 4],
    length: u64,
    size: usize,
}

/// Puts messages together from the bytes a client sends.
#[derive(Default)]
pub(crate) struct Decoder {
    partial: Option<(Opcode, BytesMut)>,
}

impl Decoder {
    /// Takes the next message out of the buffer; none when more bytes are needed.
    pub(crate) fn decode(&mut self, inbound: &mut BytesMut) -> Result<Option<Message>, Violation> {
        while let Some(header) = parse_header(inbound)? {
            let held = self.partial.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
            if header.opcode < 8 && held.saturating_add(header.length) > MAX_MESSAGE {
                return Err(Violation::TooBig);
            }
            let length = header.length as usize;
            if inbound.len() < header.size + length {
                return Ok(None);
            }
            inbound.advance(header.size);
            let mut payload = inbound.split_to(length);
            unmask(&mut payload, header.mask);
            if let Some(message) = self.join(&header, payload)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn join(&mut self, header: &Header, payload: BytesMut) -> Result<Option<Message>, Violation> {
        let whole = |opcode, payload: BytesMut| Ok(Some(Message { opcode, payload: payload.freeze() }));
        match (header.opcode, self.partial.take()) {
            (0, Some((opcode, mut bytes))) => {
                bytes.extend_from_slice(&payload);
                self.finish(header.is_final, opcode, bytes)
            }
            (1, None) => self.finish(header.is_final, Opcode::Text, payload),
            (2, None) => self.finish(header.is_final, Opcode::Binary, payload),
            (control @ (8..=10), partial) if header.is_final && payload.len() <= 125 => {
                self.partial = partial;
                match control {
                    8 => whole(Opcode::Close, payload),
                    9 => whole(Opcode::Ping, payload),
                    _ => whole(Opcode::Pong, payload),
                }
            }
            _ => Err(Violation::Protocol),
        }
    }

    fn finish(
        &mut self,
        is_final: bool,
        opcode: Opcode,
        bytes: BytesMut,
    ) -> Result<Option<Message>, Violation> {
        if is_final {
            return Ok(Some(Message { opcode, payload: bytes.freeze() }));
        }
        self.partial = Some((opcode, bytes));
        Ok(None)
    }
}

/// Reads a frame header; clients must mask and may not use reserved bits.
///
/// Source: RFC 6455 section 5.2.
fn parse_header(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0x70 != 0 || second & 0x80 == 0 {
        return Err(Violation::Protocol);
    }
    let extra = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let size = 2 + extra + 4;
    if bytes.len() < size {
        return Ok(None);
    }
    let long = bytes[2..2 + extra].iter().fold(0, |length, &byte| length << 8 | u64::from(byte));
    let length = if extra == 0 { u64::from(second & 0x7f) } else { long };
    let mask = [bytes[size - 4], bytes[size - 3], bytes[size - 2], bytes[size - 1]];
    Ok(Some(Header { is_final: first & 0x80 != 0, opcode: first & 0x0f, mask, length, size }))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Writes one unmasked frame.
pub(crate) fn encode(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    out.push(0x80 | opcode as u8);
    match payload.len() {
        length @ ..126 => out.push(length as u8),
        length @ 126..65_536 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Decoder, MAX_MESSAGE, Opcode, Violation};

    fn masked(first: u8, length: &[u8], payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::from(&[first][..]);
        out.extend_from_slice(length);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn fragments_are_joined_around_a_ping() {
        let mut inbound = masked(0x01, &[0x82], b"ab");
        inbound.extend_from_slice(&masked(0x89, &[0x81], b"!"));
        inbound.extend_from_slice(&masked(0x80, &[0x81], b"c"));
        let mut decoder = Decoder::default();
        let ping = decoder.decode(&mut inbound).unwrap().unwrap();
        let text = decoder.decode(&mut inbound).unwrap().unwrap();
        assert_eq!((ping.opcode, &ping.payload[..]), (Opcode::Ping, &b"!"[..]));
        assert_eq!((text.opcode, &text.payload[..]), (Opcode::Text, &b"abc"[..]));
    }

    #[test]
    fn frames_are_refused_by_their_header() {
        let too_big = [&[0xff][..], &(MAX_MESSAGE + 1).to_be_bytes()].concat();
        let cases = [
            (masked(0x82, &too_big, b""), Violation::TooBig),
            (masked(0xc2, &[0x80], b""), Violation::Protocol),
            (masked(0x82, &[0x00], b""), Violation::Protocol),
            (masked(0x80, &[0x80], b""), Violation::Protocol),
        ];
        for (mut inbound, violation) in cases {
            assert_eq!(Decoder::default().decode(&mut inbound), Err(violation));
        }
    }
}
