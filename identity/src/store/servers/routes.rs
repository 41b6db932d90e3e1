//! Which server to ask about a key.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::node::Node;
use super::topology::View;
use crate::store::Unavailable;
use crate::store::address::Address;
use crate::store::unavailable::Refusal;

/// What is known of the servers.
#[derive(Clone)]
pub(super) enum Known {
    /// They are looked for: callers wait.
    Unknown,
    Routes(Arc<Routes>),
    /// They were not found: callers do not wait.
    Nobody(Unavailable),
}

/// The servers that hold records, and how keys are spread over them.
pub(super) struct Routes {
    view: View,
    /// In the order of the view's owners.
    nodes: Vec<Arc<Node>>,
}

impl Routes {
    pub(super) fn new(view: &View, node: impl Fn(&Address) -> Arc<Node>) -> Self {
        Self { view: view.clone(), nodes: view.owners().iter().map(node).collect() }
    }

    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Whether these are the routes of `view`.
    pub(super) fn are(&self, view: &View) -> bool {
        self.view == *view
    }

    /// The one server that holds all there is, if keys are not spread by slots.
    pub(super) fn only(&self) -> Option<&Arc<Node>> {
        match self.view {
            View::One(_) => self.nodes.first(),
            View::Cluster(_) => None,
        }
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        match &self.view {
            View::One(_) => self.nodes.first(),
            View::Cluster(map) => self.nodes.get(map.owner(slot)?),
        }
    }

    pub(super) fn at(&self, address: &Address) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.address() == address)
    }
}

/// Waits until it is known whom to ask.
pub(super) async fn known(
    routes: &mut watch::Receiver<Known>,
    deadline: Instant,
) -> Result<Arc<Routes>, Unavailable> {
    let known = routes.wait_for(|known| !matches!(known, Known::Unknown));
    match timeout_at(deadline, known).await {
        Ok(Ok(known)) => match &*known {
            Known::Routes(routes) => Ok(Arc::clone(routes)),
            Known::Nobody(why) => Err(*why),
            Known::Unknown => Err(Unavailable::Down),
        },
        Ok(Err(_)) => Err(Unavailable::Down),
        Err(_) => Err(Unavailable::Deadline),
    }
}

/// Finds the server at `address`. One that is not known yet is waited for: the supervisor looks for it.
pub(super) async fn find(
    routes: &mut watch::Receiver<Known>,
    address: &Address,
    slot: u16,
    deadline: Instant,
) -> Result<Arc<Node>, Unavailable> {
    let there = routes.wait_for(|known| match known {
        Known::Routes(routes) => routes.at(address).is_some(),
        Known::Unknown | Known::Nobody(_) => false,
    });
    match timeout_at(deadline, there).await {
        Ok(Ok(known)) => match &*known {
            Known::Routes(routes) => routes.at(address).or_else(|| routes.owner(slot)).cloned(),
            Known::Unknown | Known::Nobody(_) => None,
        }
        .ok_or(Unavailable::Down),
        Ok(Err(_)) => Err(Unavailable::Down),
        Err(_) => Err(Unavailable::Refused(Refusal::Moved)),
    }
}
