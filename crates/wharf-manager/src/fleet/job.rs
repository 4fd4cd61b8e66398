//! What is read of an engine at a time, and what is made of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use wharf_engine::{Error as EngineError, wire};
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
        Job::Rest => return rest(&reader, &fleet).await,
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
    let snapshot = fleet.snapshot();
    let mut missing: BTreeSet<_> = node.containers.keys().copied().collect();
    let mut differs = vec![Job::Rest, Job::Sweep];
    for (id, entry) in reader.visible(&listed)? {
        missing.remove(&id);
        let fingerprint = wire::fingerprint(entry, &node.name);
        let same = node.containers.get(&id).is_some_and(|known| known.fingerprint == fingerprint);
        // Another node that showed it as well may have taken it away when it left.
        if !same || snapshot.container(id).is_none() {
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

/// Compares the rest of what an engine has with what is known of it; gives what has to be read as well. One list after the other: one
/// connection to each of thousands of engines is enough.
async fn rest(reader: &Reader, fleet: &Fleet) -> Result<Vec<Job>, Error> {
    let known = || fleet.snapshot().node(reader.node).cloned();
    let mut differs = Vec::new();
    let images = answered(reader.images().await)?;
    let Some(node) = known() else { return Ok(Vec::new()) };
    if !images
        .is_some_and(|images| is_known(&node.images, &images, |one| &one.id, |one, other| one.entry == other.entry))
    {
        differs.push(Job::Images);
    }
    let networks = answered(reader.networks().await)?;
    let Some(node) = known() else { return Ok(Vec::new()) };
    if !networks.is_some_and(|networks| is_known(&node.networks, &networks, |one| &one.id, PartialEq::eq)) {
        differs.push(Job::Networks);
    }
    let volumes = answered(reader.volumes().await)?;
    let Some(node) = known() else { return Ok(Vec::new()) };
    if !volumes.is_some_and(|volumes| is_known(&node.volumes, &volumes, |one| &one.name, PartialEq::eq)) {
        differs.push(Job::Volumes);
    }
    Ok(differs)
}

/// What an engine listed; `None` if it is there, and does not list this.
fn answered<T>(listed: Result<T, Error>) -> Result<Option<T>, Error> {
    match listed {
        Ok(listed) => Ok(Some(listed)),
        Err(Error::Wire { .. } | Error::Engine(EngineError::Refused { .. } | EngineError::Late { .. })) => Ok(None),
        Err(error) => Err(error),
    }
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
