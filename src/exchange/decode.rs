//! Where an answer's body ends, byte for byte. Pure: bytes in, data out, no I/O.
//!
//! An answer that is not framed beyond doubt is garbled; its connection is never used again.

use bytes::{Buf as _, Bytes, BytesMut};
use http::Method;

/// How the end of a body is found. Source: RFC 9112 section 6.3.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes are still to come; 0 is the end.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Until the server closes.
    UntilClose,
}

/// What is expected next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    Trailers { seen: usize },
    End,
}

/// The most a chunk's size line may measure, extensions included.
const MAX_SIZE_LINE: usize = 256;

/// The most that may follow the last chunk. Trailers are dropped.
const MAX_TRAILERS: usize = 8 * 1024;

/// What a step of decoding found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Body bytes, at least one.
    Data(Bytes),
    /// The buffer holds no whole step.
    More,
    /// The body ended; what is left in the buffer does not belong to it.
    End,
}

/// The answer breaks the rules of its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled(pub(super) &'static str);

impl Framing {
    /// Reads how the body of this answer is framed.
    pub(super) fn of(head: &httparse::Response<'_, '_>, method: &Method) -> Result<Self, Garbled> {
        let status = head.code.unwrap_or(0);
        if *method == Method::HEAD || status == 204 || status == 304 {
            return Ok(Self::Length(0));
        }
        let mut length: Option<u64> = None;
        let mut chunked = false;
        for header in head.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let value = parse_length(header.value).ok_or(Garbled("answer_length_invalid"))?;
                if length.is_some_and(|other| other != value) {
                    return Err(Garbled("answer_length_twice"));
                }
                length = Some(value);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked || !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Garbled("answer_encoding_unknown"));
                }
                chunked = true;
            }
        }
        match (length, chunked) {
            (Some(_), true) => Err(Garbled("answer_framed_twice")),
            (None, true) => Ok(Self::Chunked(Chunk::Size)),
            (Some(n), false) => Ok(Self::Length(n)),
            (None, false) => Ok(Self::UntilClose),
        }
    }

    /// Takes the next piece of body from the front of `buf`.
    pub(super) fn step(&mut self, buf: &mut BytesMut) -> Result<Step, Garbled> {
        match self {
            Self::Length(0) => Ok(Step::End),
            Self::Length(left) => Ok(take(buf, left)),
            Self::UntilClose => Ok(take(buf, &mut u64::MAX.clone())),
            Self::Chunked(chunk) => chunk.step(buf),
        }
    }

    /// What the end of the connection means at this point.
    pub(super) fn at_eof(&self) -> Result<(), Garbled> {
        match self {
            Self::UntilClose | Self::Length(0) | Self::Chunked(Chunk::End) => Ok(()),
            Self::Length(_) | Self::Chunked(_) => Err(Garbled("answer_truncated")),
        }
    }
}

/// A decimal number and nothing else; a sign, a list or white space inside is refused.
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn take(buf: &mut BytesMut, left: &mut u64) -> Step {
    if buf.is_empty() {
        return Step::More;
    }
    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
    *left -= n as u64;
    Step::Data(buf.split_to(n).freeze())
}

impl Chunk {
    fn step(&mut self, buf: &mut BytesMut) -> Result<Step, Garbled> {
        loop {
            match self {
                Self::Size => match size_line(buf)? {
                    None => return Ok(Step::More),
                    Some(0) => *self = Self::Trailers { seen: 0 },
                    Some(size) => *self = Self::Data(size),
                },
                Self::Data(0) => *self = Self::DataEnd,
                Self::Data(left) => return Ok(take(buf, left)),
                Self::DataEnd => match buf.get(..2) {
                    None => return Ok(Step::More),
                    Some(b"\r\n") => {
                        buf.advance(2);
                        *self = Self::Size;
                    }
                    Some(_) => return Err(Garbled("answer_chunk_end")),
                },
                Self::Trailers { seen } => match trailer_line(buf, seen)? {
                    None => return Ok(Step::More),
                    Some(0) => *self = Self::End,
                    Some(_) => {}
                },
                Self::End => return Ok(Step::End),
            }
        }
    }
}

