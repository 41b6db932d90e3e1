//! Writes that meet requests under way: in the end the gateway knows what Redis knows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;

use super::{SLACK, UNKNOWN, World, ask, run, tail, token, used, world};
use crate::support::proxy::{Mode, Role};
use crate::support::{Person, within};

const ROUNDS: u64 = 8;
const WRITES: u64 = 40;

/// Sets and deletes tokens as fast as Redis takes them.
async fn write(mut redis: MultiplexedConnection, tokens: Arc<Vec<(String, String)>>, from: usize) {
    for (step, (user, token)) in tokens.iter().enumerate().skip(from).step_by(2) {
        let key = format!("im:token:{user}");
        if step % 5 == 4 {
            run(&mut redis, &["DEL", &key]).await;
        } else {
            run(&mut redis, &["SET", &key, token]).await;
        }
    }
}

/// Asks as one person until told to stop. Whatever the race, the token used is one of that person's; says
/// how many requests were answered, and how many found Redis too slow.
async fn keep_asking(
    w: Arc<World>,
    who: Person,
    mine: Arc<HashSet<String>>,
    stop: Arc<AtomicBool>,
) -> (u32, u32) {
    let (mut answered, mut late) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        let reply = ask(&w.gateway, &who).await;
        match used(&reply) {
            Some(token) => assert!(mine.contains(&token), "{} used another's token", who.user),
            None if reply.verdict() == UNKNOWN => {
                late += 1;
                continue;
            }
            None => assert_eq!(reply.verdict(), (401, 1507)),
        }
        answered += 1;
    }
    (answered, late)
}

async fn race(tracking: Mode, commands: Mode) {
    let w = world("ttl: 60s, stale_grace: 10s").await;
    let mut people = vec![w.ann.clone()];
    for user in ["bea", "cas", "dot"] {
        people.push(w.stranger(user).await);
    }
    w.proxy.set(Role::Tracking, tracking);
    w.proxy.set(Role::Commands, commands);
    let w = Arc::new(w);
    let mut mine: HashMap<String, HashSet<String>> = HashMap::new();
    for person in &people {
        mine.entry(person.user.to_string()).or_default().insert(tail(&person.token).to_owned());
    }
    for round in 0..ROUNDS {
        let tokens = (0..WRITES).map(|step| {
            let user = people[(step % 4) as usize].user.to_string();
            let token = token(&w.openim, &user, round * WRITES + step);
            mine.entry(user.clone()).or_default().insert(tail(&token).to_owned());
            (user, token)
        });
        let tokens: Arc<Vec<_>> = Arc::new(tokens.collect());
        let stop = Arc::new(AtomicBool::new(false));
        let asking: Vec<_> = people
            .iter()
            .map(|who| {
                let mine = Arc::new(mine[who.user.as_str()].clone());
                tokio::spawn(keep_asking(Arc::clone(&w), who.clone(), mine, Arc::clone(&stop)))
            })
            .collect();
        let writers = [0, 1].map(|from| tokio::spawn(write(w.redis.clone(), Arc::clone(&tokens), from)));
        for writer in writers {
            writer.await.unwrap();
        }
        for person in &people {
            agrees(&w, person).await;
        }
        stop.store(true, Ordering::SeqCst);
        for one in asking {
            let (answered, late) = one.await.unwrap();
            // A busy machine may let a deadline of Redis pass now and then.
            assert!(answered > 10 * late, "{answered} {late}");
        }
    }
    for cause in ["broken", "unmarked", "refused", "overloaded"] {
        let metric = format!("imgate_store_failures_total{{cause=\"{cause}\"}}");
        assert_eq!(w.gateway.metric(&metric).await, 0.0, "{cause}");
    }
}

/// Waits until requests of `who` are answered as Redis has it.
async fn agrees(w: &World, who: &Person) {
    let key = format!("im:token:{}", who.user);
    let stored: Option<String> = redis::cmd("GET").arg(key).query_async(&mut w.redis.clone()).await.unwrap();
    let agree = async || {
        let reply = w.ask(who).await;
        match &stored {
            Some(token) => used(&reply).as_deref() == Some(tail(token)),
            None => reply.verdict() == (401, 1507),
        }
    };
    within(SLACK, "the gateway agrees with Redis", agree).await;
    for _ in 0..3 {
        assert!(agree().await, "the gateway forgot what it knew of {}", who.user);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_race_the_gateway_agrees_with_redis() {
    race(Mode::Pass, Mode::Pass).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_race_the_gateway_agrees_with_redis_however_slow_the_links() {
    race(Mode::Jitter(3000), Mode::Jitter(3000)).await;
}

#[tokio::test]
async fn a_change_made_while_the_tracking_link_is_replaced_is_not_missed() {
    let mut w = world("ttl: 60s, stale_grace: 60s").await;
    for serial in 0..5 {
        let killed = kill_tracking(&mut w.redis).await;
        assert_eq!(killed, 1, "the gateway has one tracking link");
        let new = token(&w.openim, "ann", serial);
        w.set("ann", &new).await;
        // The grace is a minute, so it is the new link that ends what was loaded before.
        w.carries(Duration::from_secs(3) + SLACK, &w.ann, &new).await;
        let up = async || w.gateway.metric("imgate_store_up").await == 1.0;
        within(Duration::from_secs(10), "the link is back", up).await;
        assert_eq!(used(&w.ask(&w.ann).await).as_deref(), Some(tail(&new)));
    }
}

/// Ends every connection that has tracking switched on; says how many there were.
async fn kill_tracking(redis: &mut MultiplexedConnection) -> usize {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(redis).await.unwrap();
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|word| word.strip_prefix(name).map(str::to_owned)).unwrap_or_default()
    };
    let tracking = clients.lines().filter(|line| field(line, "flags=").contains('t'));
    let ids: Vec<String> = tracking.map(|line| field(line, "id=")).collect();
    for id in &ids {
        run(redis, &["CLIENT", "KILL", "ID", id]).await;
    }
    ids.len()
}
