//! The suite that every store passes.

use std::{future::Future, pin::Pin, sync::Arc, task::Poll};

use bytes::Bytes;

use super::{
    Change, Check, Error, Event, Expect, Invalid, KEY_LIMIT, Key, Operation, Prefix, Store, TRANSACTION_LIMIT,
    VALUE_LIMIT, Version, Watch,
};

/// Writers that race in one case.
const RACERS: usize = 16;

/// Runs every case, each on a new, empty store.
///
/// # Panics
/// If the store does not conform.
pub async fn conformance(make: impl AsyncFn() -> Arc<dyn Store>) {
    values_are_kept_until_they_are_deleted(&*make().await).await;
    expectations_are_checked(&*make().await).await;
    a_version_is_never_used_twice(&*make().await).await;
    one_of_two_racing_writers_wins(make().await).await;
    no_increment_is_lost(make().await).await;
    a_transaction_is_all_or_nothing(&*make().await).await;
    a_transaction_that_changes_nothing_has_no_version(&*make().await).await;
    a_listing_is_sorted_and_of_whole_segments(&*make().await).await;
    odd_keys_are_kept(&*make().await).await;
    big_values_are_kept_and_bigger_ones_refused(&*make().await).await;
    malformed_transactions_are_refused(&*make().await).await;
    a_watch_has_no_gap_after_a_listing(make().await).await;
    a_watch_tells_only_of_its_prefix(&*make().await).await;
    a_watch_sleeps_until_a_change(&*make().await).await;
    a_slow_watch_is_told_to_list_again(&*make().await).await;
    a_watch_from_an_unknown_version_is_told_to_list_again(&*make().await).await;
}

async fn values_are_kept_until_they_are_deleted(store: &dyn Store) {
    assert_eq!(get(store, "a").await, None);
    let first = put(store, "a", "1", Expect::Any).await.expect("put");
    assert_eq!(get(store, "a").await, Some(("1".into(), first)));
    let second = put(store, "a", "", Expect::Any).await.expect("put");
    assert!(second > first);
    assert_eq!(get(store, "a").await, Some((Bytes::new(), second)));
    let third = store.delete(&key("a"), Expect::Any).await.expect("delete");
    assert!(third > second);
    assert_eq!(get(store, "a").await, None);
}

async fn expectations_are_checked(store: &dyn Store) {
    assert_conflict(put(store, "a", "1", Expect::Version(Version(1))).await, "a", None);
    let first = put(store, "a", "1", Expect::Absent).await.expect("put");
    assert_conflict(put(store, "a", "2", Expect::Absent).await, "a", Some(first));
    let second = put(store, "a", "2", Expect::Version(first)).await.expect("put");
    assert_conflict(put(store, "a", "3", Expect::Version(first)).await, "a", Some(second));
    assert_conflict(store.delete(&key("a"), Expect::Version(first)).await, "a", Some(second));
    assert_conflict(store.delete(&key("a"), Expect::Absent).await, "a", Some(second));
    assert_eq!(get(store, "a").await, Some(("2".into(), second)));
    store.delete(&key("a"), Expect::Version(second)).await.expect("delete");
    assert_conflict(put(store, "a", "3", Expect::Version(second)).await, "a", None);
}

async fn a_version_is_never_used_twice(store: &dyn Store) {
    let first = put(store, "a", "1", Expect::Any).await.expect("put");
    store.delete(&key("a"), Expect::Any).await.expect("delete");
    let again = put(store, "a", "1", Expect::Absent).await.expect("put");
    assert_ne!(first, again, "who read the first must not overwrite the second");
    assert_conflict(put(store, "a", "2", Expect::Version(first)).await, "a", Some(again));
}

