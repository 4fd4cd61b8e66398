//! Reading an engine: who it is, all it has, one thing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use wharf_engine::{Client, Error as EngineError, wire};
use wharf_model::{
    ApiVersion, Container, ContainerId, Endpoint, Engine, Image, ImageId, Network, Node, NodeId, Timestamp, Volume,
};

use super::state::Listing;

/// `/version` and the like come from memory: an engine that is well answers at once.
const QUICK: Duration = Duration::from_secs(5);

/// Lists touch everything that an engine has; disks may be slow.
const SLOW: Duration = Duration::from_secs(60);

/// Inspections of one engine at a time while it is read as a whole.
const AT_ONCE: usize = 8;

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
}

impl Reader {
    /// Asks an engine who it is. Unversioned: this is how versions are learned.
    pub(super) async fn contact(&self) -> Result<Engine, Error> {
        let version = self.client.get("/version", QUICK).await?;
        let info = self.client.get("/info", SLOW).await?;
        self.sense(wire::engine(&info, &version))
    }

    /// Reads all that an engine has. `node` is the node as its containers' entries shall name it.
    pub(super) async fn listing(&self, node: &Node) -> Result<Listing, Error> {
        let listed = self.get("/containers/json?all=1", SLOW).await?;
        let entries = self.sense(wire::listed(&listed))?;
        let reads: Vec<_> = entries.into_iter().map(|(id, entry)| self.described(id, entry, node)).collect();
        let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
        let mut containers = Vec::new();
        while let Some(container) = reads.next().await {
            containers.extend(container?);
        }
        Ok(Listing {
            containers,
            images: self.images().await?,
            networks: self.networks().await?,
            volumes: self.volumes().await?,
        })
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
        let listed = self.get(&format!("/containers/json?all=1&filters={filter}"), SLOW).await?;
        match self.sense(wire::listed(&listed))?.into_iter().find(|(listed, _)| *listed == id) {
            Some((id, entry)) => self.described(id, entry, node).await,
            None => Ok(None),
        }
    }

    async fn described(&self, id: ContainerId, entry: &str, node: &Node) -> Result<Option<Container>, Error> {
        let inspected = match self.get(&format!("/containers/{id}/json"), SLOW).await {
            Ok(inspected) => inspected,
            Err(error) if error.class() == wharf_model::Class::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let inspected = String::from_utf8_lossy(&inspected);
        let shown = crate::view::containers::entry(entry, &node.name, node.host());
        let container = shown.and_then(|shown| wire::container(self.node, entry, &inspected, shown));
        self.sense(container).map(Some)
    }

    /// Reads all images, and when each last got a name: that decides which image a name means where nodes disagree.
    pub(super) async fn images(&self) -> Result<Vec<Image>, Error> {
        let listed = self.get("/images/json", SLOW).await?;
        let images = self.kept(self.sense(wire::images(&listed))?, "image");
        let dated: Vec<_> = images.into_iter().map(|image| self.dated(image)).collect();
        Ok(stream::iter(dated).buffer_unordered(AT_ONCE).collect().await)
    }

    async fn dated(&self, mut image: Image) -> Image {
        image.tagged = self.tagged(image.id).await.unwrap_or(image.created);
        image
    }

    /// When an image last got a name; `None` if it is gone or the engine does not say.
    async fn tagged(&self, id: ImageId) -> Option<Timestamp> {
        let inspected = self.get(&format!("/images/{id}/json"), SLOW).await.ok()?;
        wire::image_tagged(&inspected)
    }

    /// Reads all networks.
    pub(super) async fn networks(&self) -> Result<Vec<Network>, Error> {
        let listed = self.get("/networks", SLOW).await?;
        Ok(self.kept(self.sense(wire::networks(&listed))?, "network"))
    }

    /// Reads all volumes.
    pub(super) async fn volumes(&self) -> Result<Vec<Volume>, Error> {
        let listed = self.get("/volumes", SLOW).await?;
        Ok(self.kept(self.sense(wire::volumes(&listed))?, "volume"))
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
