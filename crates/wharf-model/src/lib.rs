//! The nouns of Wharf: ids, observed state, snapshots, error classes.
//!
//! Everything here is plain data. What is observed of the engines is kept in a [`Snapshot`], which is cheap to clone and
//! never changes once it is handed out. No I/O, no async, no clock: times come from outside.

mod bytesize;
mod class;
mod container;
mod endpoint;
mod id;
mod node;
mod resource;
mod snapshot;
mod time;

pub use crate::{
    bytesize::{ByteSize, ParseByteSizeError},
    class::Class,
    container::{
        Attachment, Container, ContainerHealth, ListEntry, MountPoint, NamespaceMode, Phase, PublishedPort, Transport,
    },
    endpoint::{Endpoint, ParseEndpointError},
    id::{ContainerId, IdPrefix, ImageId, NetworkId, NodeId, ParseIdError, ReservationId},
    node::{ApiVersion, Engine, Health, Image, Network, Node, ParseApiVersionError, Volume},
    resource::{Cpus, Resources},
    snapshot::{Ambiguous, Reservation, Resolution, Snapshot},
    time::Timestamp,
};
