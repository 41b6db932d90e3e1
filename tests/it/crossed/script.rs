//! What the upstream does to an answer: every shape it can have, broken at every byte.

use crate::support::{Act, ok};

/// How an answer says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Length,
    /// With a length, and with the word that the connection will not be used again.
    Closing,
    Chunked,
    UntilClose,
}

/// What goes wrong; the number is the byte at which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Honest,
    /// The connection is closed.
    Cut(usize),
    /// The connection is reset.
    Reset(usize),
    /// Nothing more comes, on a connection that stays open.
    Stall(usize),
    /// The rest comes later.
    Pause(usize),
    /// Something else comes instead of the rest.
    Garbage(usize),
    /// This byte is another one.
    Flip(usize),
    /// So many bytes of another answer follow the whole answer.
    Surplus(usize),
    /// The length is too small by so much.
    TooShort(usize),
    /// The length is too large by so much.
    TooLong(usize),
    /// So many interim answers come first.
    Interim(usize),
}

/// One request and what becomes of its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) shape: Shape,
    pub(super) fault: Fault,
    /// The client goes away in the middle, if it is one of those that do.
    pub(super) abandoned: bool,
}

impl Job {
    fn new(shape: Shape, fault: Fault) -> Self {
        Self { shape, fault, abandoned: false }
    }

    /// Whether the client may get an answer of 200 that is not what OpenIM meant to say: the framing
    /// is sound and only the bytes are not, so that nobody but the client can tell.
    pub(super) fn garbles_soundly(self) -> bool {
        match self.fault {
            Fault::Garbage(_) | Fault::Flip(_) | Fault::TooShort(_) => true,
            Fault::Cut(_) => self.shape == Shape::UntilClose,
            _ => false,
        }
    }

    /// Whether nothing is wrong with the answer.
    pub(super) fn is_sound(self) -> bool {
        matches!(self.fault, Fault::Honest | Fault::Pause(_) | Fault::Surplus(_) | Fault::Interim(..=8))
    }
}

/// The answer to operation `op` of the user whose token ends in `tail`, with `fill` more bytes.
pub(super) fn body(op: &str, tail: &str, fill: usize) -> String {
    let fill = "x".repeat(fill);
    let data = format!(r#"{{"op":"{op}","token":"{tail}","fill":"{fill}","end":"{op}"}}"#);
    format!(r#"{{"errCode":0,"errMsg":"","errDlt":"","data":{data}}}"#)
}

/// The number of an operation, as long for each.
pub(super) fn operation(number: usize) -> String {
    format!("op-{number:07}")
}

/// The answer as it should be sent.
pub(super) fn wire(shape: Shape, body: &str) -> Vec<u8> {
    let more = match shape {
        Shape::Length => return ok(body),
        Shape::Closing => format!("Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        Shape::UntilClose => format!("\r\n{body}"),
        Shape::Chunked => {
            let (a, b) = body.split_at(body.len() / 2);
            let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
            format!("Transfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(a), chunk(b))
        }
    };
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{more}").into_bytes()
}

/// An answer to nobody, as good as any.
fn forged(fill: usize) -> Vec<u8> {
    ok(&body(&operation(9_999_999), "forged-forged-00", fill))
}

/// What the upstream does for `job`.
pub(super) fn acts(job: Job, body: &str) -> Vec<Act> {
    let whole = wire(job.shape, body);
    let first = |n: usize| Act::Send(whole[..n].to_vec());
    let rest = |n: usize| Act::Send(whole[n..].to_vec());
    let mut acts = match job.fault {
        Fault::Honest => vec![rest(0)],
        Fault::Cut(n) => return vec![first(n), Act::Close],
        Fault::Reset(n) => return vec![first(n), Act::Reset],
        Fault::Stall(n) => return vec![first(n)],
        Fault::Pause(n) => vec![first(n), Act::Pause, rest(n)],
        Fault::Garbage(n) => return vec![first(n), Act::Send(b"\r\n\r\n\x00\xff{}GET / ".repeat(100))],
        Fault::Flip(n) => {
            let mut flipped = whole;
            flipped[n] ^= 0x80;
            vec![Act::Send(flipped)]
        }
        Fault::Surplus(n) => vec![Act::Send([whole, forged(0)[..n].to_vec()].concat())],
        Fault::TooShort(n) => return vec![Act::Send(lying(body, body.len() - n))],
        Fault::TooLong(n) => return vec![Act::Send(lying(body, body.len() + n))],
        Fault::Interim(n) => {
            let hint = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n".repeat(n);
            vec![Act::Send(hint), rest(0)]
        }
    };
    match job.shape {
        // One that is not to be used again may carry anything, at any time.
        Shape::Closing => acts.extend([Act::Pause, Act::Send(forged(0))]),
        Shape::UntilClose => acts.push(Act::Close),
        Shape::Length | Shape::Chunked => {}
    }
    acts
}

fn lying(body: &str, length: usize) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Every fault at every `step`th byte of an answer of each shape, among honest answers, in an order
/// that is always the same and no order at all.
pub(super) fn plan(fill: usize, step: usize) -> Vec<Job> {
    let sample = body(&operation(0), "sixteen-letters.", fill);
    let mut jobs = Vec::new();
    for shape in [Shape::Length, Shape::Chunked, Shape::UntilClose] {
        let length = wire(shape, &sample).len();
        for n in (0..length).step_by(step) {
            let faults = [
                Fault::Cut(n),
                Fault::Reset(n),
                Fault::Stall(n),
                Fault::Pause(n),
                Fault::Garbage(n),
                Fault::Flip(n),
            ];
            jobs.extend(faults.map(|fault| Job::new(shape, fault)));
        }
        jobs.extend([Fault::Cut(length), Fault::Reset(length)].map(|fault| Job::new(shape, fault)));
    }
    for n in (1..=forged(0).len()).step_by(step) {
        jobs.extend([Shape::Length, Shape::Chunked].map(|shape| Job::new(shape, Fault::Surplus(n))));
        jobs.push(Job::new(Shape::Closing, Fault::Honest));
    }
    for n in (1..=sample.len()).step_by(step) {
        jobs.extend([Fault::TooShort(n), Fault::TooLong(n)].map(|fault| Job::new(Shape::Length, fault)));
    }
    let interim = (0..12).chain([200, 2000]);
    jobs.extend(interim.map(|n| Job::new(Shape::Length, Fault::Interim(n))));
    let honest = (0..jobs.len()).map(|n| Job {
        abandoned: n % 4 == 0,
        ..Job::new(if n % 2 == 0 { Shape::Length } else { Shape::Chunked }, Fault::Honest)
    });
    let honest: Vec<Job> = honest.collect();
    jobs.extend(honest);
    shuffle(&mut jobs);
    jobs
}

/// Fisher and Yates with a fixed seed, so that a failure can be seen again.
fn shuffle(jobs: &mut [Job]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..jobs.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        jobs.swap(i, (state >> 33) as usize % (i + 1));
    }
}
