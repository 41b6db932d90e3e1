//! Where records come from: one Redis, a Sentinel group, a cluster, or nowhere.

use std::time::Duration;

use imgate_filters::folder::{Content, Folder};
use imgate_identity::secret::Secret;
use imgate_identity::store::{
    Address, Login, LookupRate, Lookups, Proof, RedisConfig, SentinelConfig, Servers, Tls, TlsConfig,
};

use super::Faults;
use super::identity::secret;
use crate::config::SecretSource;
use crate::config::meaning::StoreSource;
use crate::config::period::Timeout;
use crate::config::problem::{Beside, Problem};
use crate::config::public_url::parse_authority;
use crate::config::spanned::Spanned;
use crate::config::written;

/// The most that is read of a file of certificates, in bytes.
const MAX_FILE: usize = 1024 * 1024;

/// How long a lookup may wait for its turn at most: after that OpenIM's clients are gone.
const MAX_LOOKUP_WAIT: Duration = Duration::from_secs(10);

/// `identity.store`; `None` if there is a fault in it.
pub(super) fn resolve(
    faults: &mut Faults,
    written: &written::Identity,
    base: &Folder,
) -> Option<StoreSource> {
    let mut reader = Reader { faults, base, place: "" };
    let redis = match &written.store {
        written::Store::Memory(written::Memory {}) => return Some(StoreSource::Memory),
        written::Store::Redis(redis) => reader.at("identity.store.redis").one(redis),
        written::Store::Sentinel(group) => reader.at("identity.store.sentinel").sentinel(group),
        written::Store::Cluster(cluster) => reader.at("identity.store.cluster").cluster(cluster),
    };
    let lookups = match &written.store {
        written::Store::Memory(written::Memory {}) => Lookups::default(),
        written::Store::Redis(redis) => lookups(faults, &redis.lookups, "identity.store.redis.lookups"),
        written::Store::Sentinel(group) => lookups(faults, &group.lookups, "identity.store.sentinel.lookups"),
        written::Store::Cluster(all) => lookups(faults, &all.lookups, "identity.store.cluster.lookups"),
    };
    let require_mark = written.store_mark == written::StoreMark::Required;
    Some(StoreSource::Redis(RedisConfig { require_mark, lookups, ..redis? }))
}

struct Reader<'a> {
    faults: &'a mut Faults,
    base: &'a Folder,
    place: &'static str,
}

