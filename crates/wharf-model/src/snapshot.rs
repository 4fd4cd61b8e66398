use std::{cmp::Reverse, ops::Bound, sync::Arc};

use imbl::{OrdMap, OrdSet};

use crate::{
    Attachment, Container, ContainerId, FleetNetwork, IdPrefix, Image, ImageId, Labels, Load, NetworkId, Node, NodeId,
    PublishedPort, ReservationId, Resources, SLOTS_LABEL, Timestamp,
};

/// What is known of the fleet at one moment. Cloning is cheap; a clone never changes.
///
/// The maps share their structure between clones, so that a change costs its own size and not the fleet's.
/// Who owns the state changes it through [`Snapshot::put_node`] and its neighbours; all others only read.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows with every change.
    pub version: u64,
    /// Grows with every change of what images there are, what they are called, and which of their nodes answer.
    pub images_version: u64,
    nodes: OrdMap<NodeId, Arc<Node>>,
    nodes_by_name: OrdMap<Arc<str>, NodeId>,
    image_holders: OrdSet<(ImageId, NodeId)>,
    images_by_name: OrdSet<(Box<str>, ImageId, NodeId)>,
    by_id: OrdMap<ContainerId, Arc<Container>>,
    by_name: OrdSet<(Box<str>, ContainerId)>,
    by_age: OrdMap<(Reverse<Timestamp>, ContainerId), Arc<Container>>,
    reservations: OrdMap<ReservationId, Arc<Reservation>>,
    reserved_names: OrdMap<Box<str>, ReservationId>,
    fleet_networks: OrdMap<NetworkId, Arc<FleetNetwork>>,
    fleet_networks_by_name: OrdMap<Box<str>, NetworkId>,
    detached: OrdSet<(ContainerId, NetworkId)>,
}

/// A name and a place that are promised to a container that is being created, or a name to one that is being renamed.
#[derive(Debug, Clone, PartialEq)]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// The name; `None` where the engine is to choose one.
    pub name: Option<Box<str>>,
    /// The node; `None` for a rename, which takes no room.
    pub node: Option<NodeId>,
    /// The image.
    pub image: Box<str>,
    /// What it will reserve.
    pub resources: Resources,
    /// The ports it will publish.
    pub published: Vec<PublishedPort>,
    /// Its labels.
    pub labels: Labels,
}

/// What a container reference leads to.
#[derive(Debug, Clone)]
pub enum Resolution {
    /// One container.
    One(Arc<Container>),
    /// None.
    Unknown,
    /// Several: the reference must be more exact.
    Ambiguous(Ambiguous),
}

/// The containers that one reference may mean, in the order of their ids.
#[derive(Debug, Clone)]
pub struct Ambiguous(pub Vec<Arc<Container>>);

// === reading ===

impl Snapshot {
    /// The nodes, in the order of their discovery.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The node of that id.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes that have an image.
    pub fn holders(&self, image: ImageId) -> impl Iterator<Item = &Arc<Node>> {
        let of_it = (image, NodeId(0))..=(image, NodeId(u32::MAX));
        self.image_holders.range(of_it).filter_map(|(_, id)| self.nodes.get(id))
    }

    /// The images that bear a name (`repository:tag` or `repository@digest`), each with the node where they do.
    pub fn images_named(&self, name: &str) -> impl Iterator<Item = (&Arc<Node>, &Arc<Image>)> {
        let named = (name.into(), ImageId::MIN, NodeId(0))..=(name.into(), ImageId::MAX, NodeId(u32::MAX));
        self.images_by_name.range(named).filter_map(|(_, image, node)| {
            let node = self.nodes.get(node)?;
            Some((node, node.images.get(image)?))
        })
    }

    /// The ids of the images that begin so, in their order.
    pub fn images_with_prefix(&self, prefix: IdPrefix) -> impl Iterator<Item = ImageId> {
        let (first, last) = ImageId::range(prefix).into_inner();
        let begin_so = (first, NodeId(0))..=(last, NodeId(u32::MAX));
        each_once(self.image_holders.range(begin_so).map(|(id, _)| *id))
    }

    /// How many different images there are.
    pub fn image_count(&self) -> usize {
        each_once(self.image_holders.iter().map(|(id, _)| *id)).count()
    }

