//! The names in certificates. They say who somebody is and not where, so that addresses may change.

use std::fmt;

use rustls::pki_types::{DnsName, ServerName};
use serde::{Deserialize, Serialize};

/// The DNS name in every manager's certificate. No DNS server knows it; agents check it wherever they connect to.
pub const MANAGER_NAME: &str = "manager.wharf";

/// What follows a node's name in its certificate's DNS name.
const NODE_DOMAIN: &str = ".node.wharf";

/// A node's number, which the manager gives it when it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeNumber(pub u32);

/// The name that agents expect of a manager, for a TLS connector.
pub fn manager_name() -> ServerName<'static> {
    ServerName::DnsName(DnsName::try_from(MANAGER_NAME).expect("the constant is a DNS name"))
}

// === impl NodeNumber ===

impl NodeNumber {
    /// The DNS name in the node's certificate, such as `node-7.node.wharf`.
    pub fn dns_name(self) -> String {
        format!("{self}{NODE_DOMAIN}")
    }

    /// The node of a DNS name, if it is one that [`NodeNumber::dns_name`] gives.
    pub fn from_dns_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("node-")?.strip_suffix(NODE_DOMAIN)?;
        let number = Self(digits.parse().ok()?);
        // Other spellings, such as `+7` and `07`, are nobody's.
        (number.dns_name() == name).then_some(number)
    }
}

impl fmt::Display for NodeNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "node-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_name() {
        for number in [0, 7, u32::MAX] {
            assert_eq!(NodeNumber::from_dns_name(&NodeNumber(number).dns_name()), Some(NodeNumber(number)));
        }
        for name in [
            "node-07.node.wharf",
            "node-+7.node.wharf",
            "node-4294967296.node.wharf",
            "node-.node.wharf",
            "node-7",
            "node-7.node.wharf.example",
            "x.node-7.node.wharf",
            "manager.wharf",
        ] {
            assert_eq!(NodeNumber::from_dns_name(name), None, "{name}");
        }
    }
}
