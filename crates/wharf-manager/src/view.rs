//! What clients are shown: answers made of a snapshot, or an engine's answer with the fleet's view patched in.
//!
//! Plain names are shown as they are; a name that several nodes have (`bridge`, say) is shown as `node/name`, which is
//! always understood.

pub(crate) mod containers;
pub(crate) mod events;
pub(crate) mod filter;
pub(crate) mod fold;
pub(crate) mod images;
pub(crate) mod info;
pub(crate) mod networks;
pub(crate) mod nodes;
pub(crate) mod query;
mod status;
pub(crate) mod volumes;

/// The label that tells the node of a container.
pub(crate) const NODE_LABEL: &str = "wharf.node";
