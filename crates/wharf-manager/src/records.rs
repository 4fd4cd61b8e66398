//! What a manager keeps in the store: nodes' numbers, networks, its certificate authority, join tokens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use wharf_model::{Class, ContainerId, Endpoint, FleetNetwork, NetworkId, NodeId};
use wharf_store::records::{
    Check, Error as StoreError, Expect, Key, KeyError, Operation, Record, RecordError, Store, TRANSACTION_LIMIT,
};

use crate::{Error, networks::NetworkRecord};

/// Reads and writes records. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Records(Arc<dyn Store>);

/// A node: the number is in the key.
#[derive(Debug, Serialize, Deserialize)]
struct NodeRecord {
    endpoint: String,
}

impl Record for NodeRecord {
    const PREFIX: &'static str = "nodes/";
    const FORMAT: u32 = 1;
}

/// A container that was taken off a network while its node could not be told.
#[derive(Debug, Serialize, Deserialize)]
struct DetachedRecord {
    container: String,
    network: String,
}

impl Record for DetachedRecord {
    const PREFIX: &'static str = "detached/";
    const FORMAT: u32 = 1;
}

impl Record for NetworkRecord {
    const PREFIX: &'static str = "networks/";
    const FORMAT: u32 = 1;
}

impl Records {
    /// Records in a store.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// The numbers of nodes, by where their engines are. Those that have none yet get one, for good.
    pub(crate) async fn numbers(&self, endpoints: &BTreeSet<Endpoint>) -> Result<BTreeMap<Endpoint, NodeId>, Error> {
        let mut numbers: BTreeMap<Endpoint, NodeId> = BTreeMap::new();
        let mut highest = 0;
        for (key, record) in self.all::<NodeRecord>().await? {
            let number = key.as_str().rsplit('/').next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
            highest = highest.max(number);
            if let Ok(endpoint) = record.endpoint.parse() {
                numbers.insert(endpoint, NodeId(number));
            }
        }
        let new: Vec<_> = endpoints.iter().filter(|endpoint| !numbers.contains_key(endpoint)).collect();
        // Each is two parts of a transaction: that the number is free, and the record.
        for some in new.chunks(TRANSACTION_LIMIT / 2) {
            let (mut checks, mut operations) = (Vec::new(), Vec::new());
            for endpoint in some {
                highest += 1;
                let key = NodeRecord::key(&format!("{highest:08}"))?;
                let value = NodeRecord { endpoint: endpoint.to_string() }.encode(&key)?;
                checks.push(Check { key: key.clone(), expect: Expect::Absent });
                operations.push(Operation::Put { key, value });
                numbers.insert((*endpoint).clone(), NodeId(highest));
            }
            self.0.transact(checks, operations).await?;
        }
        numbers.retain(|endpoint, _| endpoints.contains(endpoint));
        Ok(numbers)
    }

    /// All networks.
    pub(crate) async fn networks(&self) -> Result<Vec<Arc<FleetNetwork>>, Error> {
        let records = self.all::<NetworkRecord>().await?;
        Ok(records.into_iter().filter_map(|(_, record)| record.network()).map(Arc::new).collect())
    }

    /// Keeps a network that is new.
    pub(crate) async fn create_network(&self, network: &FleetNetwork) -> Result<(), Error> {
        self.write(network, Expect::Absent).await
    }

    /// Keeps a network as it is now. There is one writer: who changes networks has a lock.
    pub(crate) async fn put_network(&self, network: &FleetNetwork) -> Result<(), Error> {
        self.write(network, Expect::Any).await
    }

    /// Forgets a network.
    pub(crate) async fn remove_network(&self, network: &FleetNetwork) -> Result<(), Error> {
        self.0.delete(&NetworkRecord::key(&network.id.to_string())?, Expect::Any).await?;
        Ok(())
    }

    async fn write(&self, network: &FleetNetwork, expect: Expect) -> Result<(), Error> {
        let key = NetworkRecord::key(&network.id.to_string())?;
        let value = NetworkRecord::from(network).encode(&key)?;
        self.0.put(&key, value, expect).await?;
        Ok(())
    }

    /// The containers that were taken off a network while their node could not be told.
    pub(crate) async fn detached(&self) -> Result<Vec<(ContainerId, NetworkId)>, Error> {
        let records = self.all::<DetachedRecord>().await?.into_iter();
        Ok(records
            .filter_map(|(_, record)| Some((record.container.parse().ok()?, record.network.parse().ok()?)))
            .collect())
    }

    /// Keeps, or forgets, that a container was taken off a network while its node could not be told.
    pub(crate) async fn set_detached(&self, container: ContainerId, network: NetworkId, is: bool) -> Result<(), Error> {
        let name = format!("{container}-{network}");
        if is {
            let record = DetachedRecord { container: container.to_string(), network: network.to_string() };
            return self.put(&name, &record, Expect::Any).await;
        }
        self.0.delete(&DetachedRecord::key(&name)?, Expect::Any).await?;
        Ok(())
    }

    /// The record of that name; `None` if there is none.
    pub(crate) async fn get<R: Record>(&self, name: &str) -> Result<Option<R>, Error> {
        let key = R::key(name)?;
        let stored = self.0.get(&key).await?;
        Ok(stored.map(|stored| R::decode(&key, &stored.value)).transpose()?)
    }

    /// Keeps a record under that name, if it holds what is expected.
    pub(crate) async fn put<R: Record>(&self, name: &str, record: &R, expect: Expect) -> Result<(), Error> {
        let key = R::key(name)?;
        self.0.put(&key, record.encode(&key)?, expect).await?;
        Ok(())
    }

    /// All records of a kind, each with its key.
    pub(crate) async fn all<R: Record>(&self) -> Result<Vec<(Key, R)>, Error> {
        let listed = self.0.list(&R::prefix()?).await?;
        let read = |(key, stored): (Key, wharf_store::records::Versioned)| {
            let record = R::decode(&key, &stored.value)?;
            Ok((key, record))
        };
        listed.entries.into_iter().map(read).collect()
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let class = if error.retryable() { Class::Unavailable } else { Class::Internal };
        Self::new(class, format!("the store: {}", chain(&error)))
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        Self::internal(format!("the store: {}", chain(&error)))
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Self::internal(format!("the store: {error}"))
    }
}

/// An error and what it comes from, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
