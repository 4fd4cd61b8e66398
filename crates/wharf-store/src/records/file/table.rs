//! What is in the file: a table of records, and one of numbers.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::records::{Change, Check, Error, Key, Operation, Prefix, Version, Versioned};

/// Key → the version that put the value, and the value.
pub(super) const RECORDS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("records");

/// [`FORMAT_NUMBER`] and [`VERSION_NUMBER`].
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// Which format the file has.
pub(super) const FORMAT_NUMBER: &str = "format";

/// The store's version.
pub(super) const VERSION_NUMBER: &str = "version";

/// Several transactions of the store in one of the file.
pub(super) struct Batch<'a> {
    records: Table<'a, &'static str, (u64, &'static [u8])>,
    numbers: Table<'a, &'static str, u64>,
    version: Version,
    commits: Vec<(Version, Vec<Change>)>,
}

pub(super) fn get(transaction: &ReadTransaction, key: &Key) -> Result<Option<Versioned>, redb::Error> {
    let found = transaction.open_table(RECORDS)?.get(key.as_str())?;
    Ok(found.map(|found| versioned(found.value())))
}

/// The entries, whose keys are still to be checked, and the store's version.
pub(super) fn list(
    transaction: &ReadTransaction,
    prefix: &Prefix,
) -> Result<(Vec<(String, Versioned)>, Version), redb::Error> {
    let mut entries = Vec::new();
    for entry in transaction.open_table(RECORDS)?.range(prefix.as_str()..)? {
        let (key, value) = entry?;
        if !key.value().starts_with(prefix.as_str()) {
            break;
        }
        entries.push((key.value().to_owned(), versioned(value.value())));
    }
    Ok((entries, version(transaction)?))
}

pub(super) fn version(transaction: &ReadTransaction) -> Result<Version, redb::Error> {
    let found = transaction.open_table(NUMBERS)?.get(VERSION_NUMBER)?;
    Ok(Version(found.map_or(0, |found| found.value())))
}

fn versioned((version, value): (u64, &[u8])) -> Versioned {
    Versioned { value: value.to_vec().into(), version: Version(version) }
}

// === impl Batch ===

impl<'a> Batch<'a> {
    pub(super) fn new(transaction: &'a WriteTransaction) -> Result<Self, redb::Error> {
        let records = transaction.open_table(RECORDS)?;
        let numbers = transaction.open_table(NUMBERS)?;
        let version = Version(numbers.get(VERSION_NUMBER)?.map_or(0, |found| found.value()));
        Ok(Self { records, numbers, version, commits: Vec::new() })
    }

    /// One transaction of the store, which sees what those before it did. The outer error fails the whole batch.
    pub(super) fn apply(
        &mut self,
        checks: &[Check],
        operations: &[Operation],
    ) -> Result<Result<Version, Error>, redb::Error> {
        for check in checks {
            let current = self.records.get(check.key.as_str())?.map(|found| Version(found.value().0));
            if let Err(conflict) = check.hold(current) {
                return Ok(Err(conflict));
            }
        }
        let version = Version(self.version.0 + 1);
        let mut changes = Vec::new();
        for operation in operations {
            match operation {
                Operation::Put { key, value } => {
                    self.records.insert(key.as_str(), (version.0, value.as_ref()))?;
                    changes.push(Change::Put { key: key.clone(), value: value.clone() });
                }
                Operation::Delete { key } => {
                    if self.records.remove(key.as_str())?.is_some() {
                        changes.push(Change::Deleted { key: key.clone() });
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.version = version;
            self.commits.push((version, changes));
        }
        Ok(Ok(self.version))
    }

    /// The changes, with the versions that they got.
    pub(super) fn finish(mut self) -> Result<Vec<(Version, Vec<Change>)>, redb::Error> {
        self.numbers.insert(VERSION_NUMBER, self.version.0)?;
        Ok(self.commits)
    }
}
