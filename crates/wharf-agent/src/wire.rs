//! Makes the kernel of one node look as a wish says, and checks that it does: the data plane of fleet networks.
//!
//! Everything that a packet between two containers needs is kernel state: a VXLAN device with one neighbour and one
//! forwarding entry per node, one route per remote slice, filter chains that keep networks apart. So containers keep
//! talking while this process is stopped, replaced or gone.
//!
//! [`Wire::converge`] reads what the kernel has (`observe`), subtracts it from the wish (`plan`, `rules`: pure
//! functions) and does only what differs (`apply`). [`Wire::check`] stops before the doing. **Invariant:** routes of
//! another protocol number, chains of another name and devices of another name are never changed.

mod apply;
mod facts;
mod host;
mod kernel;
mod observe;
mod plan;
mod problem;
mod programs;
mod rules;
mod step;
mod table;
mod watch;
mod wish;

pub use facts::{Facts, facts};
pub use host::Host;
pub use kernel::Wire;
pub use problem::{Error, Problem, Report};
pub use watch::{LinkChange, LinkEvent};
pub use wish::{
    BRIDGE_PREFIX, Network, PLAIN_TUNNEL, Peer, ROUTE_PROTOCOL, SECURE_TUNNEL, TUNNEL_VNI, Wish, tunnel_mac,
};