    /// The node of that name, engine id or address.
    pub fn node_named(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes_by_name.get(name).and_then(|id| self.nodes.get(id)).or_else(|| {
            self.nodes().find(|node| {
                node.endpoint.address() == name || node.engine.as_ref().is_some_and(|engine| &*engine.id == name)
            })
        })
    }

    /// The container of that id.
    pub fn container(&self, id: ContainerId) -> Option<&Arc<Container>> {
        self.by_id.get(&id)
    }

    /// All containers, the newest first.
    pub fn containers(&self) -> impl Iterator<Item = &Arc<Container>> {
        self.by_age.values()
    }

    /// The containers that come after one in that order; all of them after `None`.
    pub fn containers_after(&self, after: Option<(Timestamp, ContainerId)>) -> impl Iterator<Item = &Arc<Container>> {
        let from = after.map_or(Bound::Unbounded, |(created, id)| Bound::Excluded((Reverse(created), id)));
        self.by_age.range((from, Bound::Unbounded)).map(|(_, container)| container)
    }

    /// How many containers there are.
    pub fn container_count(&self) -> usize {
        self.by_id.len()
    }

    /// The containers of that exact name (without a slash). More than one if nodes were filled behind Wharf's back.
    pub fn containers_named(&self, name: &str) -> impl Iterator<Item = &Arc<Container>> {
        self.ids_named(name).filter_map(|id| self.by_id.get(id))
    }

    fn ids_named(&self, name: &str) -> impl Iterator<Item = &ContainerId> {
        self.by_name.range((name.into(), ContainerId::MIN)..=(name.into(), ContainerId::MAX)).map(|(_, id)| id)
    }

    /// The containers whose ids begin so, in the order of their ids.
    pub fn containers_with_prefix(&self, prefix: IdPrefix) -> impl Iterator<Item = &Arc<Container>> {
        self.by_id.range(ContainerId::range(prefix)).map(|(_, container)| container)
    }

    /// Finds what a user means by a container's id, name, `/name`, `node/name` or id prefix, in this order.
    /// Of several containers of one name the one that is up on a healthy node is meant; `node/name` tells the others.
    pub fn resolve(&self, reference: &str) -> Resolution {
        if let Some(container) = reference.parse::<ContainerId>().ok().and_then(|id| self.by_id.get(&id)) {
            return Resolution::One(Arc::clone(container));
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        let named: Vec<_> = self.containers_named(name).cloned().collect();
        if !named.is_empty() {
            return self.living(named);
        }
        if let Some((node, name)) = name.split_once('/') {
            let node = self.node_named(node).map(|node| node.id);
            let found = self.containers_named(name).find(|container| Some(container.node) == node);
            return found.map_or(Resolution::Unknown, |container| Resolution::One(Arc::clone(container)));
        }
        let Some(prefix) = IdPrefix::parse(reference) else {
            return Resolution::Unknown;
        };
        let mut found: Vec<_> = self.containers_with_prefix(prefix).cloned().collect();
        match found.len() {
            0 => Resolution::Unknown,
            1 => Resolution::One(found.remove(0)),
            _ => Resolution::Ambiguous(Ambiguous(found)),
        }
    }

    fn living(&self, mut named: Vec<Arc<Container>>) -> Resolution {
        if named.len() > 1 {
            let answers = |container: &Arc<Container>| {
                container.phase.is_up() && self.node(container.node).is_some_and(|node| node.is_healthy())
            };
            let mut up = named.iter().filter(|container| answers(container));
            if let (Some(one), None) = (up.next(), up.next()) {
                return Resolution::One(Arc::clone(one));
            }
        }
        match named.len() {
            1 => Resolution::One(named.remove(0)),
            _ => Resolution::Ambiguous(Ambiguous(named)),
        }
    }

    /// Whether a container has that name, or is about to.
    pub fn name_taken(&self, name: &str) -> bool {
        self.ids_named(name).next().is_some() || self.reserved_names.contains_key(name)
    }

    /// The promises made to containers that are being created.
    pub fn reservations(&self) -> impl Iterator<Item = &Arc<Reservation>> {
        self.reservations.values()
    }
}

// === fleet networks ===

impl Snapshot {
    /// The networks that span the fleet, by id.
    pub fn fleet_networks(&self) -> impl Iterator<Item = &Arc<FleetNetwork>> {
        self.fleet_networks.values()
    }