async fn one_of_two_racing_writers_wins(store: Arc<dyn Store>) {
    for round in 0..RACERS {
        let name = format!("round/{round}");
        let race = |value: &'static str| {
            let (store, name) = (Arc::clone(&store), name.clone());
            tokio::spawn(async move { put(&*store, &name, value, Expect::Absent).await })
        };
        let (left, right) = (race("left"), race("right"));
        let (left, right) = (left.await.expect("no panic"), right.await.expect("no panic"));
        let (won, version, lost) = match (left, right) {
            (Ok(version), lost) => ("left", version, lost),
            (lost, Ok(version)) => ("right", version, lost),
            (left, right) => panic!("nobody won: {left:?}, {right:?}"),
        };
        assert_conflict(lost, &name, Some(version));
        assert_eq!(get(&*store, &name).await, Some((won.into(), version)));
    }
}

async fn no_increment_is_lost(store: Arc<dyn Store>) {
    put(&*store, "count", "0", Expect::Absent).await.expect("put");
    let increment = async |store: &dyn Store| {
        loop {
            let (value, version) = get(store, "count").await.expect("it was put");
            let count: usize = std::str::from_utf8(&value).expect("digits").parse().expect("a number");
            match put(store, "count", &(count + 1).to_string(), Expect::Version(version)).await {
                Ok(_) => return,
                Err(Error::Conflict { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    let racers = (0..RACERS).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { increment(&*store).await })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.expect("no panic");
    }
    let (value, _) = get(&*store, "count").await.expect("it was put");
    assert_eq!(value, RACERS.to_string());
}

async fn a_transaction_is_all_or_nothing(store: &dyn Store) {
    let epoch = put(store, "epoch", "1", Expect::Any).await.expect("put");
    put(store, "old", "x", Expect::Any).await.expect("put");
    let operations = || vec![put_of("a", "1"), Operation::Delete { key: key("old") }, put_of("b", "2")];
    let checks = |expect| vec![check("a", Expect::Absent), check("epoch", expect)];

    let stale = Expect::Version(Version(epoch.0 + 1000));
    assert_conflict(store.transact(checks(stale), operations()).await, "epoch", Some(epoch));
    let names = |listing: super::Listing| listing.entries.into_iter().map(|(key, _)| key.to_string()).collect();
    let listed: Vec<String> = names(store.list(&Prefix::all()).await.expect("list"));
    assert_eq!(listed, ["epoch", "old"]);

    let version = store.transact(checks(Expect::Version(epoch)), operations()).await.expect("all checks hold");
    assert_eq!(get(store, "a").await, Some(("1".into(), version)));
    assert_eq!(get(store, "b").await, Some(("2".into(), version)));
    assert_eq!(get(store, "old").await, None);
}

async fn a_transaction_that_changes_nothing_has_no_version(store: &dyn Store) {
    let version = put(store, "a", "1", Expect::Any).await.expect("put");
    assert_eq!(store.delete(&key("b"), Expect::Any).await.expect("delete"), version);
    assert_eq!(store.transact(vec![check("a", Expect::Version(version))], vec![]).await.expect("holds"), version);
    assert_conflict(store.transact(vec![check("a", Expect::Absent)], vec![]).await, "a", Some(version));
    assert_eq!(store.list(&Prefix::all()).await.expect("list").version, version);
}

async fn a_listing_is_sorted_and_of_whole_segments(store: &dyn Store) {
    let empty = store.list(&Prefix::all()).await.expect("list");
    assert!(empty.entries.is_empty());
    for name in ["b/2", "b", "b/10", "ba/1", "a", "b/1/x", "c"] {
        put(store, name, name, Expect::Any).await.expect("put");
    }
    let listing = store.list(&prefix("b/")).await.expect("list");
    let names: Vec<_> = listing.entries.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(names, ["b/1/x", "b/10", "b/2"]);
    for (key, held) in &listing.entries {
        assert_eq!(held.value, key.as_str());
        assert!(held.version <= listing.version);
    }
    assert_eq!(store.list(&Prefix::all()).await.expect("list").entries.len(), 7);
    assert!(store.list(&prefix("none/")).await.expect("list").entries.is_empty());
}

async fn odd_keys_are_kept(store: &dyn Store) {
    let long = "k".repeat(KEY_LIMIT);
    let names = [" ", "~", "a b", "a%2Fb", "a/b", "a/b?c=d&e#f", "\"\\'", "*", "...", "A", "0", "-", "+", "[a]", &long];
    for name in names {
        put(store, name, name, Expect::Absent).await.expect("put");
    }
    for name in names {
        assert_eq!(get(store, name).await.expect("it was put").0, name);
    }
    assert_eq!(store.list(&Prefix::all()).await.expect("list").entries.len(), names.len());
    for name in names {
        store.delete(&key(name), Expect::Any).await.expect("delete");
        assert_eq!(get(store, name).await, None);
    }
}

async fn big_values_are_kept_and_bigger_ones_refused(store: &dyn Store) {
    // Every byte occurs, so that no back end may take values for text.
    let big: Bytes = (0..VALUE_LIMIT).map(|index| (index % 251) as u8).collect();
    let version = store.put(&key("big"), big.clone(), Expect::Any).await.expect("put");
    assert_eq!(get(store, "big").await, Some((big, version)));
    let refused = store.put(&key("big"), vec![0; VALUE_LIMIT + 1].into(), Expect::Any).await;
    assert_invalid(refused, &Invalid::Large(VALUE_LIMIT + 1));
    assert_eq!(get(store, "big").await.expect("it was put").1, version);
}

async fn malformed_transactions_are_refused(store: &dyn Store) {
    let many = |count| (0..count).map(|index| put_of(&index.to_string(), "")).collect::<Vec<_>>();
    let refused = store.transact(vec![check("a", Expect::Any)], many(TRANSACTION_LIMIT)).await;
    assert_invalid(refused, &Invalid::Many(TRANSACTION_LIMIT + 1));
    let refused = store.transact(vec![], vec![put_of("a", "1"), Operation::Delete { key: key("a") }]).await;
    assert_invalid(refused, &Invalid::Twice(key("a")));
    assert!(store.list(&Prefix::all()).await.expect("list").entries.is_empty());
    store.transact(vec![], many(TRANSACTION_LIMIT)).await.expect("as many as are allowed");
}

async fn a_watch_has_no_gap_after_a_listing(store: Arc<dyn Store>) {
    const WRITES: usize = 64;
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for count in 1..=WRITES {
                put(&*store, "a/count", &count.to_string(), Expect::Any).await.expect("put");
            }
        })
    };
    // Wherever the listing falls between the writes, each later one is told, once and in order.
    let listing = store.list(&prefix("a/")).await.expect("list");
    let mut watch = store.watch(&prefix("a/"), listing.version).await.expect("watch");
    let mut version = listing.version;
    let mut count = listing.entries.first().map_or(0, |(_, held)| number(&held.value));
    while count < WRITES {
        match watch.next().await {
            Event::Changed { version: next, changes } => {
                assert!(next > version);
                version = next;
                let [Change::Put { value, .. }] = &*changes else { panic!("one put was made, not {changes:?}") };
                assert_eq!(number(value), count + 1);
                count += 1;
            }
            Event::Resync => panic!("these few writes are remembered"),
        }
    }
    writer.await.expect("no panic");
}

