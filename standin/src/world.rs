//! The little that OpenIM remembers here: users, friendships, groups, messages, conversations, objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

/// A user profile.
#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    pub(crate) nickname: String,
    pub(crate) face_url: String,
    pub(crate) ex: String,
}

/// How a friend request stands, numbered as OpenIM numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub(crate) enum Handled {
    Refused = -1,
    Pending = 0,
    Agreed = 1,
}

/// A friend request.
#[derive(Clone, Debug)]
pub(crate) struct FriendRequest {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) message: String,
    pub(crate) handled: Handled,
}

/// A group and its members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) members: BTreeSet<String>,
}

/// A stored message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) send: String,
    pub(crate) recv: String,
    pub(crate) group: String,
    pub(crate) content: Value,
    pub(crate) seq: usize,
    pub(crate) time: u64,
}

/// An upload that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) name: String,
}

/// Everything remembered.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) friends: BTreeSet<(String, String)>,
    pub(crate) blacks: BTreeSet<(String, String)>,
    pub(crate) requests: Vec<FriendRequest>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) messages: Vec<Message>,
    pub(crate) sent: BTreeSet<String>,
    pub(crate) conversations: BTreeMap<(String, String), Value>,
    pub(crate) objects: BTreeSet<String>,
    pub(crate) uploads: HashMap<String, Upload>,
    issued: u64,
}

impl World {
    /// Returns a number no one has had before.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// Describes a user as other users see him; an unknown one has only his id.
    pub(crate) fn profile(&self, id: &str) -> Value {
        let user = self.users.get(id).cloned().unwrap_or_default();
        json!({ "userID": id, "nickname": user.nickname, "faceURL": user.face_url, "ex": user.ex })
    }
}