    /// The fleet network of that id.
    pub fn fleet_network(&self, id: NetworkId) -> Option<&Arc<FleetNetwork>> {
        self.fleet_networks.get(&id)
    }

    /// The fleet network of that name.
    pub fn fleet_network_named(&self, name: &str) -> Option<&Arc<FleetNetwork>> {
        self.fleet_networks_by_name.get(name).and_then(|id| self.fleet_networks.get(id))
    }

    /// The fleet networks whose ids begin so.
    pub fn fleet_networks_with_prefix(&self, prefix: IdPrefix) -> impl Iterator<Item = &Arc<FleetNetwork>> {
        self.fleet_networks.range(NetworkId::range(prefix)).map(|(_, network)| network)
    }

    /// The containers that are attached to a fleet network, each with how it is.
    pub fn members(&self, network: &FleetNetwork) -> impl Iterator<Item = (&Arc<Node>, &Arc<Container>, &Attachment)> {
        let nodes = network.nodes().into_iter().filter_map(|node| self.nodes.get(&node));
        nodes.flat_map(move |node| {
            self.members_on(network, node.id).map(move |(container, attached)| (node, container, attached))
        })
    }

    /// Those of one node.
    pub fn members_on(
        &self,
        network: &FleetNetwork,
        node: NodeId,
    ) -> impl Iterator<Item = (&Arc<Container>, &Attachment)> {
        let id = network.id;
        let node = self.nodes.get(&node).filter(|node| node.part_of(id).is_some());
        node.into_iter().flat_map(move |node| {
            node.containers.values().filter_map(move |container| {
                let attached = container.networks.iter().find(|one| node.fleet_network(one) == Some(id))?;
                (!self.is_detached(container.id, id)).then_some((container, attached))
            })
        })
    }

    /// Containers that were taken off a fleet network while their node could not be told.
    pub fn detached(&self) -> impl Iterator<Item = (ContainerId, NetworkId)> {
        self.detached.iter().copied()
    }

    /// Whether a container was taken off a fleet network while its node could not be told.
    pub fn is_detached(&self, container: ContainerId, network: NetworkId) -> bool {
        self.detached.contains(&(container, network))
    }

    /// Takes a container off a fleet network whose node cannot be told, or no longer needs to be.
    pub fn set_detached(&mut self, container: ContainerId, network: NetworkId, detached: bool) {
        if detached {
            self.detached.insert((container, network));
        } else {
            self.detached.remove(&(container, network));
        }
    }

    /// Puts a fleet network in the place of what was known of it.
    pub fn put_fleet_network(&mut self, network: Arc<FleetNetwork>) {
        self.fleet_networks_by_name.insert(network.name.clone(), network.id);
        self.fleet_networks.insert(network.id, network);
    }

    /// Forgets a fleet network.
    pub fn remove_fleet_network(&mut self, id: NetworkId) {
        if let Some(network) = self.fleet_networks.remove(&id) {
            self.fleet_networks_by_name.remove(&network.name);
        }
    }
}

// === changing ===

impl Snapshot {
    /// Puts a node in the place of what was known of it. Its containers are indexed, those that it no longer has forgotten.
    pub fn put_node(&mut self, mut node: Node) {
        if let Some(before) = self.nodes.get(&node.id).cloned() {
            if before.name != node.name {
                self.nodes_by_name.remove(&before.name);
            }
            for image in before.images.values() {
                if !node.images.get(&image.id).is_some_and(|kept| Arc::ptr_eq(kept, image)) {
                    self.forget_image(node.id, image);
                }
            }
            let same = before.containers.ptr_eq(&node.containers);
            for container in before.containers.values().filter(|_| !same) {
                if !node.containers.get(&container.id).is_some_and(|kept| Arc::ptr_eq(kept, container)) {
                    self.forget(container);
                }
            }
        }
        self.nodes_by_name.insert(Arc::clone(&node.name), node.id);
        let before = self.nodes.get(&node.id).cloned();
        let same_images = |before: &Node| {
            let pairs = || before.images.values().zip(node.images.values());
            Arc::ptr_eq(&before.images, &node.images)
                || before.images.len() == node.images.len() && pairs().all(|(one, other)| Arc::ptr_eq(one, other))
        };
        let same = |before: &Arc<Node>| before.health == node.health && same_images(before);
        if !before.as_ref().is_some_and(same) {
            self.images_version += 1;
        }
        for image in node.images.values() {
            let known = before.as_ref().and_then(|before| before.images.get(&image.id));
            if !known.is_some_and(|known| Arc::ptr_eq(known, image)) {
                self.index_image(node.id, image);
            }
        }
        // Most of what changes of a node has nothing to do with its containers.
        if !before.is_some_and(|before| before.containers.ptr_eq(&node.containers)) {
            for container in node.containers.values() {
                if !self.by_id.get(&container.id).is_some_and(|known| Arc::ptr_eq(known, container)) {
                    self.index(container);
                }
            }
            let mut load = Load::default();
            node.containers.values().for_each(|container| load += container);
            node.load = load;
        }
        node.slots = node.label(SLOTS_LABEL).and_then(|slots| slots.parse().ok());
        self.nodes.insert(node.id, Arc::new(node));
    }

