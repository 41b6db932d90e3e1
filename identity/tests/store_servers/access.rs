//! A user of Redis with exactly the permissions that the documentation asks for.

use std::time::Duration;

use imgate_identity::key::Keys;
use imgate_identity::secret::Secret;
use imgate_identity::store::{
    CacheConfig, Claim, Health, Login, Policy, Proof, RedisConfig, Store, Taken, Unavailable, Writer,
};
use imgate_identity::time::UnixTime;

use crate::redis_server::RedisServer;
use crate::rig::{client, eventually, fresh_token, known_token, patient, record, run, session_id, user};

/// The rules of the full configuration in `conf/openim.yaml`, one per line after the user's name.
fn documented(name: &str) -> Vec<String> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/openim.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let begin = format!("#   ACL SETUSER {name} ");
    let mut words = Vec::new();
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with(&begin));
    words.extend(lines.next().unwrap().trim_start_matches(&*begin).split_whitespace().map(str::to_owned));
    for line in lines.take_while(|line| line.starts_with("#     ")) {
        words.extend(line.trim_start_matches('#').split_whitespace().map(str::to_owned));
    }
    words.into_iter().map(|word| if word.starts_with('>') { ">pw".to_owned() } else { word }).collect()
}

async fn server_with(rules: &[String]) -> RedisServer {
    let server = RedisServer::start();
    let mut admin = client(&server).await;
    let words = ["ACL", "SETUSER", "imgate"].into_iter().chain(rules.iter().map(String::as_str));
    run(&mut admin, &words.collect::<Vec<_>>()).await;
    let writer = Writer::connect(patient(&server.url()), Keys::default()).await.unwrap();
    writer.put_mark().await.unwrap();
    server
}

fn config(server: &RedisServer) -> RedisConfig {
    let login = Login { user: Some("imgate".to_owned()), password: Some(Secret::new("pw".to_owned())) };
    RedisConfig { login, ..patient(&server.url()) }
}

#[tokio::test]
async fn the_documented_permissions_are_enough() {
    let server = server_with(&documented("imgate")).await;
    let store = Store::redis(config(&server), Keys::default(), CacheConfig::default()).unwrap();
    eventually("the store is live", async || store.health() == Health::Live).await;
    assert_eq!(store.probe().await, Ok(()));
    let writer = Writer::connect(patient(&server.url()), Keys::default()).await.unwrap();
    let (id, u1) = (session_id(1), user("u1"));
    writer.put_session(&id, &record(&u1)).await.unwrap();
    writer.put_token(&u1, &fresh_token("u1", 2, 1)).await.unwrap();
    writer.put_admin_token(&user("imAdmin"), &fresh_token("imAdmin", 10, 1)).await.unwrap();
    eventually("the session is found", async || store.session(&id).await.unwrap().is_some()).await;
    eventually("the token is found", async || known_token(&store, &u1).await.is_some()).await;
    assert!(store.admin_token(&user("imAdmin")).await.unwrap().is_some());
    assert_eq!(store.claim_nonce(&id, "n", Duration::from_secs(60)).await, Ok(Claim::Fresh));
    let policy = Policy::new("per user", Duration::from_secs(1), 10);
    assert!(matches!(store.take(&policy, b"u1").await, Ok(Taken::Passed { .. })));
    writer.revoke_session(&id, UnixTime::now()).await.unwrap();
    let revoked = async || store.session(&id).await.unwrap().unwrap().revoked_at.is_some();
    eventually("the revocation is seen", revoked).await;

    // And nothing more: the gateway's user writes no record.
    let refused = Writer::connect(config(&server), Keys::default()).await.unwrap();
    assert!(refused.put_session(&id, &record(&u1)).await.is_err());
    assert!(refused.put_token(&u1, &fresh_token("u1", 2, 2)).await.is_err());
    assert!(refused.put_mark().await.is_err());
    assert!(refused.delete_ban(&u1).await.is_err());
}

#[tokio::test]
async fn a_user_who_may_not_write_the_canary_is_told_and_may_ask_instead() {
    let rules: Vec<String> = documented("imgate")
        .into_iter()
        .filter(|rule| !rule.contains(":canary:") && rule != "+set")
        .collect();
    let server = server_with(&rules).await;
    let proven_by = |proof| {
        let config = RedisConfig { proof, ..config(&server) };
        Store::redis(config, Keys::default(), CacheConfig::default()).unwrap()
    };
    let strict = proven_by(Proof::Canary);
    eventually("the fault is counted", async || strict.link_faults().contains_key("refused_no_permission"))
        .await;
    assert_eq!(strict.health(), Health::Down);
    assert_eq!(strict.probe().await.map_err(Unavailable::as_str), Err("refused_no_permission"));

    let asking = proven_by(Proof::Info);
    eventually("the store is live", async || asking.health() == Health::Live).await;
    let mut admin = client(&server).await;
    run(&mut admin, &["SET", "im:token:u1", &fresh_token("u1", 2, 1)]).await;
    eventually("the token is seen", async || known_token(&asking, &user("u1")).await.is_some()).await;
    run(&mut admin, &["DEL", "im:token:u1"]).await;
    eventually("the change is seen", async || known_token(&asking, &user("u1")).await.is_none()).await;
}