fn size_line(buf: &mut BytesMut) -> Result<Option<u64>, Garbled> {
    match httparse::parse_chunk_size(buf) {
        Ok(httparse::Status::Complete((used, size))) => {
            buf.advance(used);
            Ok(Some(size))
        }
        Ok(httparse::Status::Partial) if buf.len() <= MAX_SIZE_LINE => Ok(None),
        _ => Err(Garbled("answer_chunk_size")),
    }
}

/// Drops one line after the last chunk and tells its length; 0 is the empty line at the end.
fn trailer_line(buf: &mut BytesMut, seen: &mut usize) -> Result<Option<usize>, Garbled> {
    let Some(end) = memchr::memchr(b'\n', buf) else {
        let waiting = *seen + buf.len();
        return if waiting > MAX_TRAILERS { Err(Garbled("answer_trailers")) } else { Ok(None) };
    };
    if end == 0 || buf[end - 1] != b'\r' {
        return Err(Garbled("answer_trailers"));
    }
    *seen += end + 1;
    if *seen > MAX_TRAILERS {
        return Err(Garbled("answer_trailers"));
    }
    buf.advance(end + 1);
    Ok(Some(end - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` in pieces of `step` bytes; what was decoded, whether it ended, what was left.
    fn decode(mut framing: Framing, wire: &[u8], step: usize) -> Result<(Vec<u8>, bool, Vec<u8>), Garbled> {
        let (mut out, mut buf, mut ended) = (Vec::new(), BytesMut::new(), false);
        for piece in wire.chunks(step) {
            buf.extend_from_slice(piece);
            while !ended {
                match framing.step(&mut buf)? {
                    Step::Data(data) => out.extend_from_slice(&data),
                    Step::More => break,
                    Step::End => ended = true,
                }
            }
        }
        Ok((out, ended, buf.to_vec()))
    }

    #[test]
    fn bodies_end_where_they_say_however_they_arrive() {
        type Case<'a> = (fn() -> Framing, &'a [u8], &'a [u8], &'a [u8]);
        let cases: [Case<'_>; 4] = [
            (|| Framing::Length(5), b"helloNEXT", b"hello", b"NEXT"),
            (|| Framing::Chunked(Chunk::Size), b"5\r\nhello\r\n0\r\n\r\nNEXT", b"hello", b"NEXT"),
            (
                || Framing::Chunked(Chunk::Size),
                b"2;x=y\r\nhe\r\n003\r\nllo\r\n0\r\nT: v\r\n\r\n",
                b"hello",
                b"",
            ),
            (|| Framing::Length(0), b"NEXT", b"", b"NEXT"),
        ];
        for (framing, wire, body, rest) in cases {
            for step in 1..=wire.len() {
                let (out, ended, left) = decode(framing(), wire, step).unwrap();
                assert_eq!((out.as_slice(), ended, left.as_slice()), (body, true, rest), "{step}");
            }
        }
    }

    #[test]
    fn broken_chunks_are_garbled() {
        for wire in [
            &b"x\r\n"[..],
            b"5\r\nhelloXX",
            b"-1\r\n",
            b"0\r\nbad\n\r\n",
            b"11111111111111111\r\n",
            &[b'1'; 300],
        ] {
            let result = decode(Framing::Chunked(Chunk::Size), wire, wire.len());
            assert!(result.is_err(), "{:?}", String::from_utf8_lossy(wire));
        }
        let endless = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(2000)].concat();
        assert!(decode(Framing::Chunked(Chunk::Size), &endless, 1000).is_err());
    }

    fn framing(lines: &str, method: &Method) -> Result<Framing, Garbled> {
        let wire = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let mut head = httparse::Response::new(&mut headers);
        head.parse(wire.as_bytes()).unwrap();
        Framing::of(&head, method)
    }

    #[test]
    fn doubtful_framing_is_garbled() {
        assert_eq!(framing("Content-Length: 3\r\n", &Method::POST), Ok(Framing::Length(3)));
        assert_eq!(framing("Content-Length: 3\r\n", &Method::HEAD), Ok(Framing::Length(0)));
        assert_eq!(framing("", &Method::POST), Ok(Framing::UntilClose));
        for lines in [
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: \r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(framing(lines, &Method::POST).is_err(), "{lines}");
        }
    }

    #[test]
    fn a_body_cut_short_is_garbled() {
        assert!(Framing::Length(1).at_eof().is_err());
        assert!(Framing::Chunked(Chunk::Trailers { seen: 0 }).at_eof().is_err());
        assert!(Framing::UntilClose.at_eof().is_ok());
    }
}
