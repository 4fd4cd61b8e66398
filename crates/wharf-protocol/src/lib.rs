//! What managers and agents say to each other: HTTP with JSON, within TLS in which both prove who they are.
//!
//! An agent joins ([`Join`]) with a token, and from then on watches: a manager sends lines, each an [`Update`]. First all that
//! concerns the agent's node, then [`Update::Synced`], then every change as it comes, each batch closed by another `Synced`.
//! The agent reports ([`Report`]) what it has made of it. An agent that is cut off keeps to what it was told last.

mod host;
mod state;

pub use crate::{
    host::{Join, Joined, Probe, ProbeResult, Probed, Renew, Renewed, Report},
    state::{Container, Endpoint, Me, Network, Peer, State, Update},
};

/// The version of what is spoken here. Each side tells its own, and refuses one that it does not know.
pub const VERSION: u32 = 1;

/// The header in which each side tells [`VERSION`].
pub const VERSION_HEADER: &str = "wharf-protocol";

/// The port on which managers listen for agents, unless told otherwise.
pub const MANAGER_PORT: u16 = 2378;

/// The UDP port of the tunnel that is not encrypted.
pub const VXLAN_PORT: u16 = 4790;

/// The UDP port of the encrypted tunnel.
pub const SECURE_PORT: u16 = 4791;

/// `POST`: a [`Join`], answered by [`Joined`]. Needs a token, and no certificate.
pub const JOIN_PATH: &str = "/agent/join";

/// `POST`: a [`Renew`], answered by [`Renewed`].
pub const RENEW_PATH: &str = "/agent/renew";

/// `GET`: lines, each an [`Update`].
pub const WATCH_PATH: &str = "/agent/watch";

/// `POST`: a [`Report`].
pub const REPORT_PATH: &str = "/agent/report";

/// `POST`: a [`Probed`].
pub const PROBED_PATH: &str = "/agent/probed";
