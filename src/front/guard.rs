//! What a request's head must look like before anybody acts on it.
//!
//! The bytes are judged as they came, before Pingora reads them: it reconciles two lengths, escapes
//! illegal targets and answers what it cannot read in a word of its own. Here whatever two readers could
//! take for two different things is refused, so that policy is decided on the bytes that are forwarded.

use http::header::{COOKIE, EXPECT, HOST};
use http::{HeaderValue, StatusCode};
use imgate_filters::authority::is_authority;
use imgate_filters::reject::Hint;
use imgate_filters::{Cause, Reject};
use memchr::memchr;
use pingora_http::RequestHeader;

use super::frame::{Chunks, Frame};

/// The longest method that is read. Source: the longest registered one, UPDATEREDIRECTREF, in the IANA
/// HTTP Method Registry.
const MAX_METHOD: usize = 17;

/// What CONNECT is told, wherever it points.
const METHODS: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// Bounds on a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole of it, in bytes.
    pub size: usize,
    /// One line of it, in bytes.
    pub line: usize,
    /// The target, in bytes.
    pub target: usize,
    /// How many headers it may have.
    pub headers: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { size: 32 * 1024, line: 8 * 1024, target: 8 * 1024, headers: 100 }
    }
}

/// Finds the end of a head while it arrives; no byte is looked at twice.
#[derive(Debug, Default)]
pub struct Scan {
    /// Where the next byte to look at is.
    at: usize,
    /// Where the line under way begins.
    line: usize,
    /// Where the head begins: behind one empty line, which some clients send after a body.
    begin: usize,
    /// How many lines have ended.
    lines: usize,
}

/// Where a head stands in what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub begin: usize,
    /// The first byte behind it.
    pub end: usize,
}

impl Scan {
    /// Looks on where the last call ended; `buf` is all that was read so far.
    ///
    /// # Errors
    /// A line ends without CR, or the head is longer than the limits, whether or not it has come whole.
    pub fn advance(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<Span>, Reject> {
        while let Some(offset) = memchr(b'\n', &buf[self.at..]) {
            let lf = self.at + offset;
            if lf == self.line || buf[lf - 1] != b'\r' {
                return Err(bad("line_end"));
            }
            let length = lf - 1 - self.line;
            self.at = lf + 1;
            match length {
                0 if self.lines > 0 => {
                    self.check_total(self.at, limits)?;
                    return Ok(Some(Span { begin: self.begin, end: self.at }));
                }
                0 if self.begin > 0 => return Err(bad("empty_lines")),
                0 => self.begin = self.at,
                length => {
                    self.check_line(length, limits)?;
                    self.lines += 1;
                }
            }
            self.line = self.at;
        }
        self.at = buf.len();
        if self.lines == 0 && buf.get(self.line).is_some_and(|byte| !matches!(byte, b'A'..=b'Z' | b'\r')) {
            return Err(bad("method"));
        }
        self.check_line(buf.len() - self.line, limits)?;
        self.check_total(buf.len(), limits)?;
        Ok(None)
    }

    fn check_line(&self, length: usize, limits: &HeadLimits) -> Result<(), Reject> {
        // A request line is its target and a little more.
        let first = limits.target + MAX_METHOD + " HTTP/1.1 \r".len();
        if self.lines == 0 {
            return if length > first { Err(target_too_long()) } else { Ok(()) };
        }
        if length > limits.line {
            return Err(too_large("header_line_too_long"));
        }
        if self.lines > limits.headers && length > 1 {
            return Err(too_large("too_many_headers"));
        }
        Ok(())
    }

    fn check_total(&self, length: usize, limits: &HeadLimits) -> Result<(), Reject> {
        if length - self.begin > limits.size { Err(too_large("head_too_large")) } else { Ok(()) }
    }
}

/// Judges a whole head, empty last line included, and tells how the body behind it is framed.
///
/// # Errors
/// Something in it is malformed, ambiguous, or not for a gateway.
pub fn judge(head: &[u8], limits: &HeadLimits) -> Result<Frame, Reject> {
    let mut lines = lines(head);
    let version = request_line(lines.next().unwrap_or_default(), limits)?;
    let mut fields = Fields::default();
    for line in lines.take_while(|line| !line.is_empty()) {
        fields.read(line)?;
    }
    fields.frame(version)
}

/// Judges a head that came over HTTP/2, and gives it the `Host` that HTTP/1 knows. Framing, duplicates of
/// what routes, and bytes that no header holds are the protocol's own business (RFC 9113 section 8.2), and
/// were looked at.
///
/// # Errors
/// Something in it is malformed, ambiguous, or not for a gateway.
pub fn adapt_http2(head: &mut RequestHeader, limits: &HeadLimits) -> Result<(), Reject> {
    method(head.method.as_str().as_bytes())?;
    if head.headers.len() > limits.headers {
        return Err(too_large("too_many_headers"));
    }
    target(head.raw_path(), limits)?;
    if !head.headers.keys().all(|name| name.as_str().bytes().all(is_name)) {
        return Err(bad("header_name"));
    }
    if let Some(authority) = head.uri.authority().filter(|_| !head.headers.contains_key(HOST)) {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| bad("host_malformed"))?;
        imgate_filters::set_header(head, HOST, host);
    }
    let host = head.headers.get(HOST).ok_or_else(|| bad("host_missing"))?;
    if !host.to_str().is_ok_and(is_authority) {
        return Err(bad("host_malformed"));
    }
    expectation(head.headers.get(EXPECT).map(HeaderValue::as_bytes))?;
    join_cookies(head)
}

