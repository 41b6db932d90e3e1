//! Who a caller is, and where that is known.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use imgate_filters::folder::Folder;
use imgate_identity::assertion::AssertionKey;
use imgate_identity::key::Keys;
use imgate_identity::seal::{Plain, SealKeys, Seals};
use imgate_identity::secret::Secret;
use imgate_identity::store::{CacheConfig, Layout, LookupRate, Lookups, RedisConfig};
use imgate_identity::user::UserId;
use serde_saphyr::Spanned;

use super::Faults;
use crate::config::SecretSource;
use crate::config::meaning::{Identity, StoreSource};
use crate::config::problem::{Beside, Problem};
use crate::config::public_url::parse_authority;
use crate::config::written;

/// OpenIM's administrator, if nobody else is named. Source: OpenIM's `config/share.yml`.
const ADMIN: &str = "imAdmin";

/// How long a lookup may wait for its turn at most: after that OpenIM's clients are gone.
const MAX_LOOKUP_WAIT: Duration = Duration::from_secs(10);

/// The whole of `identity`; `None` if there is a fault in it.
pub(super) fn resolve(faults: &mut Faults, written: &written::Identity, base: &Folder) -> Option<Identity> {
    let store = store(faults, written, base);
    let keys = keys(faults, written);
    let seals = seals(faults, written, base);
    let admin_users = admin_users(faults, written.admin_users.as_deref());
    let cache = cache(faults, &written.cache);
    let assertion_key = match &written.assertion_key {
        Some(source) => Some(assertion_key(faults, source, base)?),
        None => None,
    };
    let layout = Layout { keys: keys?, seals: seals? };
    Some(Identity { store: store?, layout, admin_users, cache, assertion_key })
}

fn store(faults: &mut Faults, written: &written::Identity, base: &Folder) -> Option<StoreSource> {
    let redis = match &written.store {
        written::Store::Memory(written::Memory {}) => return Some(StoreSource::Memory),
        written::Store::Redis(redis) => redis,
    };
    let place = "identity.store.redis";
    let url = faults.keep(redis.url.referenced, format!("{place}.url"), check_url(&redis.url.value));
    let password = match &redis.password {
        Some(source) => Some(secret(faults, source, &format!("{place}.password"), base)?),
        None => None,
    };
    let lookups = lookups(faults, &redis.lookups);
    url?;
    let defaults = RedisConfig::new(redis.url.value.as_str());
    Some(StoreSource::Redis(RedisConfig {
        password,
        timeout: redis.timeout.map_or(defaults.timeout, |timeout| timeout.0),
        connect_timeout: redis.connect_timeout.map_or(defaults.connect_timeout, |timeout| timeout.0),
        require_mark: written.store_mark == written::StoreMark::Required,
        lookups,
        ..defaults
    }))
}