    /// Forgets a node and its containers.
    pub fn remove_node(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.remove(&id) {
            self.images_version += 1;
            self.nodes_by_name.remove(&node.name);
            node.images.values().for_each(|image| self.forget_image(id, image));
            node.containers.values().for_each(|container| self.forget(container));
        }
    }

    /// Puts one container in the place of what was known of it on its node. Nothing happens if the node is not known.
    pub fn put_container(&mut self, container: Container) {
        let Some(node) = self.nodes.get_mut(&container.node) else {
            return;
        };
        let container = Arc::new(container);
        let node = Arc::make_mut(node);
        let before = node.containers.insert(container.id, Arc::clone(&container));
        if let Some(before) = &before {
            node.load -= before;
        }
        node.load += &container;
        if let Some(before) = before {
            self.forget(&before);
        }
        self.index(&container);
    }

    /// Forgets one container of a node.
    pub fn remove_container(&mut self, node: NodeId, id: ContainerId) {
        let Some(node) = self.nodes.get_mut(&node) else { return };
        if !node.containers.contains_key(&id) {
            return;
        }
        let node = Arc::make_mut(node);
        if let Some(container) = node.containers.remove(&id) {
            node.load -= &container;
            self.forget(&container);
        }
    }

    /// Keeps a promise in mind. The caller has seen that the name is free.
    pub fn put_reservation(&mut self, reservation: Reservation) {
        if let Some(name) = &reservation.name {
            self.reserved_names.insert(name.clone(), reservation.id);
        }
        self.reservations.insert(reservation.id, Arc::new(reservation));
    }

    /// Forgets a promise, kept or broken.
    pub fn remove_reservation(&mut self, id: ReservationId) {
        if let Some(name) = self.reservations.remove(&id).and_then(|reservation| reservation.name.clone()) {
            self.reserved_names.remove(&name);
        }
    }

    fn index_image(&mut self, node: NodeId, image: &Image) {
        self.image_holders.insert((image.id, node));
        for name in image.tags.iter().chain(&image.digests) {
            self.images_by_name.insert((name.clone(), image.id, node));
        }
    }

    fn forget_image(&mut self, node: NodeId, image: &Image) {
        self.image_holders.remove(&(image.id, node));
        for name in image.tags.iter().chain(&image.digests) {
            self.images_by_name.remove(&(name.clone(), image.id, node));
        }
    }

    fn index(&mut self, container: &Arc<Container>) {
        self.by_id.insert(container.id, Arc::clone(container));
        self.by_name.insert((container.name.clone(), container.id));
        self.by_age.insert((Reverse(container.created), container.id), Arc::clone(container));
    }

    fn forget(&mut self, container: &Arc<Container>) {
        // Cloned hosts may show one id on two nodes: what belongs to the other node stays.
        if self.by_id.get(&container.id).is_none_or(|known| known.node != container.node) {
            return;
        }
        self.by_id.remove(&container.id);
        self.by_age.remove(&(Reverse(container.created), container.id));
        self.by_name.remove(&(container.name.clone(), container.id));
    }
}

/// What comes in order, without its repetitions.
fn each_once<T: PartialEq + Copy>(sorted: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    let mut last = None;
    sorted.filter(move |item| last.replace(*item) != Some(*item))
}

#[cfg(test)]
mod tests;
