//! `docker network disconnect -f` while the container's node is away: the fleet forgets the container there at once, its engine is told
//! when it is back.

use std::time::Duration;

use http::Method;
use serde_json::json;
use wharf_engine::wire::Touched;
use wharf_model::{Class, ContainerId, NetworkId};

use super::Networks;
use crate::{API_NEWEST, Error};

/// An engine that takes a link out of a container.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);

impl Networks {
    /// Takes a container off a network whose node cannot be told now.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn detach(&self, container: ContainerId, network: NetworkId) -> Result<(), Error> {
        self.0.records.set_detached(container, network, true).await?;
        self.0.fleet.set_detached(container, network, true).await;
        Ok(())
    }

    /// Tells the engines that are back.
    pub(super) async fn detach_for_good(&self) {
        let snapshot = self.0.fleet.snapshot();
        for (container, network) in snapshot.detached() {
            let gone = match snapshot.container(container) {
                Some(known) => match snapshot.node(known.node).filter(|node| node.is_healthy()) {
                    Some(node) => self.disconnect(container, network, node).await,
                    None => continue,
                },
                // Unless its node has not been read yet, it is no more.
                None if snapshot.nodes().all(|node| node.is_healthy()) => Ok(()),
                None => continue,
            };
            let forgotten = match gone {
                Ok(()) => self.0.records.set_detached(container, network, false).await,
                Err(error) => Err(error),
            };
            match forgotten {
                Ok(()) => self.0.fleet.set_detached(container, network, false).await,
                Err(error) => {
                    tracing::warn!("container {container} is still on a network that it was taken off: {error}")
                }
            }
        }
    }

    async fn disconnect(
        &self,
        container: ContainerId,
        network: NetworkId,
        node: &wharf_model::Node,
    ) -> Result<(), Error> {
        let Some(part) = node.part_of(network) else { return Ok(()) };
        let away = || Error::unavailable(format!("{} does not answer", node.name));
        let link = self.0.fleet.link(node.id).ok_or_else(away)?;
        let body = json!({"Container": container.to_string(), "Force": true}).to_string();
        let path = link.path(API_NEWEST, &format!("/networks/{}/disconnect", part.id));
        let answer = link.call(Method::POST, &path, Some(body.into()), CHANGE_WITHIN).await;
        link.observe(Touched::Container(container)).await;
        match answer {
            // That it is not there any more is what was wanted.
            Err(error) if !matches!(error.class(), Class::NotFound | Class::Forbidden) => {
                Err(crate::front::of_engine(&error, node))
            }
            _ => Ok(()),
        }
    }
}
