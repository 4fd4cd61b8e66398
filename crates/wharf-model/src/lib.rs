//! The nouns of Wharf: ids, observed state, snapshots, error classes.
//!
//! Everything here is plain data. What is observed of the engines is kept in a [`Snapshot`], which is cheap to clone and
//! never changes once it is handed out. No I/O, no async, no clock: times come from outside.

mod bytesize;
mod class;
mod container;
mod endpoint;
mod fleet_network;
mod id;
mod labels;
mod load;
mod node;
mod pairing;
mod resource;
mod snapshot;
mod time;

/// The label by which Compose marks what belongs to one project.
pub const PROJECT_LABEL: &str = "com.docker.compose.project";

/// The label that keeps how many whole processors a container was promised by `--cpu-shares`, the predecessor's way.
pub const CPUS_LABEL: &str = "wharf.cpus";

/// The label that keeps which DNS servers a user gave a container, with commas between: its engine is given the agent first.
pub const DNS_LABEL: &str = "wharf.dns";

/// The name of the container, the image and the volume that an agent is made of on its node.
pub const AGENT_NAME: &str = "wharf-agent";

/// The label by which that container is known; it says the fleet's id. Clients do not see such a container.
pub const AGENT_LABEL: &str = "wharf.agent";

pub use crate::{
    bytesize::{ByteSize, ParseByteSizeError},
    class::Class,
    container::{
        Attachment, Container, ContainerHealth, ENTRY_END, FleetEndpoint, MountPoint, NamespaceMode, Phase, PortRange,
        PublishedPort, Transport,
    },
    endpoint::{Endpoint, ParseEndpointError},
    fleet_network::{ENDPOINT_OPTION, FLEET_LABEL, FLEET_NETWORK_LABEL, FleetNetwork},
    id::{ContainerId, IdPrefix, ImageId, NetworkId, NodeId, ParseIdError, ReservationId},
    labels::Labels,
    load::Load,
    node::{
        Agent, ApiVersion, BUILT_IN_LABELS, Engine, Few, Health, Image, Network, Node, PREDEFINED_NETWORKS,
        ParseApiVersionError, SLOTS_LABEL, Volume,
    },
    pairing::Pairing,
    resource::{Cpus, Resources},
    snapshot::{Ambiguous, Reservation, Resolution, Snapshot},
    time::Timestamp,
};
