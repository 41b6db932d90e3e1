//! How long a user whose token was deleted is still let through: `DEL im:token:x` to the refusal.
//!
//! A real gateway process stands before a stand-in of OpenIM and a Redis of its own. One user calls
//! without a pause on several connections while the token is deleted and put back, round after round;
//! then the same again with other users keeping many connections busy. Left out: the network, sockets
//! (`/ws`), and a link to Redis that dies, which tests of the store cover.
//!
//! Started by `cargo bench --bench revocation`; started by `cargo test` it makes a short trial.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be set up has to stop")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

mod caller;
mod figures;
mod gateway;
#[path = "../../identity/tests/support/redis_server.rs"]
mod redis_server;
mod rounds;

use clap::Parser;
use imgate_identity::key::Keys;
use imgate_identity::store::{RedisConfig, Writer};
use openim_standin::{Options, Standin};

use caller::Person;
use figures::Figures;
use gateway::Gateway;
use redis_server::RedisServer;
use rounds::Rounds;

/// Measures the time from DEL im:token:x to the first refusal
#[derive(Parser)]
struct Arguments {
    /// How often the token is deleted, at rest and under load
    #[arg(long, default_value_t = 500)]
    rounds: usize,
    /// On how many connections its user calls
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// How many connections of other users are busy in the second half
    #[arg(long, default_value_t = 64)]
    load: usize,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let mut arguments = Arguments::parse();
    if !arguments.bench {
        arguments = Arguments { rounds: 3, connections: 2, load: 4, ..arguments };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(&arguments));
}

async fn measure(arguments: &Arguments) {
    let redis = RedisServer::start();
    let openim = Standin::start(Options { record: false, ..Options::default() }).await.unwrap();
    let writer = Writer::connect(RedisConfig::new(redis.url()), Keys::default()).await.unwrap();
    writer.put_mark().await.unwrap();
    let gateway = Gateway::start(&openim, &redis).await;
    let client = redis::Client::open(redis.url()).unwrap();
    let redis = client.get_multiplexed_async_connection().await.unwrap();
    let rounds =
        Rounds { gateway: gateway.address, redis, person: Person::new("alice", &writer, &openim).await };

    let at_rest = rounds.run(arguments.rounds, arguments.connections, &[]).await;
    report("at rest", arguments, &at_rest);
    let mut others = Vec::new();
    for n in 0..arguments.load {
        others.push(Person::new(&format!("other_{n}"), &writer, &openim).await);
    }
    let under_load = rounds.run(arguments.rounds, arguments.connections, &others).await;
    report(&format!("with {} more connections busy", arguments.load), arguments, &under_load);
}

fn report(how: &str, arguments: &Arguments, measured: &rounds::Measured) {
    let Arguments { rounds, connections, .. } = arguments;
    println!(
        "\n{how}: {rounds} rounds, {connections} connections of the user, {:.0} requests/s",
        measured.rate
    );
    println!("{:34} {:>8} {:>8} {:>8} {:>8}", "milliseconds", "p50", "p95", "p99", "max");
    let line = |name: &str, figures: &Figures| println!("{name:33} {figures}");
    line("DEL sent, first refusal received", &measured.first_refusal);
    line("DEL done, last call let through", &measured.last_pass);
    line("a call of the user, let through", &measured.call);
}
