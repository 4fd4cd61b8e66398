//! What changes the state, and how: synchronous, total, no I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use wharf_model::{
    Agent, Container, ContainerId, Endpoint, Engine, Few, FleetNetwork, Health, Image, ImageId, Labels, Network,
    NetworkId, Node, NodeId, Reservation, ReservationId, Snapshot, Timestamp, Volume,
};
use wharf_plan::{Placement, Policy, Seed, Unplaceable, Workload};

use super::labels::{Labelled, NodeLabels};

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// Discovery names these engines, each a node with its number; those that it no longer names leave.
    Discovered(BTreeMap<Endpoint, NodeId>),
    /// The operator gave an engine's node these labels.
    Labelled(Endpoint, NodeLabels),
    /// An engine said who it is.
    Contacted(NodeId, Arc<Engine>),
    /// An engine was read as a whole: it is healthy, and this is all it has.
    Listed(NodeId, Box<Listing>),
    /// A container is like this now.
    Changed(Box<Container>),
    /// A container that had only been listed is like this, if nothing newer is known of it by now.
    Detailed(Arc<Container>, Box<Container>),
    /// A container is no more.
    Gone(NodeId, ContainerId),
    /// A node has these images.
    Images(NodeId, Vec<Image>),
    /// Some of a node's images got their names then.
    Dated(NodeId, Vec<(ImageId, Timestamp)>),
    /// A node has these networks.
    Networks(NodeId, Vec<Network>),
    /// A node has these volumes.
    Volumes(NodeId, Vec<Volume>),
    /// A node's containers were compared with what is known of them.
    Compared(NodeId),
    /// A node does not answer, or its answers make no sense.
    Failing(NodeId, Arc<str>),
    /// A promise was kept, or broken.
    Released(ReservationId),
    /// A fleet network is like this now.
    FleetNetwork(Arc<FleetNetwork>),
    /// A fleet network is no more.
    FleetNetworkGone(NetworkId),
    /// A container was taken off a fleet network while its node could not be told; or that node knows it by now.
    Detached(ContainerId, NetworkId, bool),
    /// A node's agent said this of its host; or it is connected no more.
    Agent(NodeId, Arc<Agent>),
}

/// All that an engine has.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) containers: Vec<Arc<Container>>,
    pub(crate) images: Vec<Image>,
    pub(crate) networks: Vec<Network>,
    pub(crate) volumes: Vec<Volume>,
}

/// A wish for a place: what is to be placed, and what is not to be tried again.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) workload: Workload,
    /// Nodes that are slow to answer just now: taken only if there is no other.
    pub(crate) suspects: BTreeSet<NodeId>,
}

/// Why there is no promise.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Another container has the name, or is about to.
    NameTaken {
        name: Box<str>,
        /// The container that has it; `None` while it is being created.
        by: Option<ContainerId>,
    },
    /// No node can take it.
    Unplaceable(Unplaceable),
}

/// The state, and what only its writer needs.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) snapshot: Snapshot,
    ids: BTreeMap<Endpoint, NodeId>,
    /// What agents said of nodes that are not discovered yet: after a start, it is known before its engine is.
    agents: BTreeMap<NodeId, Arc<Agent>>,
    next_reservation: u64,
    policy: Policy,
    labels: Labelled,
}

impl State {
    pub(crate) fn new(policy: Policy, labels: Labelled) -> Self {
        Self {
            snapshot: Snapshot::default(),
            ids: BTreeMap::new(),
            agents: BTreeMap::new(),
            next_reservation: 1,
            policy,
            labels,
        }
    }