async fn a_watch_tells_only_of_its_prefix(store: &dyn Store) {
    let before = put(store, "a/1", "x", Expect::Any).await.expect("put");
    put(store, "b/1", "x", Expect::Any).await.expect("put");
    let operations = vec![put_of("a/2", "y"), put_of("b/2", "y"), Operation::Delete { key: key("a/1") }];
    let version = store.transact(vec![], operations).await.expect("transact");
    let put_change = Change::Put { key: key("a/2"), value: "y".into() };
    let expected = Event::Changed { version, changes: vec![put_change, Change::Deleted { key: key("a/1") }] };
    let mut watch = store.watch(&prefix("a/"), before).await.expect("watch");
    assert_eq!(watch.next().await, expected);
}

async fn a_watch_sleeps_until_a_change(store: &dyn Store) {
    let from = store.list(&Prefix::all()).await.expect("list").version;
    let mut watch = store.watch(&Prefix::all(), from).await.expect("watch");
    assert_eq!(now(&mut watch).await, None);
    let version = put(store, "a", "1", Expect::Any).await.expect("put");
    let changes = vec![Change::Put { key: key("a"), value: "1".into() }];
    assert_eq!(watch.next().await, Event::Changed { version, changes });
    assert_eq!(now(&mut watch).await, None);
}

