//! How much of what a client sends belongs to the request under way.
//!
//! A body has a length or comes in chunks (RFC 9112 section 6). Chunks are read strictly here, on the same
//! bytes that Pingora's own reader gets afterwards: what one of two readers might take for another length
//! is refused by the stricter one.

/// The most bytes of chunk extensions in one body. They mean nothing to us and must be passed over (RFC
/// 9112 section 7.1.1), but not without end.
const MAX_EXTENSIONS: usize = 4 * 1024;

/// The most bytes of trailers after one body. They are read over; none is forwarded.
const MAX_TRAILERS: usize = 4 * 1024;

/// The most digits of a chunk's size, so that it fits 60 bits.
const MAX_DIGITS: u8 = 15;

/// A body that is not chunked as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// What of a request is still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// This many bytes; none if the request has come whole.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// Everything until the end of the connection.
    Open,
}

impl Frame {
    /// Whether the request has come whole.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.state == State::Done,
            Self::Open => false,
        }
    }

    /// Takes what belongs to the request from the front of `bytes`, and tells how much that is.
    ///
    /// # Errors
    /// Chunks are malformed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunks) => chunks.take(bytes),
            Self::Open => Ok(bytes.len()),
        }
    }
}

/// A place in a chunked body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    extensions: usize,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first digit of a size.
    #[default]
    Begin,
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    /// The LF behind a size.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// The CR and the LF behind data.
    DataEnd,
    DataEndLf,
    /// The first byte of a line of trailers, or the CR of the last line.
    Line,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut taken = 0;
        while taken < bytes.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let run = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - taken);
                taken += run;
                let left = left - run as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
            } else {
                self.state = self.step(bytes[taken])?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// The state behind one byte that is no data.
    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        match (self.state, byte) {
            (State::Begin, byte) => match digit(byte) {
                Some(size) => Ok(State::Size { size, digits: 1 }),
                None => Err(Malformed("chunk_size")),
            },
            (State::Size { size, .. }, b'\r') | (State::Extension { size }, b'\r') => {
                Ok(State::SizeEnd { size })
            }
            (State::Size { size, .. }, b';') => Ok(State::Extension { size }),
            (State::Size { size, digits }, byte) => match digit(byte) {
                Some(value) if digits < MAX_DIGITS => {
                    Ok(State::Size { size: size * 16 + value, digits: digits + 1 })
                }
                _ => Err(Malformed("chunk_size")),
            },
            (State::Extension { size }, byte) => {
                self.extensions += 1;
                let legal = is_text(byte) && self.extensions <= MAX_EXTENSIONS;
                if legal { Ok(State::Extension { size }) } else { Err(Malformed("chunk_extension")) }
            }
            (State::SizeEnd { size: 0 }, b'\n') => Ok(State::Line),
            (State::SizeEnd { size }, b'\n') => Ok(State::Data { left: size }),
            (State::DataEnd, b'\r') => Ok(State::DataEndLf),
            (State::DataEndLf, b'\n') => Ok(State::Begin),
            (State::Line, b'\r') => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::TrailerLf, b'\n') => Ok(State::Line),
            (State::Line, b' ' | b'\t') => Err(Malformed("chunk_trailer")),
            (State::Line | State::Trailer, byte) => {
                self.trailers += 1;
                let legal = is_text(byte) && self.trailers <= MAX_TRAILERS;
                if legal { Ok(State::Trailer) } else { Err(Malformed("chunk_trailer")) }
            }
            _ => Err(Malformed("chunk_line_end")),
        }
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked(bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut frame = Frame::Chunked(Chunks::default());
        let taken = frame.take(bytes)?;
        Ok((taken, frame.is_done()))
    }

    #[test]
    fn a_body_ends_where_it_says() {
        for (body, rest) in [
            ("0\r\n\r\n", "GET /"),
            ("5\r\nhello\r\n0\r\n\r\n", "x"),
            ("5\r\nhello\r\n0A\r\n0123456789\r\n000\r\n\r\n", ""),
            ("5;name=value\r\nhello\r\n0\r\n\r\n", "\r\n"),
            ("3\r\n\r\n0\r\n0\r\n\r\n", "y"),
            ("0\r\ntoken: x\r\nother: y\r\n\r\n", "POST"),
        ] {
            let whole = format!("{body}{rest}");
            assert_eq!(chunked(whole.as_bytes()), Ok((body.len(), true)), "{whole:?}");
            // Byte by byte it is the same body.
            let mut frame = Frame::Chunked(Chunks::default());
            let taken: usize = whole.bytes().map(|byte| frame.take(&[byte]).unwrap()).sum();
            assert_eq!((taken, frame.is_done()), (body.len(), true), "{whole:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let long_extension = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(MAX_EXTENSIONS + 1));
        let long_trailer = format!("0\r\n{}\r\n\r\n", "t".repeat(MAX_TRAILERS + 1));
        for (body, why) in [
            ("0x5\r\n", "chunk_size"),
            ("+5\r\n", "chunk_size"),
            ("-1\r\n", "chunk_size"),
            (" 5\r\n", "chunk_size"),
            ("5 \r\n", "chunk_size"),
            ("\r\n", "chunk_size"),
            (";x\r\n", "chunk_size"),
            ("0123456789abcdef0\r\n", "chunk_size"),
            ("5\n", "chunk_size"),
            ("5\rX", "chunk_line_end"),
            ("5;a\rb\r\n", "chunk_line_end"),
            ("5;a\nb\r\n", "chunk_extension"),
            ("5;a\0\r\n", "chunk_extension"),
            ("2\r\nabc\r\n", "chunk_line_end"),
            ("2\r\nab\n0\r\n", "chunk_line_end"),
            ("2\r\nab0\r\n", "chunk_line_end"),
            ("0\r\nx: y\n\r\n", "chunk_trailer"),
            ("0\r\n x: y\r\n\r\n", "chunk_trailer"),
            ("0\r\n\rX", "chunk_line_end"),
            (&long_extension, "chunk_extension"),
            (&long_trailer, "chunk_trailer"),
        ] {
            assert_eq!(chunked(body.as_bytes()), Err(Malformed(why)), "{body:?}");
        }
    }

    #[test]
    fn a_length_is_taken_to_the_byte() {
        let mut frame = Frame::Length(5);
        assert_eq!(frame.take(b"abc"), Ok(3));
        assert!(!frame.is_done());
        assert_eq!(frame.take(b"defg"), Ok(2));
        assert!(frame.is_done());
        assert_eq!(frame.take(b"g"), Ok(0));
    }
}
