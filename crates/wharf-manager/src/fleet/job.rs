//! What is read of an engine at a time, and what is made of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use wharf_engine::wire;
use wharf_model::{ContainerId, Node};

use super::{
    Fleet, Orphans,
    reader::{Error, Reader},
    state::Event,
};

/// A thing to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Job {
    Container(ContainerId),
    /// What has only been listed is looked into, and images' names are dated.
    Details,
    Images,
    Networks,
    Volumes,
    /// All of it is compared with what is known, to find what events did not tell.
    Everything,
    /// What broken creates have left is removed.
    Sweep,
}

/// Reads one thing and puts it in the state. Gives what has to be read as well.
pub(super) async fn read(job: Job, reader: Reader, fleet: Fleet, orphans: Orphans) -> Result<Vec<Job>, Error> {
    let Some(node) = fleet.snapshot().node(reader.node).cloned() else { return Ok(Vec::new()) };
    let event = match job {
        Job::Container(id) => match reader.container(id, &node).await? {
            Some(container) => {
                fleet.apply(Event::Changed(Box::new(container.clone()))).await;
                orphans.remove_if_orphan(&container, &reader.client, &fleet.snapshot()).await?;
                return Ok(Vec::new());
            }
            None => Event::Gone(reader.node, id),
        },
        Job::Details => {
            let dates = {
                // As long as nothing is closed, a turn is always had.
                let _turn = fleet.details().acquire().await.ok();
                reader.dates(&node).await
            };
            fleet.apply(Event::Dated(reader.node, dates)).await;
            let put = |listed, container| fleet.apply(Event::Detailed(listed, Box::new(container)));
            reader.details(&node, fleet.details(), put).await?;
            return Ok(vec![Job::Sweep]);
        }
        Job::Images => Event::Images(reader.node, reader.dated_images().await?),
        Job::Networks => Event::Networks(reader.node, reader.networks().await?),
        Job::Volumes => Event::Volumes(reader.node, reader.volumes().await?),
        Job::Everything => return everything(&reader, &node, &fleet).await,
        Job::Sweep => {
            for container in node.containers.values() {
                orphans.remove_if_orphan(container, &reader.client, &fleet.snapshot()).await?;
            }
            return Ok(Vec::new());
        }
    };
    fleet.apply(event).await;
    Ok(Vec::new())
}

/// Compares all that an engine has with what is known of it; gives what has to be read as well. One list after the other, for
/// one connection to each of thousands of engines is enough.
async fn everything(reader: &Reader, node: &Node, fleet: &Fleet) -> Result<Vec<Job>, Error> {
    let listed = reader.container_list().await?;
    let mut missing: BTreeSet<_> = node.containers.keys().copied().collect();
    let mut differs = Vec::new();
    for (id, entry) in reader.visible(&listed)? {
        missing.remove(&id);
        let fingerprint = wire::fingerprint(entry);
        if node.containers.get(&id).is_none_or(|known| known.fingerprint != fingerprint) {
            differs.push(Job::Container(id));
        }
    }
    // They were known before the list was made, and ids never come back.
    for id in missing {
        fleet.apply(Event::Gone(reader.node, id)).await;
    }
    // Without a look at when names were given: nothing told of a new one.
    let images = reader.images().await?;
    if !is_known(&node.images, &images, |image| &image.id, |one, other| one.entry == other.entry) {
        fleet.apply(Event::Images(reader.node, images)).await;
    }
    let networks = reader.networks().await?;
    if !is_known(&node.networks, &networks, |network| &network.id, PartialEq::eq) {
        fleet.apply(Event::Networks(reader.node, networks)).await;
    }
    let volumes = reader.volumes().await?;
    if !is_known(&node.volumes, &volumes, |volume| &volume.name, PartialEq::eq) {
        fleet.apply(Event::Volumes(reader.node, volumes)).await;
    }
    fleet.apply(Event::Compared(reader.node)).await;
    differs.push(Job::Sweep);
    Ok(differs)
}

/// Whether what was listed is what is known.
fn is_known<K: Ord, V>(
    known: &BTreeMap<K, Arc<V>>,
    listed: &[V],
    key: impl Fn(&V) -> &K,
    same: impl Fn(&V, &V) -> bool,
) -> bool {
    known.len() == listed.len() && listed.iter().all(|one| known.get(key(one)).is_some_and(|known| same(known, one)))
}
