//! A store inside the process, for demonstrations and tests.
//!
//! It holds keys and values as Redis does and announces every write to the caches that read it, so
//! that what is seen through a `Store` is the same as with Redis. It is always trusted: the store mark
//! means nothing here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::allowance::Taken;
use super::cache::Caches;
use super::decode::{RawTokens, RawUser};
use super::unavailable::{Fault, Unavailable};
use crate::gcra::Gcra;

/// The data of an embedded store. Shared by whoever writes and whoever reads.
#[derive(Default)]
pub struct Memory {
    data: Mutex<Data>,
    readers: Mutex<Vec<Weak<Caches>>>,
}

#[derive(Default)]
struct Data {
    values: HashMap<String, Held>,
    failure: Option<Unavailable>,
    /// When so many keys are held, those that ran out are swept.
    sweep_at: usize,
}

struct Held {
    value: Value,
    expires: Option<Instant>,
}

#[derive(Clone)]
enum Value {
    Text(Vec<u8>),
    Fields(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// Below this many keys nothing is swept.
const SWEEP_FLOOR: usize = 4096;

impl Data {
    fn value(&mut self, key: &str) -> Option<&mut Value> {
        let over = |held: &Held| held.expires.is_some_and(|end| Instant::now() >= end);
        if self.values.get(key).is_some_and(over) {
            self.values.remove(key);
        }
        self.values.get_mut(key).map(|held| &mut held.value)
    }

    fn put(&mut self, key: &str, value: Value, ttl: Option<Duration>) {
        if self.values.len() >= self.sweep_at.max(SWEEP_FLOOR) {
            let now = Instant::now();
            self.values.retain(|_, held| held.expires.is_none_or(|end| now < end));
            self.sweep_at = self.values.len() * 2;
        }
        let expires = ttl.map(|ttl| Instant::now() + ttl);
        self.values.insert(key.to_owned(), Held { value, expires });
    }

    fn usable(&self) -> Result<(), Unavailable> {
        self.failure.map_or(Ok(()), Err)
    }

    fn text(&mut self, key: &str) -> Result<Option<Vec<u8>>, Unavailable> {
        self.usable()?;
        match self.value(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(Value::Fields(_)) => Err(Fault::WrongType.into()),
        }
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every read and claim fail with `failure`, until it is `None` again.
    pub fn set_failure(&self, failure: Option<Unavailable>) {
        self.data.lock().failure = failure;
    }

    /// Writes a string, whatever stood there before.
    pub fn set(&self, key: &str, value: impl Into<Vec<u8>>, ttl: Option<Duration>) {
        self.data.lock().put(key, Value::Text(value.into()), ttl);
        self.announce(key);
    }

    /// Writes one field of a hash; a string that stood there is replaced.
    pub fn set_field(&self, key: &str, field: &str, value: impl Into<Vec<u8>>) {
        {
            let mut data = self.data.lock();
            match data.value(key) {
                Some(Value::Fields(fields)) => {
                    fields.insert(field.into(), value.into());
                }
                Some(Value::Text(_)) | None => {
                    let fields = BTreeMap::from([(field.into(), value.into())]);
                    data.put(key, Value::Fields(fields), None);
                }
            }
        }
        self.announce(key);
    }

    /// Removes a key.
    pub fn delete(&self, key: &str) {
        self.data.lock().values.remove(key);
        self.announce(key);
    }

    /// Removes one field of a hash.
    pub fn delete_field(&self, key: &str, field: &str) {
        {
            let mut data = self.data.lock();
            let empty = match data.value(key) {
                Some(Value::Fields(fields)) => {
                    fields.remove(field.as_bytes());
                    fields.is_empty()
                }
                Some(Value::Text(_)) | None => false,
            };
            if empty {
                data.values.remove(key);
            }
        }
        self.announce(key);
    }

    /// Removes everything.
    pub fn flush(&self) {
        self.data.lock().values.clear();
        self.for_each_reader(Caches::flushed);
    }

    fn announce(&self, key: &str) {
        self.for_each_reader(|caches| caches.changed(key.as_bytes()));
    }

    fn for_each_reader(&self, tell: impl Fn(&Caches)) {
        self.readers.lock().retain(|reader| reader.upgrade().inspect(|caches| tell(caches)).is_some());
    }

    pub(super) fn subscribe(&self, caches: &Arc<Caches>) {
        self.readers.lock().push(Arc::downgrade(caches));
    }

    pub(super) fn check(&self) -> Result<(), Unavailable> {
        self.data.lock().usable()
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<Vec<u8>>, Unavailable> {
        self.data.lock().text(key)
    }

    pub(super) fn user(&self, token_key: &str, ban_key: &str) -> Result<RawUser, Unavailable> {
        let mut data = self.data.lock();
        data.usable()?;
        let tokens = match data.value(token_key) {
            None => RawTokens::Absent,
            Some(Value::Text(text)) => RawTokens::One(text.clone()),
            Some(Value::Fields(fields)) => RawTokens::Fields(fields.clone().into_iter().collect()),
        };
        Ok(RawUser { tokens, ban: data.text(ban_key)? })
    }

    /// The keys that begin so, those that ran out perhaps included.
    pub(super) fn keys(&self, prefix: &str) -> Vec<Vec<u8>> {
        let data = self.data.lock();
        data.values.keys().filter(|key| key.starts_with(prefix)).map(|key| key.as_bytes().to_vec()).collect()
    }

    /// Writes `value` if the key holds `old` and keeps its expiry. Says whether it did.
    pub(super) fn swap(&self, key: &str, old: &[u8], value: &[u8]) -> bool {
        let swapped = match self.data.lock().value(key) {
            Some(Value::Text(text)) if text == old => {
                value.clone_into(text);
                true
            }
            Some(_) | None => false,
        };
        if swapped {
            self.announce(key);
        }
        swapped
    }

    /// Writes a key that is not there yet. Says whether it did.
    pub(super) fn claim(&self, key: &str, ttl: Duration) -> Result<bool, Unavailable> {
        let mut data = self.data.lock();
        data.usable()?;
        let fresh = data.value(key).is_none();
        if fresh {
            data.put(key, Value::Text(b"1".to_vec()), Some(ttl));
        }
        Ok(fresh)
    }

    /// Counts a request under an allowance, of which a key is kept until it is whole again.
    pub(super) fn take(&self, key: &str, gcra: Gcra) -> Result<Taken, Unavailable> {
        let mut data = self.data.lock();
        data.usable()?;
        let whole = data.values.get(key).and_then(|held| held.expires);
        let left = whole.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
        // No allowance takes five centuries to be whole.
        let taken = Taken::of(gcra, u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
        if let Taken::Passed { whole_in } = taken {
            data.put(key, Value::Text(Vec::new()), Some(whole_in));
        }
        Ok(taken)
    }
}