impl Reader<'_> {
    fn at(&mut self, place: &'static str) -> Reader<'_> {
        Reader { faults: self.faults, base: self.base, place }
    }

    fn one(&mut self, redis: &written::Redis) -> Option<RedisConfig> {
        let url = &redis.url;
        let scheme = self.faults.keep(url.referenced, format!("{}.url", self.place), check_url(&url.value));
        let login = self.login(None, redis.password.as_ref());
        let tls = self.tls(redis.tls.as_ref());
        if let (Some(Scheme::Plain), Some(tls)) = (&scheme, &redis.tls) {
            self.faults.add(tls.referenced, format!("{}.tls", self.place), Problem::PlainUrl);
        }
        scheme?;
        let servers = Servers::Url(Secret::new(url.value.clone()));
        let config = RedisConfig { login: login?, tls: tls?, ..RedisConfig::of(servers) };
        Some(with_patience(config, redis.timeout, redis.connect_timeout, redis.proof))
    }

    fn sentinel(&mut self, group: &written::Sentinel) -> Option<RedisConfig> {
        let master = self.name(&group.master, "master");
        let login = self.login(group.user.as_ref(), group.password.as_ref());
        let tls = self.tls(group.tls.as_ref());
        let sentinels = self.at("identity.store.sentinel.sentinels").sentinels(&group.sentinels);
        let (sentinels, login_there, tls_there) = sentinels?;
        let servers = Servers::Sentinel(SentinelConfig {
            master: master?,
            sentinels,
            login: login_there,
            tls: tls_there,
            database: group.database,
        });
        let config = RedisConfig { login: login?, tls: tls?, ..RedisConfig::of(servers) };
        Some(with_patience(config, group.timeout, group.connect_timeout, group.proof))
    }

    fn sentinels(&mut self, written: &written::Sentinels) -> Option<(Vec<Address>, Login, Option<Tls>)> {
        let addresses = self.addresses(&written.addresses, "addresses");
        let login = self.login(written.user.as_ref(), written.password.as_ref());
        let tls = self.tls(written.tls.as_ref());
        Some((addresses?, login?, tls?))
    }

    fn cluster(&mut self, cluster: &written::Cluster) -> Option<RedisConfig> {
        let nodes = self.addresses(&cluster.nodes, "nodes");
        let login = self.login(cluster.user.as_ref(), cluster.password.as_ref());
        let tls = self.tls(cluster.tls.as_ref());
        let servers = Servers::Cluster(nodes?);
        let config = RedisConfig { login: login?, tls: tls?, ..RedisConfig::of(servers) };
        Some(with_patience(config, cluster.timeout, cluster.connect_timeout, cluster.proof))
    }

    fn addresses(&mut self, written: &Spanned<Vec<Spanned<String>>>, key: &str) -> Option<Vec<Address>> {
        let mut addresses = Vec::new();
        if written.value.is_empty() {
            self.faults.add(written.referenced, format!("{}.{key}", self.place), Problem::Empty);
        }
        for (i, text) in written.value.iter().enumerate() {
            let place = format!("{}.{key}[{i}]", self.place);
            let address = match Address::parse(&text.value) {
                Ok(address) if addresses.contains(&address) => Err(Problem::Twice),
                other => other.map_err(Problem::StoreAddress),
            };
            addresses.extend(self.faults.keep(text.referenced, place, address));
        }
        (!addresses.is_empty()).then_some(addresses)
    }

    fn name(&mut self, written: &Spanned<String>, key: &str) -> Option<String> {
        let good = !written.value.is_empty() && written.value.bytes().all(|b| b.is_ascii_graphic());
        let name = if good { Ok(written.value.clone()) } else { Err(Problem::StoreName) };
        self.faults.keep(written.referenced, format!("{}.{key}", self.place), name)
    }

    fn login(
        &mut self,
        user: Option<&Spanned<String>>,
        password: Option<&Spanned<SecretSource>>,
    ) -> Option<Login> {
        let user = match user {
            Some(user) => Some(self.name(user, "user")?),
            None => None,
        };
        let password = match password {
            Some(source) => {
                Some(secret(self.faults, source, &format!("{}.password", self.place), self.base)?)
            }
            None => None,
        };
        Some(Login { user, password })
    }

    /// The settings of TLS, if there are any; `None` if there is a fault in them.
    fn tls(&mut self, written: Option<&Spanned<written::StoreTls>>) -> Option<Option<Tls>> {
        let Some(Spanned { value: tls, referenced, .. }) = written else { return Some(None) };
        let place = format!("{}.tls", self.place);
        let ca = match &tls.ca {
            Some(path) => Some(self.pem(path, "ca")?),
            None => None,
        };
        let client = match (&tls.certificate, &tls.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let certificate = self.pem(certificate, "certificate")?;
                let key = secret(self.faults, key, &format!("{place}.key"), self.base)?;
                Some((certificate, Secret::new(key.expose().clone().into_bytes())))
            }
            (Some(_), None) | (None, Some(_)) => {
                self.faults.add(*referenced, place, Problem::HalfCertificate);
                return None;
            }
        };
        let server_name = tls.server_name.as_ref().map(|name| name.value.clone());
        let made = Tls::new(TlsConfig { ca, client, server_name }).map_err(Problem::StoreTls);
        self.faults.keep(*referenced, place, made).map(Some)
    }

    fn pem(&mut self, path: &Spanned<std::path::PathBuf>, key: &str) -> Option<Vec<u8>> {
        let read = self.base.read(&path.value, MAX_FILE, Content::Plain).map_err(Problem::Unreadable);
        self.faults.keep(path.referenced, format!("{}.tls.{key}", self.place), read)
    }
}

