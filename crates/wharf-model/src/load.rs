use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops,
};

use imbl::OrdMap;

use crate::{Container, ContainerHealth, PROJECT_LABEL, Phase, PublishedPort, Resources, Transport};

/// What containers take of their node, summed up as they come and go: placement looks at every node, and cannot look at every
/// container as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// What they reserve.
    pub reserved: Resources,
    /// How many take room.
    pub count: usize,
    /// How many have only been listed: what they reserve is not known yet.
    pub unread: usize,
    /// How many there are of each phase.
    phases: [u32; Phase::NAMES.len()],
    /// How many run although their own check says that they are not well.
    unwell: u32,
    ports: BTreeMap<(u16, Transport), u32>,
    projects: BTreeMap<Box<str>, u32>,
    /// How many have a label, and a label that says just that, each by its hash: many labels, few questions.
    labels: OrdMap<u64, u32>,
}

impl Load {
    /// Whether a container takes this port, on whatever address.
    pub fn takes_port(&self, port: &PublishedPort) -> bool {
        port.host.is_some_and(|host| self.ports.contains_key(&(host, port.transport)))
    }

    /// Whether a container, whatever it does, belongs to that project ([`PROJECT_LABEL`]).
    pub fn has_project(&self, project: &str) -> bool {
        self.projects.contains_key(project)
    }

    /// How many are in that phase.
    pub fn in_phase(&self, phase: Phase) -> usize {
        self.phases[phase.index()] as usize
    }

    /// How many run and are not unhealthy by their own check.
    pub fn well(&self) -> usize {
        self.in_phase(Phase::Running).saturating_sub(self.unwell as usize)
    }

    /// Whether a container may have that label and, if a value is given, say that. False is certain.
    pub fn may_have_label(&self, key: &str, value: Option<&str>) -> bool {
        self.labels.contains_key(&hash(key, value))
    }

    fn change(&mut self, container: &Container, change: Change) {
        for (key, value) in container.labels.iter() {
            for hash in [hash(key, None), hash(key, Some(value))] {
                let count = self.labels.get(&hash).copied().unwrap_or(0);
                match change {
                    Change::Comes => drop(self.labels.insert(hash, count + 1)),
                    Change::Goes if count > 1 => drop(self.labels.insert(hash, count - 1)),
                    Change::Goes => drop(self.labels.remove(&hash)),
                }
            }
        }
        change.count32(&mut self.phases[container.phase.index()]);
        if container.phase == Phase::Running && container.health == ContainerHealth::Unhealthy {
            change.count32(&mut self.unwell);
        }
        if !container.is_inspected() {
            change.count(&mut self.unread);
        }
        if container.phase.takes_room() {
            match change {
                Change::Comes => self.reserved += container.reserved,
                Change::Goes => self.reserved -= container.reserved,
            }
            change.count(&mut self.count);
            for port in container.host_ports() {
                if let Some(host) = port.host {
                    change.entry(&mut self.ports, (host, port.transport));
                }
            }
        }
        if let Some(project) = container.labels.get(PROJECT_LABEL) {
            change.entry(&mut self.projects, project.into());
        }
    }
}

impl ops::AddAssign<&Container> for Load {
    fn add_assign(&mut self, container: &Container) {
        self.change(container, Change::Comes);
    }
}

impl ops::SubAssign<&Container> for Load {
    fn sub_assign(&mut self, container: &Container) {
        self.change(container, Change::Goes);
    }
}

#[derive(Clone, Copy)]
enum Change {
    Comes,
    Goes,
}

impl Change {
    fn count(self, count: &mut usize) {
        *count = match self {
            Self::Comes => *count + 1,
            Self::Goes => count.saturating_sub(1),
        };
    }

    fn count32(self, count: &mut u32) {
        *count = match self {
            Self::Comes => *count + 1,
            Self::Goes => count.saturating_sub(1),
        };
    }

    fn entry<K: Ord>(self, counts: &mut BTreeMap<K, u32>, key: K) {
        let count = counts.entry(key);
        match (self, count) {
            (Self::Comes, count) => *count.or_default() += 1,
            (Self::Goes, std::collections::btree_map::Entry::Occupied(mut count)) => {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
            (Self::Goes, std::collections::btree_map::Entry::Vacant(_)) => {}
        }
    }
}

fn hash(key: &str, value: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}
