//! A `redis-server` of the test's own: on a free port, without persistence, gone with the test.
//!
//! Self-contained, so that other crates' tests can include it by path.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to answer after it was started.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server. Dropping it ends the process.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    directory: tempfile::TempDir,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments, such as `["--requirepass", "secret"]`.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let directory = tempfile::tempdir().expect("a temporary directory");
        // The port is free when it is picked; should somebody else take it first, another is picked.
        for _ in 0..10 {
            let port = free_port();
            let mut child = spawn(port, &arguments, directory.path());
            if answers(&mut child, port) {
                return Self { child, port, arguments, directory };
            }
            end(&mut child);
        }
        panic!("redis-server did not start; is it installed?");
    }

    /// The URL to reach it by.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Its address.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends the process without a farewell.
    pub(crate) fn kill(&mut self) {
        end(&mut self.child);
    }

    /// Starts it again on the same port, empty, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            self.child = spawn(self.port, &self.arguments, self.directory.path());
            if answers(&mut self.child, self.port) {
                return;
            }
            end(&mut self.child);
        }
        panic!("redis-server did not start again on port {}", self.port);
    }

    /// Stops the process from running; it keeps its sockets and answers nothing.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets a paused process run on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(sent.expect("the kill command").success(), "signal {signal} was not sent");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    listener.local_addr().expect("the address of a bound socket").port()
}

fn spawn(port: u16, arguments: &[String], directory: &std::path::Path) -> Child {
    Command::new("redis-server")
        .args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server must be installed to run this test")
}

/// Waits until the server answers a PING, whatever the answer; false if it ended instead.
pub(crate) fn answers(child: &mut Child, port: u16) -> bool {
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        if ping(port).is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

fn ping(port: u16) -> Option<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"PING\r\n").ok()?;
    let mut first = [0];
    stream.read_exact(&mut first).ok()?;
    Some(first[0])
}

/// Ends the process by its id and waits for it, so that none is left behind.
pub(crate) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
