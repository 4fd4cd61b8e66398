//! Answers of upstreams, kept as long as they say, in bounded room.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::reply::{Key, Reply};

/// How many answers are kept: what a few hundred containers ask for between them.
const ENTRIES_MOST: usize = 10_000;

/// How much memory they take together, in bytes: ordinary answers have a few hundred, so this stops only those who ask
/// for big ones on purpose.
const BYTES_MOST: usize = 8 << 20;

/// The biggest answer that is kept, in bytes: others would be driven out by the dozen.
const ENTRY_BYTES_MOST: usize = 16 << 10;

/// What an entry takes besides the answer: key, map slots, allocations.
const ENTRY_BYTES_BESIDES: usize = 256;

#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<Arc<Key>, Entry>,
    /// By last use: whoever was not used for longest goes first.
    order: BTreeMap<u64, Arc<Key>>,
    uses: u64,
    bytes: usize,
    entries_most: usize,
    bytes_most: usize,
}

#[derive(Debug)]
struct Entry {
    reply: Arc<Reply>,
    since: Instant,
    life: Duration,
    used: u64,
    bytes: usize,
}

/// An answer that is good still.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    pub(super) reply: Arc<Reply>,
    pub(super) age: Duration,
}

// === impl Cache ===

impl Cache {
    pub(super) fn new() -> Self {
        Self::with_room(ENTRIES_MOST, BYTES_MOST)
    }

    fn with_room(entries_most: usize, bytes_most: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0, entries_most, bytes_most }
    }

    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<Hit> {
        let entry = self.entries.get_mut(key)?;
        let age = now.saturating_duration_since(entry.since);
        if age >= entry.life {
            self.remove(key);
            return None;
        }
        self.uses += 1;
        if let Some(key) = self.order.remove(&entry.used) {
            self.order.insert(self.uses, key);
        }
        entry.used = self.uses;
        Some(Hit { reply: entry.reply.clone(), age })
    }

    /// Keeps an answer that may be kept.
    pub(super) fn put(&mut self, key: Arc<Key>, reply: Arc<Reply>, now: Instant) {
        let Some(life) = reply.life else { return };
        let bytes = reply.cost() + key.question.len() + ENTRY_BYTES_BESIDES;
        if bytes > ENTRY_BYTES_MOST.min(self.bytes_most) {
            return;
        }
        self.remove(&key);
        while self.entries.len() >= self.entries_most || self.bytes + bytes > self.bytes_most {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.remove(&oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, Entry { reply, since: now, life, used: self.uses, bytes });
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::names::testing::{answer, query};

    fn entry(name: &str, ttl: u32) -> (Arc<Key>, Arc<Reply>) {
        let query = query(name);
        let key = Key::new(&query, [IpAddr::V4(Ipv4Addr::LOCALHOST)].into());
        let bytes = answer(&key.outgoing(7, true), &[(Ipv4Addr::new(192, 0, 2, 1), ttl)]);
        let reply = Reply::read(&bytes, 7, &key).unwrap();
        (Arc::new(key), Arc::new(reply))
    }

    #[test]
    fn an_answer_is_kept_as_long_as_it_says() {
        let (mut cache, now) = (Cache::new(), Instant::now());
        let (key, reply) = entry("a.example", 30);
        cache.put(key.clone(), reply, now);
        let hit = cache.get(&key, now + Duration::from_secs(29)).unwrap();
        assert_eq!(hit.age, Duration::from_secs(29));
        assert!(cache.get(&key, now + Duration::from_secs(30)).is_none());
        assert_eq!((cache.bytes, cache.entries.len(), cache.order.len()), (0, 0, 0));
    }

    #[test]
    fn an_answer_without_life_is_not_kept() {
        let mut cache = Cache::new();
        let (key, reply) = entry("a.example", 0);
        cache.put(key.clone(), reply, Instant::now());
        assert!(cache.get(&key, Instant::now()).is_none());
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let (mut cache, now) = (Cache::with_room(2, BYTES_MOST), Instant::now());
        let [one, two, three] = ["one.example", "two.example", "three.example"].map(|name| entry(name, 30));
        for (key, reply) in [&one, &two] {
            cache.put(key.clone(), reply.clone(), now);
        }
        assert!(cache.get(&one.0, now).is_some());
        cache.put(three.0.clone(), three.1, now);
        assert!(cache.get(&one.0, now).is_some());
        assert!(cache.get(&two.0, now).is_none());
        assert!(cache.get(&three.0, now).is_some());
    }

    #[test]
    fn bytes_are_bounded_whatever_is_put() {
        let most = 2000;
        let (mut cache, now) = (Cache::with_room(1000, most), Instant::now());
        for number in 0..500 {
            let (key, reply) = entry(&format!("name-{}.example", number % 100), 30);
            cache.put(key, reply, now);
            assert!(cache.bytes <= most);
            assert_eq!(cache.bytes, cache.entries.values().map(|entry| entry.bytes).sum::<usize>());
            assert_eq!(cache.entries.len(), cache.order.len());
        }
        assert!(!cache.entries.is_empty());
    }
}
