//! Reading an engine: who it is, all it has, one thing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use wharf_engine::{Client, Error as EngineError, wire};
use wharf_model::{
    AGENT_NAME, ApiVersion, Container, ContainerId, Endpoint, Engine, Image, ImageId, Network, Node, NodeId, Timestamp,
    Volume,
};

use super::state::Listing;
use crate::Naming;

/// `/version` and the like come from memory: an engine that is well answers at once.
const QUICK: Duration = Duration::from_secs(5);

/// Lists touch everything that an engine has; disks may be slow.
const SLOW: Duration = Duration::from_secs(60);

/// Inspections of one engine at a time while it is read as a whole: each takes a connection, and there may be thousands of
/// engines.
const AT_ONCE: usize = 2;

/// Inspections of one engine before another has its turn. Its connections stay open for a while afterwards: were turns
/// shorter, all of thousands of engines would have theirs open at once.
const IN_A_TURN: usize = 100;

/// Why an engine could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It does not answer, or refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its answer makes no sense.
    #[error("the engine at {endpoint} gave an answer that cannot be read: {source}")]
    Wire {
        /// The engine.
        endpoint: Endpoint,
        /// What is wrong with it.
        source: wire::Error,
    },
}

/// Reads one node's engine.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) node: NodeId,
    /// What is prefixed to paths; changes when the engine was contacted.
    pub(super) version: ApiVersion,
    /// How its containers are listed.
    pub(super) naming: Naming,
}

impl Reader {
    /// Asks an engine who it is. Unversioned: this is how versions are learned.
    pub(super) async fn contact(&self) -> Result<Engine, Error> {
        let version = self.client.get("/version", QUICK).await?;
        let info = self.client.get("/info", SLOW).await?;
        self.sense(wire::engine(&info, &version))
    }

    /// Lists all that an engine has. `node` is the node as it was known before: what is listed just as it was then need not
    /// be inspected again.
    pub(super) async fn listing(&self, node: &Node) -> Result<Listing, Error> {
        // One after another: one connection to each of thousands of engines is enough.
        let (listed, images) = (self.container_list().await?, self.images().await?);
        let (networks, volumes) = (self.networks().await?, self.volumes().await?);
        let (mut containers, mut rejects) = (Vec::new(), Vec::new());
        for (id, entry) in self.visible(&listed)? {
            match self.listed(id, entry, node) {
                Ok(container) => containers.push(container),
                Err(error) => rejects.push(error),
            }
        }
        let containers = self.kept((containers, rejects), "container");
        Ok(Listing { containers, images, networks, volumes })
    }

    fn listed(&self, id: ContainerId, entry: &str, node: &Node) -> Result<Arc<Container>, wire::Error> {
        let fingerprint = wire::fingerprint(entry, &node.name);
        match node.containers.get(&id) {
            Some(known) if known.fingerprint == fingerprint => Ok(Arc::clone(known)),
            _ => self.only_listed(entry, fingerprint, node).map(Arc::new),
        }
    }

    fn only_listed(&self, entry: &str, fingerprint: u64, node: &Node) -> Result<Container, wire::Error> {
        let shown = crate::view::containers::entry(entry, &node.name, node.host(), self.naming)?;
        wire::listed_container(self.node, entry, fingerprint, shown)
    }