async fn a_slow_watch_is_told_to_list_again(store: &dyn Store) {
    const MANY: usize = 4096;
    let from = put(store, "a", "", Expect::Any).await.expect("put");
    let mut watch = store.watch(&Prefix::all(), from).await.expect("watch");
    let big = Bytes::from(vec![0; VALUE_LIMIT]);
    for _ in 0..MANY {
        let version = store.put(&key("a"), big.clone(), Expect::Any).await.expect("put");
        let mut fresh = store.watch(&Prefix::all(), from).await.expect("watch");
        if fresh.next().await == Event::Resync {
            assert_eq!(watch.next().await, Event::Resync);
            assert_eq!(watch.next().await, Event::Resync, "a watch that missed something does not go on");
            let listing = store.list(&Prefix::all()).await.expect("list");
            assert_eq!(listing.version, version);
            let mut again = store.watch(&Prefix::all(), listing.version).await.expect("watch");
            let version = put(store, "a", "1", Expect::Any).await.expect("put");
            let changes = vec![Change::Put { key: key("a"), value: "1".into() }];
            assert_eq!(again.next().await, Event::Changed { version, changes });
            return;
        }
    }
    panic!("{MANY} large values are remembered for a slow watch: it is not bounded");
}

async fn a_watch_from_an_unknown_version_is_told_to_list_again(store: &dyn Store) {
    let version = put(store, "a", "1", Expect::Any).await.expect("put");
    let mut watch = store.watch(&Prefix::all(), Version(version.0 + 1000)).await.expect("watch");
    assert_eq!(watch.next().await, Event::Resync, "the store is older than what was read before");
}

fn key(name: &str) -> Key {
    Key::new(name).expect("a good key")
}

fn prefix(text: &str) -> Prefix {
    Prefix::new(text).expect("a good prefix")
}

fn number(value: &[u8]) -> usize {
    std::str::from_utf8(value).expect("digits").parse().expect("a number")
}

fn check(name: &str, expect: Expect) -> Check {
    Check { key: key(name), expect }
}

fn put_of(name: &str, value: &str) -> Operation {
    Operation::Put { key: key(name), value: value.to_owned().into() }
}

async fn get(store: &dyn Store, name: &str) -> Option<(Bytes, Version)> {
    store.get(&key(name)).await.expect("get").map(|held| (held.value, held.version))
}

async fn put(store: &dyn Store, name: &str, value: &str, expect: Expect) -> Result<Version, Error> {
    store.put(&key(name), value.to_owned().into(), expect).await
}

/// The event that a watch has at once.
async fn now(watch: &mut Watch) -> Option<Event> {
    let mut next = std::pin::pin!(watch.next());
    std::future::poll_fn(|context| {
        let next: Pin<&mut _> = next.as_mut();
        match next.poll(context) {
            Poll::Ready(event) => Poll::Ready(Some(event)),
            Poll::Pending => Poll::Ready(None),
        }
    })
    .await
}

fn assert_conflict(result: Result<Version, Error>, name: &str, held: Option<Version>) {
    match result {
        Err(Error::Conflict { key, current }) => assert_eq!((key.as_str(), current), (name, held)),
        other => panic!("{name}: not a conflict: {other:?}"),
    }
}

fn assert_invalid(result: Result<Version, Error>, expected: &Invalid) {
    match result {
        Err(Error::Invalid(invalid)) => assert_eq!(invalid, *expected),
        other => panic!("not {expected:?}: {other:?}"),
    }
}
