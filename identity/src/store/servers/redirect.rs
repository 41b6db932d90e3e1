//! Following a key that lives on another node of a cluster, or is on its way there.
//!
//! Source: Redis Cluster specification, "MOVED Redirection" and "ASK redirection".

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use super::node::Node;
use crate::store::Unavailable;
use crate::store::address::Address;
use crate::store::unavailable::Refusal;

/// Where a node points to.
pub(super) struct Onward {
    pub(super) to: Address,
    /// For good; otherwise only for this question.
    pub(super) moved: bool,
}

/// Questions on their way to whoever answers them. Each is asked again only where it was not answered.
pub(super) struct Chase<'a> {
    commands: &'a [Cmd],
    answers: Vec<Option<Value>>,
    node: Arc<Node>,
    /// Whether the node only takes the question because another sent us.
    asking: bool,
}

impl<'a> Chase<'a> {
    pub(super) fn new(node: Arc<Node>, commands: &'a [Cmd]) -> Self {
        Self { commands, answers: vec![None; commands.len()], node, asking: false }
    }

    /// Asks what is not answered yet; `None` if everything is now.
    pub(super) async fn hop(&mut self, deadline: Instant) -> Result<Option<Onward>, Unavailable> {
        let open: Vec<usize> = (0..self.commands.len()).filter(|at| self.answers[*at].is_none()).collect();
        let mut pipeline = Pipeline::new();
        for at in &open {
            if self.asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(self.commands[*at].clone());
        }
        let answers = self.node.ask(pipeline, deadline).await?;
        // Ahead of each answer stands the one to ASKING.
        let step = if self.asking { 2 } else { 1 };
        let mut onward = None;
        for (at, answer) in open.into_iter().zip(answers.into_iter().skip(step - 1).step_by(step)) {
            match points(&answer, self.node.address())? {
                Some(found) => onward = Some(found),
                None => self.answers[at] = Some(answer),
            }
        }
        Ok(onward)
    }

    /// Goes on to where the last node pointed.
    pub(super) fn turn(&mut self, node: Arc<Node>, onward: &Onward) {
        self.node = node;
        self.asking = !onward.moved;
    }

    /// The answers, and who gave the last of them.
    pub(super) fn over(self) -> Result<(Arc<Node>, Vec<Value>), Unavailable> {
        let answers: Option<Vec<Value>> = self.answers.into_iter().collect();
        Ok((self.node, answers.ok_or(Unavailable::Down)?))
    }
}

/// Where an answer points to, if it is a redirection. `asked` stands for a host that is left out.
fn points(answer: &Value, asked: &Address) -> Result<Option<Onward>, Unavailable> {
    let Value::ServerError(error) = answer else { return Ok(None) };
    let moved = match error.code() {
        "MOVED" => true,
        "ASK" => false,
        _ => return Ok(None),
    };
    let to = error.details().and_then(|details| address(details, asked));
    Ok(Some(Onward { to: to.ok_or(Unavailable::Refused(Refusal::Moved))?, moved }))
}

/// Reads `slot host:port`; an IPv6 address stands there without brackets.
fn address(details: &str, asked: &Address) -> Option<Address> {
    let (host, port) = details.split(' ').nth(1)?.rsplit_once(':')?;
    let host = if host.is_empty() { asked.host() } else { host };
    Address::new(host, port.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_read_in_every_spelling() {
        let asked = Address::parse("10.0.0.9:7000").unwrap();
        let read = |details: &str| address(details, &asked).map(|address| address.to_string());
        for (details, expected) in [
            ("3999 127.0.0.1:6381", Some("127.0.0.1:6381")),
            ("3999 node-3.redis:6381", Some("node-3.redis:6381")),
            ("3999 ::1:6381", Some("[::1]:6381")),
            ("3999 :6381", Some("10.0.0.9:6381")),
            ("3999 ?:6381", None),
            ("3999", None),
            ("3999 h:x", None),
        ] {
            assert_eq!(read(details).as_deref(), expected, "{details}");
        }
    }
}