    /// The containers of a list, without Wharf's own agent: it is not for clients to see, to count or to remove.
    pub(super) fn visible<'a>(&self, listed: &'a [u8]) -> Result<Vec<(ContainerId, &'a str)>, Error> {
        let mut entries = self.sense(wire::listed(listed))?;
        entries.retain(|(_, entry)| !wire::is_agent(entry));
        Ok(entries)
    }

    /// The ids and entries of all containers, without a look into each.
    pub(super) async fn container_list(&self) -> Result<Bytes, Error> {
        Ok(self.get("/containers/json?all=1", SLOW).await?)
    }

    /// Reads one container; `None` if there is no such container any more.
    pub(super) async fn container(&self, id: ContainerId, node: &Node) -> Result<Option<Container>, Error> {
        let filter = percent_encoding::utf8_percent_encode(
            &format!("{{\"id\":[\"{id}\"]}}"),
            percent_encoding::NON_ALPHANUMERIC,
        )
        .to_string();
        // One after the other: a second connection would cost more than it saves.
        let listed = self.get(&format!("/containers/json?all=1&filters={filter}"), SLOW).await?;
        let inspected = self.inspected(id).await?;
        let entry = self.visible(&listed)?.into_iter().find(|(listed, _)| *listed == id);
        match (entry, inspected) {
            (Some((_, entry)), Some(inspected)) => {
                let listed = self.only_listed(entry, wire::fingerprint(entry, &node.name), node);
                self.sense(listed.and_then(|listed| wire::container(&listed, &inspected))).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Looks into those containers of a node that have only been listed, a few at a time, and gives each to `then`, with what
    /// was known of it.
    pub(super) async fn details<F: Future<Output = ()>>(
        &self,
        node: &Node,
        turns: &Semaphore,
        then: impl Fn(Arc<Container>, Container) -> F,
    ) -> Result<(), Error> {
        let unread: Vec<_> = node.containers.values().filter(|known| !known.is_inspected()).cloned().collect();
        for some in unread.chunks(IN_A_TURN) {
            // The turn comes first, and is never closed: what waits for it must not take room yet, in thousands of engines.
            let _turn = turns.acquire().await.ok();
            let reads = some.iter().cloned().map(|listed| async move {
                let Some(inspected) = self.inspected(listed.id).await? else { return Ok::<_, Error>(None) };
                let container = self.sense(wire::container(&listed, &inspected))?;
                Ok(Some((listed, container)))
            });
            let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
            while let Some(read) = reads.try_next().await? {
                if let Some((listed, container)) = read {
                    then(listed, container).await;
                }
            }
        }
        Ok(())
    }

    async fn inspected(&self, id: ContainerId) -> Result<Option<Bytes>, Error> {
        match self.get(&format!("/containers/{id}/json"), SLOW).await {
            Ok(inspected) => Ok(Some(inspected)),
            Err(error) if error.class() == wharf_model::Class::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists all images.
    pub(super) async fn images(&self) -> Result<Vec<Image>, Error> {
        let listed = self.get("/images/json", SLOW).await?;
        let mut images = self.kept(self.sense(wire::images(&listed))?, "image");
        let of_agent = |tag: &str| tag.split_once(':').is_some_and(|(name, _)| name == AGENT_NAME);
        images.retain(|image| image.tags.is_empty() || !image.tags.iter().all(|tag| of_agent(tag)));
        Ok(images)
    }

    /// Lists all images and asks when each last got a name: that decides which image a name means where nodes disagree.
    pub(super) async fn dated_images(&self) -> Result<Vec<Image>, Error> {
        let images = self.images().await?;
        let dated = images.into_iter().map(|mut image| async move {
            image.tagged = Some(self.dated(image.id, image.created).await);
            image
        });
        Ok(stream::iter(dated.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await)
    }

    /// When those of a node's images last got a name of which that is not known yet.
    pub(super) async fn dates(&self, node: &Node) -> Vec<(ImageId, Timestamp)> {
        let undated: Vec<_> = node.images.values().filter(|image| image.tagged.is_none()).cloned().collect();
        let dated =
            undated.into_iter().map(|image| async move { (image.id, self.dated(image.id, image.created).await) });
        stream::iter(dated.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await
    }

    /// When an image last got a name; when it was made, if it is gone or the engine does not say.
    async fn dated(&self, id: ImageId, created: Timestamp) -> Timestamp {
        let inspected = self.get(&format!("/images/{id}/json"), SLOW).await;
        inspected.ok().and_then(|inspected| wire::image_tagged(&inspected)).unwrap_or(created)
    }

    /// Reads all networks.
    pub(super) async fn networks(&self) -> Result<Vec<Network>, Error> {
        let listed = self.get("/networks", SLOW).await?;
        Ok(self.kept(self.sense(wire::networks(&listed))?, "network"))
    }

    /// Reads all volumes.
    pub(super) async fn volumes(&self) -> Result<Vec<Volume>, Error> {
        let listed = self.get("/volumes", SLOW).await?;
        let mut volumes = self.kept(self.sense(wire::volumes(&listed))?, "volume");
        volumes.retain(|volume| *volume.name != *AGENT_NAME);
        Ok(volumes)
    }

    async fn get(&self, path: &str, within: Duration) -> Result<Bytes, EngineError> {
        self.client.get(&format!("/v{}{path}", self.version), within).await
    }

    pub(super) fn sense<T>(&self, read: Result<T, wire::Error>) -> Result<T, Error> {
        read.map_err(|source| Error::Wire { endpoint: self.client.endpoint().clone(), source })
    }

    /// The items that could be read; those that could not are logged, not lost in silence.
    fn kept<T>(&self, (items, rejects): (Vec<T>, Vec<wire::Error>), what: &str) -> Vec<T> {
        for reject in rejects {
            tracing::warn!(engine = %self.client.endpoint(), "a {what} cannot be read: {reject}");
        }
        items
    }
}

impl Error {
    /// For people.
    pub(super) fn text(&self) -> Arc<str> {
        self.to_string().into()
    }
}