    /// Takes in what happened at `now`.
    pub(crate) fn apply(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Discovered(endpoints) => self.discovered(endpoints, now),
            Event::Labelled(endpoint, labels) => {
                if let Some(id) = self.ids.get(&endpoint) {
                    self.change(*id, now, |node| node.labels = Arc::clone(&labels));
                }
                self.labels.insert(endpoint, labels);
            }
            Event::Contacted(id, engine) => {
                let name = self.unique_name(id, &engine.hostname);
                self.change(id, now, |node| {
                    node.name = name;
                    node.engine = Some(engine);
                });
            }
            Event::Listed(id, listing) => self.change(id, now, |node| {
                node.health = Health::Healthy;
                node.error = None;
                node.containers = listing.containers.into_iter().map(|one| (one.id, one)).collect();
                node.images = images(&node.images, listing.images);
                node.networks = keyed(listing.networks, |network| network.id);
                node.volumes = keyed(listing.volumes, |volume| Arc::clone(&volume.name));
            }),
            Event::Changed(container) => self.snapshot.put_container(*container),
            Event::Detailed(listed, container) => {
                let known = self.snapshot.node(container.node).and_then(|node| node.containers.get(&container.id));
                if known.is_some_and(|known| Arc::ptr_eq(known, &listed)) {
                    self.snapshot.put_container(*container);
                }
            }
            Event::Gone(node, id) => self.snapshot.remove_container(node, id),
            Event::Dated(id, dates) => self.change(id, now, |node| {
                for (image, tagged) in dates {
                    if let Some(known) = node.images.get(&image) {
                        let dated = Image { tagged: Some(tagged), ..Image::clone(known) };
                        Arc::make_mut(&mut node.images).insert(image, Arc::new(dated));
                    }
                }
            }),
            Event::Images(id, listed) => self.change(id, now, |node| node.images = images(&node.images, listed)),
            Event::Networks(id, networks) => {
                self.change(id, now, |node| node.networks = keyed(networks, |network| network.id));
            }
            Event::Volumes(id, volumes) => {
                self.change(id, now, |node| node.volumes = keyed(volumes, |volume| Arc::clone(&volume.name)));
            }
            Event::Compared(id) => self.change(id, now, |_| ()),
            Event::Failing(id, error) => self.change(id, now, |node| {
                if node.health == Health::Healthy {
                    node.health = Health::Unhealthy;
                }
                node.error = Some(error);
            }),
            Event::Released(id) => self.snapshot.remove_reservation(id),
            Event::FleetNetwork(network) => self.snapshot.put_fleet_network(network),
            Event::FleetNetworkGone(id) => self.snapshot.remove_fleet_network(id),
            Event::Detached(container, network, is) => self.snapshot.set_detached(container, network, is),
            Event::Agent(id, agent) => {
                self.change(id, now, |node| node.agent = Some(Arc::clone(&agent)));
                self.agents.insert(id, agent);
            }
        }
        self.snapshot.version += 1;
    }

    /// Promises a name and a place. Choosing and promising is one step, so that no two containers are promised the same.
    pub(crate) fn place(&mut self, place: &Place) -> Result<(Reservation, Placement), Refusal> {
        let want = &place.workload;
        if let Some(name) = &want.name {
            self.check_name(name)?;
        }
        let policy = Policy { suspects: place.suspects.clone(), ..self.policy.clone() };
        let seed = Seed(self.next_reservation);
        let placement = wharf_plan::place(want, &self.snapshot, &policy, seed).map_err(Refusal::Unplaceable)?;
        let reservation = Reservation {
            id: self.next_reservation(),
            name: want.name.clone(),
            node: Some(placement.node),
            image: want.image.clone(),
            resources: want.resources,
            published: want.ports().collect(),
            labels: want.labels.clone(),
        };
        self.promise(reservation.clone());
        Ok((reservation, placement))
    }

    /// Promises a name alone, for a rename.
    pub(crate) fn claim(&mut self, name: Box<str>) -> Result<ReservationId, Refusal> {
        self.check_name(&name)?;
        let id = self.next_reservation();
        self.promise(Reservation {
            id,
            name: Some(name),
            node: None,
            image: "".into(),
            resources: wharf_model::Resources::default(),
            published: Vec::new(),
            labels: Labels::default(),
        });
        Ok(id)
    }

    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        if !self.snapshot.name_taken(name) {
            return Ok(());
        }
        let by = self.snapshot.containers_named(name).next().map(|container| container.id);
        Err(Refusal::NameTaken { name: name.into(), by })
    }

    fn next_reservation(&mut self) -> ReservationId {
        let id = ReservationId(self.next_reservation);
        self.next_reservation += 1;
        id
    }

    fn promise(&mut self, reservation: Reservation) {
        self.snapshot.put_reservation(reservation);
        self.snapshot.version += 1;
    }

    fn discovered(&mut self, endpoints: BTreeMap<Endpoint, NodeId>, now: Timestamp) {
        let gone = self.ids.iter().filter(|(endpoint, _)| !endpoints.contains_key(endpoint));
        let gone: Vec<_> = gone.map(|(_, id)| *id).collect();
        gone.into_iter().for_each(|id| self.snapshot.remove_node(id));
        for (endpoint, id) in &endpoints {
            if self.ids.contains_key(endpoint) {
                continue;
            }
            let mut node = Node::pending(*id, endpoint.clone(), now);
            node.labels = self.labels.get(endpoint).cloned().unwrap_or_default();
            node.agent = self.agents.get(id).cloned();
            self.snapshot.put_node(node);
        }
        self.ids = endpoints;
    }

    fn change(&mut self, id: NodeId, now: Timestamp, change: impl FnOnce(&mut Node)) {
        // A node that discovery took away while its engine was read: nobody waits for this any more.
        let Some(node) = self.snapshot.node(id) else { return };
        let mut node = Node::clone(node);
        node.updated = now;
        change(&mut node);
        self.snapshot.put_node(node);
    }

    /// Hosts may share a name (clones do): all but the first get a number.
    fn unique_name(&self, id: NodeId, hostname: &str) -> Arc<str> {
        let taken =
            |name: &str| self.snapshot.node_named(name).is_some_and(|node| node.id != id && &*node.name == name);
        let hostname = if hostname.is_empty() { "node" } else { hostname };
        if !taken(hostname) {
            return hostname.into();
        }
        (2u32..).map(|number| format!("{hostname}-{number}")).find(|name| !taken(name)).unwrap_or_default().into()
    }
}

/// Images as they were listed. What was found out about them otherwise stays with those that are as they were.
fn images(known: &BTreeMap<ImageId, Arc<Image>>, listed: Vec<Image>) -> Few<ImageId, Image> {
    let kept = |mut image: Image| match known.get(&image.id) {
        Some(known) if known.entry == image.entry && image.tagged.is_none() => Arc::clone(known),
        _ if image.tagged.is_none() && image.tags.is_empty() => {
            // It has no name that anybody could disagree about.
            image.tagged = Some(image.created);
            Arc::new(image)
        }
        _ => Arc::new(image),
    };
    Arc::new(listed.into_iter().map(|image| (image.id, kept(image))).collect())
}

fn keyed<K: Ord, V>(values: Vec<V>, key: impl Fn(&V) -> K) -> Few<K, V> {
    Arc::new(values.into_iter().map(|value| (key(&value), Arc::new(value))).collect())
}

#[cfg(test)]
mod tests;