/// HTTP/2 may send cookies apart, for its compression's sake; HTTP/1 may not. Source: RFC 9113 section 8.2.3.
fn join_cookies(head: &mut RequestHeader) -> Result<(), Reject> {
    let crumbs: Vec<&[u8]> = head.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return Ok(());
    }
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| bad("header_value"))?;
    imgate_filters::set_header(head, COOKIE, joined);
    Ok(())
}

/// The lines of a head, without their ends, each of which is CR LF.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)?;
        let (line, behind) = rest.split_at(end + 1);
        rest = behind;
        Some(&line[..end - 1])
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

fn request_line(line: &[u8], limits: &HeadLimits) -> Result<Version, Reject> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("request_line"));
    };
    self::method(method)?;
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        version if is_version(version) => {
            return Err(bad("version").with_status(StatusCode::HTTP_VERSION_NOT_SUPPORTED));
        }
        _ => return Err(bad("request_line")),
    };
    self::target(target, limits)?;
    Ok(version)
}

fn method(method: &[u8]) -> Result<(), Reject> {
    if !(1..=MAX_METHOD).contains(&method.len()) || !method.iter().all(u8::is_ascii_uppercase) {
        return Err(bad("method"));
    }
    if method == b"CONNECT" {
        return Err(refuse_connect());
    }
    Ok(())
}

/// No tunnel leads through the gateway to wherever a client likes.
pub(super) fn refuse_connect() -> Reject {
    Reject::new(Cause::MethodNotAllowed, "connect").with(Hint::Allow(METHODS.into()))
}

fn target(target: &[u8], limits: &HeadLimits) -> Result<(), Reject> {
    if target.len() > limits.target {
        return Err(target_too_long());
    }
    // Other forms (RFC 9112 section 3.2) name a second host, or none.
    if target.first() != Some(&b'/') {
        return Err(bad("target_form"));
    }
    let (path, query) = target.split_at(memchr(b'?', target).unwrap_or(target.len()));
    let fine = path.iter().all(|byte| is_target(*byte) && *byte != b'`')
        && query.iter().all(|byte| is_target(*byte) && *byte != b'"')
        && std::str::from_utf8(target).is_ok();
    if fine { Ok(()) } else { Err(bad("target_byte")) }
}

/// Source: RFC 9112 section 2.3.
fn is_version(text: &[u8]) -> bool {
    matches!(text, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// What a target may hold: anything but controls, spaces and the beginning of a fragment, which no server
/// is sent (RFC 9112 section 3.2). Of a path, routing takes far less; a query is forwarded as it came, and
/// OpenIM's SDKs send some that a URI has no place for. What the crate `http` cannot hold is not among
/// them, or Pingora would refuse it in a word of its own: `<` and `>`, a backtick in a path, a quotation
/// mark in a query, and what is no UTF-8.
fn is_target(byte: u8) -> bool {
    !matches!(byte, b'#' | b'<' | b'>') && (byte.is_ascii_graphic() || !byte.is_ascii())
}

/// The headers that decide where a request goes and where it ends.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn read(&mut self, line: &'a [u8]) -> Result<(), Reject> {
        let Some(colon) = memchr(b':', line) else { return Err(bad("header_without_colon")) };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_name(*byte)) {
            // That a line begins with a space, as one that continues another does, is among these.
            return Err(bad("header_name"));
        }
        if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(bad("header_value"));
        }
        let (slot, twice) = match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => (&mut self.host, "host_twice"),
            6 if name.eq_ignore_ascii_case(b"expect") => (&mut self.expect, "expect_twice"),
            14 if name.eq_ignore_ascii_case(b"content-length") => (&mut self.length, "length_twice"),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => (&mut self.coding, "coding_twice"),
            _ => return Ok(()),
        };
        if slot.replace(value).is_some() { Err(bad(twice)) } else { Ok(()) }
    }

    fn frame(&self, version: Version) -> Result<Frame, Reject> {
        let host = self.host.map(trim).ok_or_else(|| bad("host_missing"))?;
        if !std::str::from_utf8(host).is_ok_and(is_authority) {
            return Err(bad("host_malformed"));
        }
        expectation(self.expect)?;
        match (self.length, self.coding) {
            (None, None) => Ok(Frame::Length(0)),
            (Some(length), None) => content_length(trim(length)).map(Frame::Length),
            (None, Some(_)) if version == Version::Http10 => Err(bad("coding_in_http_1_0")),
            (None, Some(coding)) if trim(coding).eq_ignore_ascii_case(b"chunked") => {
                Ok(Frame::Chunked(Chunks::default()))
            }
            (None, Some(_)) => Err(bad("coding_unknown")),
            (Some(_), Some(_)) => Err(bad("length_and_coding")),
        }
    }
}

