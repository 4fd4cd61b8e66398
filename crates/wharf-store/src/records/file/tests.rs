use std::{
    error::Error as _,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use super::{
    table::{FORMAT_NUMBER, NUMBERS},
    *,
};
use crate::records::{Event, Expect, conformance::conformance};

/// Names the file to the process that is killed.
const CHILD: &str = "WHARF_STORE_TEST_CHILD";

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wharf.store");
    (folder, path)
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

async fn put(store: &File, name: &str, value: &'static str) -> Version {
    store.put(&key(name), value.into(), Expect::Any).await.unwrap()
}

/// A process that exits after this test has nothing to clean up: the folder is the parent's.
async fn write_until_killed(path: &Path) {
    let store = File::open(path).await.unwrap();
    for count in 0_u32.. {
        let version = store.put(&key(&format!("a/{count}")), count.to_string().into(), Expect::Absent).await.unwrap();
        println!("wrote {count} {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_conforms() {
    let (folder, _) = folder();
    let count = AtomicU32::new(0);
    conformance(async || {
        let path = folder.path().join(count.fetch_add(1, Ordering::Relaxed).to_string());
        Arc::new(File::open(&path).await.unwrap()) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_answered() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_until_killed(Path::new(&path)).await;
    }
    const ANSWERS: usize = 20;
    let (_folder, path) = folder();
    let name = "a_killed_process_loses_nothing_that_was_answered";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", name])
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let answered: Vec<String> = lines.filter(|line| line.starts_with("wrote ")).take(ANSWERS).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answered.len(), ANSWERS);

    let store = File::open(&path).await.unwrap();
    for line in answered {
        let [_, count, version] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let held = store.get(&key(&format!("a/{count}"))).await.unwrap().unwrap();
        assert_eq!((held.value, held.version.to_string()), (count.to_owned().into(), version.to_owned()));
    }
    put(&store, "after", "1").await;
}

#[tokio::test]
async fn a_store_goes_on_where_it_was_dropped() {
    let (_folder, path) = folder();
    let store = File::open(&path).await.unwrap();
    let first = put(&store, "a", "1").await;
    let last = put(&store, "b", "1").await;
    drop(store);

    let store = File::open(&path).await.unwrap();
    let listing = store.list(&Prefix::all()).await.unwrap();
    assert_eq!((listing.entries.len(), listing.version), (2, last));
    let mut old = store.watch(&Prefix::all(), first).await.unwrap();
    assert_eq!(old.next().await, Event::Resync, "changes are not remembered across a restart");
    let mut present = store.watch(&Prefix::all(), last).await.unwrap();
    let version = put(&store, "a", "2").await;
    assert!(version > last);
    assert!(matches!(present.next().await, Event::Changed { version: told, .. } if told == version));
}

#[tokio::test]
async fn writers_that_wait_together_share_a_commit() {
    let (_folder, path) = folder();
    let store = Arc::new(File::open(&path).await.unwrap());
    // While the turn is held nothing is committed, so that all gather.
    let turn = Arc::clone(&store.turn).lock_owned().await;
    let writers: Vec<_> = (0..GATHER_LIMIT)
        .map(|count| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.put(&key(&format!("a/{count}")), "x".into(), Expect::Absent).await })
        })
        .collect();
    while store.places.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let requests = std::mem::take(&mut *store.shared.waiting.lock().unwrap());
    assert_eq!(requests.len(), GATHER_LIMIT);
    *store.shared.waiting.lock().unwrap() = requests;
    store.shared.commit_waiting();
    assert_eq!(store.places.available_permits(), 0, "all were answered by one commit, none has run since");
    drop(turn);
    let mut versions = Vec::new();
    for writer in writers {
        versions.push(writer.await.unwrap().unwrap());
    }
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), GATHER_LIMIT, "each transaction has its own version");
}

#[tokio::test]
async fn a_write_that_was_given_up_does_not_happen_later() {
    let (_folder, path) = folder();
    let store = Arc::new(File::open(&path).await.unwrap());
    let turn = Arc::clone(&store.turn).lock_owned().await;
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.put(&key("a"), "1".into(), Expect::Any).await })
    };
    while store.shared.waiting.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    writer.abort();
    assert!(writer.await.unwrap_err().is_cancelled());
    drop(turn);
    put(&store, "b", "1").await;
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
}

#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    let (_folder, path) = folder();
    drop(File::open(&path).await.unwrap());
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(File::open(&path).await.unwrap());
    assert_eq!(mode(), 0o600);
}

#[tokio::test]
async fn a_file_that_is_open_already_may_be_free_later() {
    let (_folder, path) = folder();
    let _store = File::open(&path).await.unwrap();
    let error = File::open(&path).await.unwrap_err();
    assert!(error.retryable());
    assert_eq!(error.to_string(), format!("store {}: another process has it open", path.display()));
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let (folder, _) = folder();
    let path = folder.path().join("none/wharf.store");
    let error = File::open(&path).await.unwrap_err();
    assert_eq!(error.to_string(), format!("store {}: the file system refuses it", path.display()));
    assert!(error.source().unwrap().to_string().contains("No such file"));
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let (_folder, path) = folder();
    let store = File::open(&path).await.unwrap();
    let transaction = store.shared.database.begin_write().unwrap();
    transaction.open_table(NUMBERS).unwrap().insert(FORMAT_NUMBER, open::FORMAT + 1).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let error = File::open(&path).await.unwrap_err();
    let expected = "format 2 is of a newer Wharf; this one knows formats up to 1";
    assert_eq!(error.to_string(), format!("store {}: {expected}", path.display()));
    assert!(!error.retryable());
}

#[tokio::test]
async fn a_database_of_somebody_else_is_refused() {
    let (_folder, path) = folder();
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u8, u8>::new("theirs")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = File::open(&path).await.unwrap_err();
    assert_eq!(error.to_string(), format!("store {}: it is a database, but none of Wharf's", path.display()));
}

/// Changes a file's bytes.
type Damage = fn(&mut Vec<u8>);

/// What opening says of the file, after the damage was done to a store with some values.
async fn damaged(damage: Damage) -> (PathBuf, Result<File, Error>) {
    let (_folder, path) = folder();
    let store = File::open(&path).await.unwrap();
    for count in 0..50 {
        put(&store, &format!("a/{count}"), "some value that is long enough to be looked for").await;
    }
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    damage(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let opened = File::open(&path).await;
    (path, opened)
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let flip_values = |bytes: &mut Vec<u8>| {
        let value = b"looked for";
        let places: Vec<_> = (0..bytes.len() - value.len()).filter(|at| bytes[*at..].starts_with(value)).collect();
        places.iter().for_each(|at| bytes[*at] ^= 1);
    };
    let damages: [(&str, Damage); 4] = [
        ("text", |bytes| *bytes = b"hello".repeat(1000)),
        ("half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("zeros", |bytes| bytes[4096..].fill(0)),
        ("values", flip_values),
    ];
    for (what, damage) in damages {
        let (path, opened) = damaged(damage).await;
        let error = opened.expect_err(what);
        assert!(matches!(error, Error::Broken { .. }), "{what}: {error:?}");
        assert!(error.to_string().starts_with(&format!("store {}: ", path.display())), "{what}: {error}");
    }
}
