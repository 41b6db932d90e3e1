//! Whether Redis is there, announces changes, and keeps what it is given.

use imgate_identity::store::{Address, RedisConfig, Refusal, ServerInfo, Unavailable};
use imgate_identity::time::UnixTime;

use super::exposure::answers_strangers;
use super::probe::skew;
use super::report::Finding;
use crate::config::{Config, StoreSource};
use crate::gateway::Snapshot;

/// The check that Redis can be used at all.
pub(super) const REDIS: &str = "redis";

const TRACKING: &str = "redis tracking";

const MARK: &str = "store mark";

const KEEPING: &str = "redis memory";

const CLOCK: &str = "clock";

const PASSWORD: &str = "redis password";

/// The password OpenIM's own Redis is shipped with. Source: open-im-server `config/redis.yml`.
const DEFAULT_PASSWORD: &str = "openIM123";

/// What the servers say of themselves, or why they cannot be asked.
pub(super) type Servers = Result<Vec<ServerInfo>, Unavailable>;

/// Where the servers are, as far as that is known.
pub(super) fn addresses(servers: &Servers) -> Vec<Address> {
    servers.iter().flatten().map(|server| server.address.clone()).collect()
}

/// Judges what the servers say, and has one thing proven: that changes are announced.
pub(super) async fn examine(config: &Config, snapshot: &Snapshot, servers: &Servers) -> Vec<Finding> {
    let StoreSource::Redis(redis) = &config.identity.store else {
        return vec![Finding::skip(REDIS, "the store is in the gateway's own memory")];
    };
    let servers = match servers {
        Ok(servers) => servers,
        Err(why) => return vec![refused(*why)],
    };
    let mut findings: Vec<Finding> = servers.iter().flat_map(server).collect();
    findings.push(tracking(snapshot).await);
    for server in servers {
        findings.push(mark(server, redis.require_mark));
        findings.extend(clock(server));
        findings.extend(stranger(redis, server).await);
    }
    findings.extend(default_password(redis));
    findings
}

/// Why Redis cannot be used at all, and what to do about it.
fn refused(why: Unavailable) -> Finding {
    let advice = match why {
        Unavailable::Refused(Refusal::NoAuth) => {
            "set `password` in identity.store to where the password is, and the user if it has one"
        }
        Unavailable::Refused(Refusal::NoPermission) => {
            "give the user what the comment at identity.store in conf/openim.yaml lists"
        }
        Unavailable::Refused(Refusal::Loading) => "it is loading its data set: wait until it is done",
        Unavailable::Down | Unavailable::Deadline => {
            "start it, or correct identity.store (redis.url, or the addresses); a firewall may be between"
        }
        Unavailable::Tls => {
            "its certificate is not for this host or of an authority we trust, it speaks no TLS, or it wants a \
             certificate of ours: see `tls` in identity.store"
        }
        Unavailable::NoMaster(_) => {
            "look at the sentinels, or the nodes of the cluster, and what they say of each other"
        }
        _ => "is this a Redis, version 6 or later, that may be used by this user?",
    };
    Finding::fail(REDIS, format!("it cannot be used: {why}"), advice)
}

fn server(info: &ServerInfo) -> Vec<Finding> {
    let version = info.version.as_deref().unwrap_or("of a version it does not tell");
    let found = format!("{}, version {version}, answers", info.address);
    let mut findings = vec![if info.is_replica {
        Finding::warn(
            REDIS,
            format!("{found}, and is a replica"),
            "replicas announce changes late and take no writes: name the master",
        )
    } else {
        Finding::ok(REDIS, found)
    }];
    findings.extend(keeping(info));
    findings
}

/// Whether it forgets what it was given.
fn keeping(info: &ServerInfo) -> Vec<Finding> {
    let Some(policy) = info.eviction.as_deref() else {
        return vec![Finding::skip(KEEPING, "this user may not ask (INFO)")];
    };
    let mut findings = Vec::new();
    if policy != "noeviction" {
        let limit = match info.max_memory {
            Some(0) => "it has no limit yet, so it removes nothing yet",
            _ => "users are logged out when memory runs short",
        };
        findings.push(Finding::warn(
            KEEPING,
            format!("it may remove records by itself (maxmemory-policy {policy})"),
            format!("{limit}: set maxmemory-policy noeviction, and watch its memory"),
        ));
    }
    if info.appends == Some(false) && info.snapshots.as_deref() == Some("") {
        findings.push(Finding::warn(
            KEEPING,
            "it keeps nothing on disk",
            "after a restart every session is gone: set appendonly yes, or `save`",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(KEEPING, "it removes nothing by itself and keeps what it has on disk"));
    }
    findings
}

/// Does what a gateway does before it caches anything.
async fn tracking(snapshot: &Snapshot) -> Finding {
    let why = match snapshot.store.probe().await {
        // The mark is asked for last, and has a check of its own.
        Ok(()) | Err(Unavailable::Unmarked) => {
            return Finding::ok(TRACKING, "changes are announced, by the proof that identity.store asks for");
        }
        Err(why) => why,
    };
    let advice = match why {
        Unavailable::Refused(Refusal::NoPermission) => {
            "let the user write canaries, as the comment at identity.store in conf/openim.yaml lists, or set \
             `proof: info` there"
        }
        Unavailable::Silent => {
            "something between swallows RESP3 pushes: connect to Redis itself, past any proxy"
        }
        _ => "it has to be Redis 6 or later, and the user needs +client|tracking",
    };
    Finding::fail(TRACKING, format!("changes are not announced: {why}"), advice)
}

fn mark(server: &ServerInfo, is_required: bool) -> Finding {
    if server.is_marked {
        return Finding::ok(MARK, format!("{} bears it", server.address));
    }
    let found = format!("{} does not bear it", server.address);
    if is_required {
        return Finding::fail(
            MARK,
            format!("{found}, so gateways answer 503"),
            "the store is new, was flushed, or is the wrong one: once its records are complete, run `imgate store mark`",
        );
    }
    Finding::warn(
        MARK,
        format!("{found}, and identity.store_mark is off"),
        "a store that was flushed logs everybody out",
    )
}

/// Compares its clock with ours; a user who may not ask for it is told nothing.
fn clock(server: &ServerInfo) -> Option<Finding> {
    let differs = skew(server.time?.as_secs(), UnixTime::now().0);
    Some(match differs {
        None => Finding::ok(CLOCK, format!("redis {} and this machine agree on the time", server.address)),
        Some(differs) => Finding::warn(
            CLOCK,
            format!("the clock of redis {} is {differs}", server.address),
            "sessions and bans end by the clock: keep all machines in time by NTP",
        ),
    })
}

fn default_password(redis: &RedisConfig) -> Option<Finding> {
    let password = redis.login.password.as_ref()?;
    (password.expose() == DEFAULT_PASSWORD).then(|| {
        Finding::fail(
            PASSWORD,
            "it is the one OpenIM is shipped with",
            "anybody reads sessions and tokens: set requirepass, or an ACL user, to a long random text",
        )
    })
}

/// Whether it talks to others without a password, where others reach it.
async fn stranger(redis: &RedisConfig, server: &ServerInfo) -> Option<Finding> {
    let server = &server.address;
    let known = tokio::net::lookup_host((server.host(), server.port())).await.ok()?;
    for address in known.filter(|address| !address.ip().is_loopback() && redis.tls.is_none()) {
        if answers_strangers(address).await {
            return Some(Finding::warn(
                PASSWORD,
                format!("{address} answers without a password"),
                "whoever reaches that address reads sessions and tokens: set requirepass, or an ACL user",
            ));
        }
    }
    None
}