/// Source: RFC 9110 section 10.1.1, which knows one.
fn expectation(value: Option<&[u8]>) -> Result<(), Reject> {
    match value.map(trim) {
        Some(other) if !other.eq_ignore_ascii_case(b"100-continue") => {
            Err(bad("expect_unknown").with_status(StatusCode::EXPECTATION_FAILED))
        }
        _ => Ok(()),
    }
}

fn content_length(value: &[u8]) -> Result<u64, Reject> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    // What does not fit is refused like what is no number.
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| bad("length_malformed"))
}

/// Cuts the spaces around a value. Tabs may stand there, too (RFC 9110 section 5.6.3), but around what
/// frames a request nobody writes them who has no second reading in mind.
fn trim(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ', rest @ ..] | [rest @ .., b' '] = value {
        value = rest;
    }
    value
}

/// What a header's name may hold: a token (RFC 9110 section 5.6.2) without `_`, which CGI and its heirs
/// take for `-`.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'`' | b'|' | b'~'
        )
}

fn bad(reason: &'static str) -> Reject {
    Reject::new(Cause::BadRequest, reason)
}

fn too_large(reason: &'static str) -> Reject {
    Reject::new(Cause::HeadTooLarge, reason)
}

fn target_too_long() -> Reject {
    too_large("target_too_long").with_status(StatusCode::URI_TOO_LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { size: 2048, line: 512, target: 256, headers: 8 };

    /// What becomes of a head that comes at once.
    fn read(text: &str) -> Result<Option<Frame>, &'static str> {
        let span = Scan::default().advance(text.as_bytes(), &LIMITS).map_err(|reject| reject.reason)?;
        let Some(span) = span else { return Ok(None) };
        assert_eq!(span.end, text.len(), "{text:?}");
        judge(&text.as_bytes()[span.begin..span.end], &LIMITS).map(Some).map_err(|reject| reject.reason)
    }

    /// A request with these headers besides Host.
    fn with(headers: &str) -> Result<Option<Frame>, &'static str> {
        read(&format!("POST /x HTTP/1.1\r\nHost: h\r\n{headers}\r\n"))
    }

    /// A request with this line.
    fn line(line: &str) -> Result<Option<Frame>, &'static str> {
        read(&format!("{line}\r\nHost: h\r\n\r\n"))
    }

    #[test]
    fn a_body_is_framed_in_one_way() {
        assert_eq!(with(""), Ok(Some(Frame::Length(0))));
        assert_eq!(with("Content-Length: 5\r\n"), Ok(Some(Frame::Length(5))));
        assert_eq!(with("content-length:007\r\n"), Ok(Some(Frame::Length(7))));
        assert_eq!(with("Transfer-Encoding: Chunked \r\n"), Ok(Some(Frame::Chunked(Chunks::default()))));
        for (headers, why) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "length_and_coding"),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", "length_twice"),
            ("Content-Length: 5\r\ncontent-length: 6\r\n", "length_twice"),
            ("Content-Length: +5\r\n", "length_malformed"),
            ("Content-Length: -5\r\n", "length_malformed"),
            ("Content-Length: 0x5\r\n", "length_malformed"),
            ("Content-Length: 5, 5\r\n", "length_malformed"),
            ("Content-Length:\r\n", "length_malformed"),
            ("Content-Length: 1e1\r\n", "length_malformed"),
            ("Content-Length: \t5\r\n", "length_malformed"),
            ("Content-Length: 18446744073709551616\r\n", "length_malformed"),
            ("Transfer-Encoding: ,chunked\r\n", "coding_unknown"),
            ("Transfer-Encoding: xchunked\r\n", "coding_unknown"),
            ("Transfer-Encoding: chunked, identity\r\n", "coding_unknown"),
            ("Transfer-Encoding: gzip, chunked\r\n", "coding_unknown"),
            ("Transfer-Encoding: \tchunked\r\n", "coding_unknown"),
            ("Transfer-Encoding: \x0bchunked\r\n", "header_value"),
            ("Transfer-Encoding:\r\n", "coding_unknown"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "coding_twice"),
        ] {
            assert_eq!(with(headers), Err(why), "{headers:?}");
        }
        let old = read("POST /x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(old, Err("coding_in_http_1_0"));
    }

    #[test]
    fn a_request_line_is_read_in_one_way() {
        for good in [
            "GET / HTTP/1.1",
            "GET /a%20b\"?x=%41&y={|}^[]`\\\u{e9} HTTP/1.1",
            "OPTIONS /x HTTP/1.0",
            "PROPFIND /x HTTP/1.1",
        ] {
            assert_eq!(line(good), Ok(Some(Frame::Length(0))), "{good:?}");
        }
        for (bad, why) in [
            ("get / HTTP/1.1", "method"),
            ("GeT / HTTP/1.1", "method"),
            ("G\0T / HTTP/1.1", "method"),
            (" GET / HTTP/1.1", "request_line"),
            ("\x16\x03\x01", "request_line"),
            ("AAAAAAAAAAAAAAAAAA / HTTP/1.1", "method"),
            ("GET  / HTTP/1.1", "request_line"),
            ("GET / HTTP/1.1 ", "request_line"),
            ("GET /", "request_line"),
            ("GET\t/ HTTP/1.1", "request_line"),
            ("GET / http/1.1", "request_line"),
            ("GET / HTTP/1.10", "request_line"),
            ("GET / HTTP/2.0", "version"),
            ("GET / HTTP/0.9", "version"),
            ("GET http://h/ HTTP/1.1", "target_form"),
            ("GET * HTTP/1.1", "target_form"),
            ("GET h:80 HTTP/1.1", "target_form"),
            ("CONNECT h:80 HTTP/1.1", "connect"),
            ("GET /a#b HTTP/1.1", "target_byte"),
            ("GET /a<b HTTP/1.1", "target_byte"),
            ("GET /a`b HTTP/1.1", "target_byte"),
            ("GET /?a>b HTTP/1.1", "target_byte"),
            ("GET /?a\"b HTTP/1.1", "target_byte"),
            ("GET /a\0b HTTP/1.1", "target_byte"),
            ("GET /a\x7f HTTP/1.1", "target_byte"),
        ] {
            assert_eq!(line(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn there_is_one_host_and_it_is_one() {
        let host = |lines: &str| read(&format!("GET / HTTP/1.1\r\n{lines}\r\n"));
        for good in ["h", "im.example.com:8443", "127.0.0.1:1", "[::1]:80"] {
            assert!(host(&format!("Host: {good}\r\n")).is_ok(), "{good}");
        }
        for (lines, why) in [
            ("", "host_missing"),
            ("Host: h\r\nHost: h\r\n", "host_twice"),
            ("Host: h\r\nhost: other\r\n", "host_twice"),
            ("Host:\r\n", "host_malformed"),
            ("Host: a@b\r\n", "host_malformed"),
            ("Host: h:0\r\n", "host_malformed"),
            ("Host: h:99999\r\n", "host_malformed"),
            ("Host: h:\r\n", "host_malformed"),
            ("Host: h, g\r\n", "host_malformed"),
            ("Host: h/x\r\n", "host_malformed"),
            ("Host: [::1\r\n", "host_malformed"),
        ] {
            assert_eq!(host(lines), Err(why), "{lines:?}");
        }
    }

    #[test]
    fn a_header_is_read_in_one_way() {
        for good in ["X: y\r\n", "X:y\r\n", "X:\r\n", "X: a\tb \u{e9}\r\n", "Expect: 100-Continue\r\n"] {
            assert!(with(good).is_ok(), "{good:?}");
        }
        for (bad, why) in [
            ("X : y\r\n", "header_name"),
            (": y\r\n", "header_name"),
            (" folded\r\n", "header_without_colon"),
            (" fol: ded\r\n", "header_name"),
            ("\tfol: ded\r\n", "header_name"),
            ("X_Y: z\r\n", "header_name"),
            ("X\0: z\r\n", "header_name"),
            ("X(: z\r\n", "header_name"),
            ("X\r\n", "header_without_colon"),
            ("X: a\0b\r\n", "header_value"),
            ("X: a\rb\r\n", "header_value"),
            ("X: a\r\r\n", "header_value"),
            ("X: a\nY: b\r\n", "line_end"),
            ("X: a\x1b\r\n", "header_value"),
            ("Expect: tea\r\n", "expect_unknown"),
        ] {
            assert_eq!(with(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_head_has_bounds_before_it_has_an_end() {
        let long = "a".repeat(600);
        let many = "X: y\r\n".repeat(9);
        let huge = format!("X: {}\r\n", "y".repeat(400)).repeat(6);
        for (text, why) in [
            (format!("GET /{long}"), "target_too_long"),
            (format!("GET /{long} HTTP/1.1\r\n"), "target_too_long"),
            (format!("GET / HTTP/1.1\r\nX: {long}"), "header_line_too_long"),
            (format!("GET / HTTP/1.1\r\n{many}"), "too_many_headers"),
            (format!("GET / HTTP/1.1\r\n{huge}"), "head_too_large"),
            ("\r\n\r\nGET".to_owned(), "empty_lines"),
            ("\x16\x03\x01".to_owned(), "method"),
            (" GET".to_owned(), "method"),
            ("GET / HTTP/1.1\nHost: h\n\n".to_owned(), "line_end"),
            ("\nGET / HTTP/1.1\r\n".to_owned(), "line_end"),
        ] {
            assert_eq!(read(&text), Err(why), "{text:?}");
        }
        // As many as may be, and no more.
        assert_eq!(with(&"X: y\r\n".repeat(7)), Ok(Some(Frame::Length(0))));
        assert_eq!(with(&"X: y\r\n".repeat(8)), Err("too_many_headers"));
        let status = |text: &str| Scan::default().advance(text.as_bytes(), &LIMITS).unwrap_err().status;
        assert_eq!(status(&format!("GET /{long}")), Some(StatusCode::URI_TOO_LONG));
    }

    #[test]
    fn one_empty_line_before_a_request_is_passed_over() {
        assert_eq!(read("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), Ok(Some(Frame::Length(0))));
    }

    #[test]
    fn however_it_arrives_it_is_the_same_head() {
        let text = "\r\nPOST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
        let mut scan = Scan::default();
        let end = (1..=text.len()).find_map(|n| scan.advance(&text.as_bytes()[..n], &LIMITS).unwrap());
        assert_eq!(end, Some(Span { begin: 2, end: text.len() - 3 }));
    }

    proptest::proptest! {
        /// What the guard lets through, the parser behind it reads as it is: the same lines, none added.
        #[test]
        fn the_parser_behind_reads_what_was_judged(text in head_like()) {
            let limits = HeadLimits::default();
            let Ok(Some(span)) = Scan::default().advance(text.as_bytes(), &limits) else { return Ok(()) };
            let head = &text.as_bytes()[span.begin..span.end];
            if judge(head, &limits).is_err() {
                return Ok(());
            }
            let mut headers = [httparse::EMPTY_HEADER; 256];
            let mut parsed = httparse::Request::new(&mut headers);
            let status = parsed.parse(head);
            proptest::prop_assert!(status == Ok(httparse::Status::Complete(head.len())), "{:?}: {:?}", text, status);
            proptest::prop_assert_eq!(parsed.headers.len(), lines(head).count() - 2);
            let target = lines(head).next().unwrap().split(|b| *b == b' ').nth(1).unwrap();
            proptest::prop_assert_eq!(parsed.path.unwrap().as_bytes(), target);
        }
    }

    /// Text that is often nearly a head.
    fn head_like() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let piece = prop_oneof![
            4 => Just("GET /a HTTP/1.1\r\n".to_owned()),
            4 => Just("Host: h\r\n".to_owned()),
            4 => Just("\r\n".to_owned()),
            2 => "[A-Za-z-]{1,6}: ?[ -~]{0,8}\r\n",
            1 => "[\\x00-\\x7f]{0,6}",
            1 => "(Content-Length|Transfer-Encoding): [0-9chunked, ]{0,8}\r\n",
            1 => Just("\n".to_owned()),
        ];
        proptest::collection::vec(piece, 1..8)
            .prop_map(|pieces| format!("GET /x HTTP/1.1\r\nHost: h\r\n{}", pieces.concat()))
            .boxed()
    }
}
