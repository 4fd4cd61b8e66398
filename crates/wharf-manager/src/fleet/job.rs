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
    /// All containers are compared with what is known, and then the rest, to find what events did not tell.
    Everything,
    /// Images, networks and volumes are.
    Rest,
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
        Job::Rest => return rest(&reader, &node, &fleet).await,
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

/// Compares all containers of an engine with what is known of them; gives what has to be read as well.
async fn everything(reader: &Reader, node: &Node, fleet: &Fleet) -> Result<Vec<Job>, Error> {
    let listed = reader.container_list().await?;
    let mut missing: BTreeSet<_> = node.containers.keys().copied().collect();
    let mut differs = vec![Job::Rest, Job::Sweep];
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
    fleet.apply(Event::Compared(reader.node)).await;
    Ok(differs)
}

/// Compares the rest of what an engine has with what is known of it; gives what it refuses to list, to be asked for by itself. One
/// list after the other: one connection to each of thousands of engines is enough.
async fn rest(reader: &Reader, node: &Node, fleet: &Fleet) -> Result<Vec<Job>, Error> {
    let mut unread = Vec::new();
    match reader.images().await {
        // Without a look at when names were given: nothing told of a new one.
        Ok(images) if is_known(&node.images, &images, |image| &image.id, |one, other| one.entry == other.entry) => {}
        Ok(images) => fleet.apply(Event::Images(reader.node, images)).await,
        Err(error) => unread.push(error.if_refused(Job::Images)?),
    }
    match reader.networks().await {
        Ok(networks) if is_known(&node.networks, &networks, |network| &network.id, PartialEq::eq) => {}
        Ok(networks) => fleet.apply(Event::Networks(reader.node, networks)).await,
        Err(error) => unread.push(error.if_refused(Job::Networks)?),
    }
    match reader.volumes().await {
        Ok(volumes) if is_known(&node.volumes, &volumes, |volume| &volume.name, PartialEq::eq) => {}
        Ok(volumes) => fleet.apply(Event::Volumes(reader.node, volumes)).await,
        Err(error) => unread.push(error.if_refused(Job::Volumes)?),
    }
    Ok(unread)
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

#[cfg(test)]
mod tests;
