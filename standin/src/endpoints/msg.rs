//! `/msg/*`: sending as an admin, pulling, searching, and the status kept per operationID.

use serde_json::{Value, json};

use super::Call;
use crate::envelope::Failure;
use crate::token::unix_now;
use crate::world::{Message, World};

/// Sends one message.
pub(crate) fn send(call: &Call<'_>) -> Result<Value, Failure> {
    let recv = call.text("recvID")?;
    store(call, recv)
}

/// Sends one message to many.
pub(crate) fn send_batch(call: &Call<'_>) -> Result<Value, Failure> {
    let results: Result<Vec<Value>, Failure> =
        call.texts("recvIDs")?.into_iter().map(|recv| store(call, recv)).collect();
    Ok(json!({ "results": results?, "failedUserIDs": [] }))
}

fn store(call: &Call<'_>, recv: &str) -> Result<Value, Failure> {
    let (send, recv) = (call.subject().to_owned(), recv.to_owned());
    let group = call.text("groupID")?.to_owned();
    let content = call.body.find("content").cloned().unwrap_or(Value::Null);
    let mut world = call.shared.world.lock();
    let id = format!("server-msg-{}", world.next_id());
    let (seq, time) = (world.messages.len() + 1, unix_now() * 1000);
    world.sent.insert(call.head.first("operationID").to_owned());
    world.messages.push(Message { id: id.clone(), send, recv, group, content, seq, time });
    Ok(json!({ "serverMsgID": id, "clientMsgID": "", "sendTime": time }))
}

/// Tells the newest sequence number of the subject's conversations.
pub(crate) fn newest_seq(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let newest = involving(&world, call.subject()).map(|message| message.seq).max().unwrap_or_default();
    Ok(json!({ "maxSeqs": { conversation(call.subject()): newest }, "minSeqs": {} }))
}

/// Gives the subject's messages.
pub(crate) fn pull(call: &Call<'_>) -> Result<Value, Failure> {
    let world = call.shared.world.lock();
    let msgs: Vec<Value> = involving(&world, call.subject()).map(describe).collect();
    Ok(json!({ "msgs": { conversation(call.subject()): { "Msgs": msgs, "isEnd": true } } }))
}

/// Searches everyone's messages: the hole OpenIM has.
pub(crate) fn search(call: &Call<'_>) -> Result<Value, Failure> {
    let (send, recv) = (call.text("sendID")?, call.text("recvID")?);
    let world = call.shared.world.lock();
    let wanted = |message: &&Message| {
        (send.is_empty() || message.send == send) && (recv.is_empty() || message.recv == recv)
    };
    let logs: Vec<Value> =
        world.messages.iter().filter(wanted).map(|message| json!({ "chatLog": describe(message) })).collect();
    Ok(json!({ "chatLogsNum": logs.len(), "chatLogs": logs }))
}

/// Tells whether the message sent under this operationID went out.
pub(crate) fn send_status(call: &Call<'_>) -> Result<Value, Failure> {
    let sent = call.shared.world.lock().sent.contains(call.head.first("operationID"));
    Ok(json!({ "status": if sent { SENT } else { NO_STATUS } }))
}

/// Source: protocol `constant.MsgStatusSended`.
const SENT: i32 = 2;
/// Source: protocol `constant.MsgStatusNotExist`.
const NO_STATUS: i32 = 0;

/// Tells the server's time in milliseconds.
pub(crate) fn server_time(_: &Call<'_>) -> Result<Value, Failure> {
    Ok(json!({ "serverTime": unix_now() * 1000 }))
}

fn involving<'a>(world: &'a World, user: &'a str) -> impl Iterator<Item = &'a Message> {
    world.messages.iter().filter(move |message| message.send == user || message.recv == user)
}

fn conversation(user: &str) -> String {
    format!("si_{user}")
}

fn describe(message: &Message) -> Value {
    json!({
        "serverMsgID": message.id,
        "sendID": message.send,
        "recvID": message.recv,
        "groupID": message.group,
        "content": message.content,
        "seq": message.seq,
        "sendTime": message.time,
    })
}
