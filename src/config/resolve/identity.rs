//! Who a caller is, and where that is known.

use std::collections::HashSet;
use std::sync::Arc;

use imgate_filters::folder::Folder;
use imgate_identity::assertion::AssertionKey;
use imgate_identity::key::Keys;
use imgate_identity::seal::{Plain, SealKeys, Seals};
use imgate_identity::secret::Secret;
use imgate_identity::store::{CacheConfig, Layout};
use imgate_identity::user::UserId;

use super::{Faults, store};
use crate::config::SecretSource;
use crate::config::meaning::Identity;
use crate::config::problem::{Beside, Problem};
use crate::config::spanned::Spanned;
use crate::config::written;

/// OpenIM's administrator, if nobody else is named. Source: OpenIM's `config/share.yml`.
const ADMIN: &str = "imAdmin";

/// The whole of `identity`; `None` if there is a fault in it.
pub(super) fn resolve(faults: &mut Faults, written: &written::Identity, base: &Folder) -> Option<Identity> {
    let store = store::resolve(faults, written, base);
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

pub(super) fn secret(
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
