//! A network as the store keeps it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use wharf_model::{FleetNetwork, NodeId, Timestamp};

/// A network, without its id, which is in the key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    id: String,
    name: Box<str>,
    driver: Box<str>,
    created: i64,
    labels: BTreeMap<Box<str>, Box<str>>,
    options: BTreeMap<Box<str>, Box<str>>,
    range: Ipv4Net,
    ip_range: Option<Ipv4Net>,
    gateway: Option<Ipv4Addr>,
    #[serde(default)]
    range6: Option<Ipv6Net>,
    #[serde(default)]
    gateway6: Option<Ipv6Addr>,
    reserved: BTreeMap<Box<str>, Ipv4Addr>,
    internal: bool,
    attachable: bool,
    encrypted: bool,
    mtu: u32,
    slices: BTreeMap<Ipv4Net, u32>,
    #[serde(default)]
    gateways: BTreeMap<u32, Ipv4Addr>,
}

impl From<&FleetNetwork> for NetworkRecord {
    fn from(network: &FleetNetwork) -> Self {
        Self {
            id: network.id.to_string(),
            name: network.name.clone(),
            driver: network.driver.clone(),
            created: network.created.as_nanos(),
            labels: network.labels.clone(),
            options: network.options.clone(),
            range: network.range,
            ip_range: network.ip_range,
            gateway: network.gateway,
            range6: network.range6,
            gateway6: network.gateway6,
            reserved: network.reserved.clone(),
            internal: network.internal,
            attachable: network.attachable,
            encrypted: network.encrypted,
            mtu: network.mtu,
            slices: network.slices.iter().map(|(slice, node)| (*slice, node.0)).collect(),
            gateways: network.gateways.iter().map(|(node, gateway)| (node.0, *gateway)).collect(),
        }
    }
}

impl NetworkRecord {
    /// The network; `None` if its id is none.
    pub(crate) fn network(self) -> Option<FleetNetwork> {
        Some(FleetNetwork {
            id: self.id.parse().ok()?,
            name: self.name,
            driver: self.driver,
            created: Timestamp::from_nanos(self.created),
            labels: self.labels,
            options: self.options,
            range: self.range,
            ip_range: self.ip_range,
            gateway: self.gateway,
            range6: self.range6,
            gateway6: self.gateway6,
            reserved: self.reserved,
            internal: self.internal,
            attachable: self.attachable,
            encrypted: self.encrypted,
            mtu: self.mtu,
            slices: self.slices.into_iter().map(|(slice, node)| (slice, NodeId(node))).collect(),
            gateways: self.gateways.into_iter().map(|(node, gateway)| (NodeId(node), gateway)).collect(),
        })
    }
}
