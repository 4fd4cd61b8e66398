//! The nouns of Wharf: ids, observed state, snapshots, error classes.

mod bytesize;
mod class;
mod endpoint;
mod id;
mod resource;
mod time;

pub use crate::{
    bytesize::{ByteSize, ParseByteSizeError},
    class::Class,
    endpoint::{Endpoint, ParseEndpointError},
    id::{ContainerId, IdPrefix, ImageId, NetworkId, NodeId, ParseIdError, ReservationId},
    resource::{Cpus, Resources},
    time::Timestamp,
};