/// How reads of the store are admitted.
fn lookups(faults: &mut Faults, written: &written::Lookups, place: &str) -> Lookups {
    let defaults = Lookups::default();
    if let Some(concurrent) = written.concurrent.as_ref().filter(|concurrent| concurrent.value == 0) {
        faults.add(concurrent.referenced, format!("{place}.concurrent"), Problem::Zero);
    }
    if let Some(wait) = written.wait.as_ref().filter(|wait| wait.value.0 > MAX_LOOKUP_WAIT) {
        faults.add(wait.referenced, format!("{place}.wait"), Problem::NoSuchTime("0s", "10s"));
    }
    Lookups {
        concurrent: written.concurrent.as_ref().map_or(defaults.concurrent, |concurrent| concurrent.value),
        queue: written.queue.unwrap_or(defaults.queue),
        wait: written.wait.as_ref().map_or(defaults.wait, |wait| wait.value.0),
        rate: lookup_rate(faults, written, place),
    }
}

fn lookup_rate(faults: &mut Faults, written: &written::Lookups, place: &str) -> Option<LookupRate> {
    match (&written.rate, &written.burst) {
        (None, None) => None,
        (Some(rate), None) => {
            faults.add(rate.referenced, place, Problem::MissingKey("burst"));
            None
        }
        (None, Some(burst)) => {
            let nothing = Problem::Meaningless { key: "burst", beside: Beside::NoRate };
            faults.add(burst.referenced, format!("{place}.burst"), nothing);
            None
        }
        (Some(rate), Some(burst)) => {
            if burst.value == 0 {
                faults.add(burst.referenced, format!("{place}.burst"), Problem::Zero);
            }
            let interval = Duration::from_nanos(rate.value.interval());
            Some(LookupRate { interval, burst: burst.value })
        }
    }
}

fn with_patience(
    config: RedisConfig,
    timeout: Option<Timeout>,
    connect_timeout: Option<Timeout>,
    proof: written::Proof,
) -> RedisConfig {
    RedisConfig {
        timeout: timeout.map_or(config.timeout, |timeout| timeout.0),
        connect_timeout: connect_timeout.map_or(config.connect_timeout, |timeout| timeout.0),
        proof: match proof {
            written::Proof::Canary => Proof::Canary,
            written::Proof::Info => Proof::Info,
        },
        ..config
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Plain,
    Tls,
}

/// Accepts `redis[s]://[user@]host:port[/database]`.
fn check_url(url: &str) -> Result<Scheme, Problem> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("redis", rest)) => (Scheme::Plain, rest),
        Some(("rediss", rest)) => (Scheme::Tls, rest),
        Some(_) | None => return Err(Problem::RedisUrl),
    };
    let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = server.rsplit_once('@').unwrap_or(("", server));
    // A password may hold any of the delimiters, so this is asked of the whole.
    if user.contains(':') || rest.rsplit_once('@').is_some_and(|(before, _)| before.contains(':')) {
        return Err(Problem::InlinePassword);
    }
    let named = parse_authority(host, "redis").is_some();
    let numbered = database.bytes().all(|b| b.is_ascii_digit());
    if named && numbered { Ok(scheme) } else { Err(Problem::RedisUrl) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_url_holds_no_password() {
        for good in ["redis://127.0.0.1:6379", "redis://h:1/0", "redis://user@h:1/12", "redis://[::1]:6379/0"]
        {
            assert!(matches!(check_url(good), Ok(Scheme::Plain)), "{good}");
        }
        for bad in ["redis://u:p@h:1", "redis://:p@h:1/0", "redis://:p/w@h:1/0", "redis://u:p@w@h:1"] {
            assert!(matches!(check_url(bad), Err(Problem::InlinePassword)), "{bad}");
        }
        for bad in ["", "h:1", "http://h:1", "redis://", "redis://h:1/x", "redis://h:1/0?a=b", "redis://h:0"]
        {
            assert!(matches!(check_url(bad), Err(Problem::RedisUrl)), "{bad}");
        }
        assert!(matches!(check_url("rediss://user@h:1/0"), Ok(Scheme::Tls)));
    }
}