/// How reads of the store are admitted.
fn lookups(faults: &mut Faults, written: &written::Lookups) -> Lookups {
    let (place, defaults) = ("identity.store.redis.lookups", Lookups::default());
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

/// Accepts `redis://[user@]host:port[/database]`.
fn check_url(url: &str) -> Result<(), Problem> {
    if url.starts_with("rediss://") || url.starts_with("valkeys://") {
        return Err(Problem::RedisTls);
    }
    let rest = url.strip_prefix("redis://").ok_or(Problem::RedisUrl)?;
    let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = server.rsplit_once('@').unwrap_or(("", server));
    // A password may hold any of the delimiters, so this is asked of the whole.
    if user.contains(':') || rest.rsplit_once('@').is_some_and(|(before, _)| before.contains(':')) {
        return Err(Problem::InlinePassword);
    }
    let named = parse_authority(host, "redis").is_some();
    let numbered = database.bytes().all(|b| b.is_ascii_digit());
    if named && numbered { Ok(()) } else { Err(Problem::RedisUrl) }
}

fn secret(
    faults: &mut Faults,
    source: &Spanned<SecretSource>,
    place: &str,
    base: &Folder,
) -> Option<Secret<String>> {
    let read = source.value.read(base).map_err(Problem::Secret);
    faults.keep(source.referenced, place, read)
}

fn keys(faults: &mut Faults, written: &written::Identity) -> Option<Keys> {
    let Some(config) = &written.keys else { return Some(Keys::default()) };
    let keys = Keys::new(&config.value).map_err(Problem::Keys);
    faults.keep(config.referenced, "identity.keys", keys)
}

fn seals(faults: &mut Faults, written: &written::Identity, base: &Folder) -> Option<Seals> {
    let plain = plain(faults, written);
    let Some(source) = &written.seal_keys else { return Some(Seals::Off) };
    let place = "identity.seal_keys";
    let text = secret(faults, source, place, base)?;
    let keys = SealKeys::parse(text.expose()).map_err(Problem::SealKeys);
    Some(Seals::On { keys: faults.keep(source.referenced, place, keys)?, plain })
}

fn plain(faults: &mut Faults, written: &written::Identity) -> Plain {
    let Some(accept) = &written.accept_plain else { return Plain::Refuse };
    let place = "identity.accept_plain";
    if written.seal_keys.is_none() {
        let nothing = Problem::Meaningless { key: "accept_plain", beside: Beside::NoSealKeys };
        faults.add(accept.referenced, place, nothing);
    }
    if !accept.value {
        return Plain::Refuse;
    }
    faults.warn(accept.referenced, place, Problem::PlainAccepted);
    Plain::Accept
}

fn admin_users(faults: &mut Faults, written: Option<&[Spanned<String>]>) -> HashSet<UserId> {
    let Some(written) = written else { return UserId::parse(ADMIN).into_iter().collect() };
    let mut users = HashSet::new();
    for (i, id) in written.iter().enumerate() {
        let parsed = UserId::parse(&id.value).map_err(Problem::UserId);
        users.extend(faults.keep(id.referenced, format!("identity.admin_users[{i}]"), parsed));
    }
    users
}

fn cache(faults: &mut Faults, written: &written::Cache) -> CacheConfig {
    let defaults = CacheConfig::default();
    if let Some(entries) = written.entries.as_ref().filter(|entries| entries.value == 0) {
        faults.add(entries.referenced, "identity.cache.entries", Problem::Zero);
    }
    CacheConfig {
        entries: written.entries.as_ref().map_or(defaults.entries, |entries| entries.value),
        ttl: written.ttl.map_or(defaults.ttl, |ttl| ttl.0),
        negative_ttl: written.negative_ttl.map_or(defaults.negative_ttl, |ttl| ttl.0),
        stale_grace: written.stale_grace.map_or(defaults.stale_grace, |grace| grace.0),
    }
}

fn assertion_key(
    faults: &mut Faults,
    source: &Spanned<SecretSource>,
    base: &Folder,
) -> Option<Arc<AssertionKey>> {
    let place = "identity.assertion_key";
    let pem = secret(faults, source, place, base)?;
    let key = AssertionKey::from_pem(pem.expose().as_bytes()).map_err(Problem::AssertionKey);
    faults.keep(source.referenced, place, key).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_url_holds_no_password() {
        for good in ["redis://127.0.0.1:6379", "redis://h:1/0", "redis://user@h:1/12", "redis://[::1]:6379/0"]
        {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in ["redis://u:p@h:1", "redis://:p@h:1/0", "redis://:p/w@h:1/0", "redis://u:p@w@h:1"] {
            assert!(matches!(check_url(bad), Err(Problem::InlinePassword)), "{bad}");
        }
        for bad in ["", "h:1", "http://h:1", "redis://", "redis://h:1/x", "redis://h:1/0?a=b", "redis://h:0"]
        {
            assert!(matches!(check_url(bad), Err(Problem::RedisUrl)), "{bad}");
        }
        assert!(matches!(check_url("rediss://h:1"), Err(Problem::RedisTls)));
    }
}
