//! Fleet networks as clients see them: one network each, with the containers of all nodes.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use wharf_model::{Attachment, Container, FleetNetwork, Snapshot};

/// An entry of `GET /networks`, which is an inspection without the containers.
pub(super) fn entry(network: &FleetNetwork) -> Value {
    let created = jiff::Timestamp::from_nanosecond(network.created.as_nanos().into()).unwrap_or_default();
    let mut config = Map::new();
    config.insert("Subnet".to_owned(), network.range.to_string().into());
    if let Some(range) = network.ip_range {
        config.insert("IPRange".to_owned(), range.to_string().into());
    }
    // Without one of its own each node has another.
    let gateway =
        network.gateway.or_else(|| network.nodes().into_iter().next().and_then(|node| network.gateway_on(node)));
    if let Some(gateway) = gateway.or_else(|| network.range.hosts().next()) {
        config.insert("Gateway".to_owned(), gateway.to_string().into());
    }
    if !network.reserved.is_empty() {
        config.insert("AuxiliaryAddresses".to_owned(), json!(network.reserved));
    }
    let mut configs = vec![Value::Object(config)];
    if let Some(range6) = network.range6 {
        let of_a_node = || network.nodes().into_iter().next().and_then(|node| network.gateway6_on(node));
        let gateway = network.gateway6.or_else(of_a_node).or_else(|| range6.hosts().nth(1));
        let gateway = gateway.map(|gateway| gateway.to_string());
        configs.push(json!({"Subnet": range6.to_string(), "Gateway": gateway}));
    }
    json!({
        "Name": network.name,
        "Id": network.id.to_string(),
        "Created": created.to_string(),
        "Scope": "global",
        "Driver": network.shown_driver(),
        "EnableIPv4": true,
        "EnableIPv6": network.range6.is_some(),
        "IPAM": {"Driver": "default", "Options": {}, "Config": configs},
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": {},
        "Options": network.options,
        "Labels": network.labels,
    })
}

/// The answer to `GET /networks/{id}`: containers that run, as engines tell of them, each with its node; and which node has
/// which block.
pub(crate) fn inspect(network: &FleetNetwork, snapshot: &Snapshot) -> Value {
    let mut entry = entry(network);
    let up = snapshot.members(network).filter(|(_, container, _)| container.phase.is_up());
    entry["Containers"] =
        Value::Object(up.map(|(_, container, attached)| member(network, container, attached)).collect());
    let name = |node| snapshot.node(node).map_or_else(String::new, |node| node.name.to_string());
    let slices = network.slices.iter().map(|(slice, node)| {
        let six = network.pairing().map(|pairing| pairing.six_block(*slice).to_string());
        let mut shown = json!({"Slice": slice.to_string(), "Node": name(*node)});
        if let Some(six) = six {
            shown["SliceIPv6"] = six.into();
        }
        shown
    });
    entry["Slices"] = slices.collect();
    entry["MTU"] = network.mtu.into();
    entry["Encrypted"] = network.encrypted.into();
    entry
}

fn member(network: &FleetNetwork, container: &Container, attached: &Attachment) -> (String, Value) {
    let fleet = attached.fleet.as_deref();
    let address = attached.address.map_or_else(String::new, |address| match address {
        IpAddr::V4(_) => format!("{address}/{}", network.range.prefix_len()),
        IpAddr::V6(_) => address.to_string(),
    });
    let address6 =
        attached.address.zip(network.pairing()).zip(network.range6).and_then(|((address, pairing), range6)| {
            let IpAddr::V4(address) = address else { return None };
            Some(format!("{}/{}", pairing.six(address), range6.prefix_len()))
        });
    let member = json!({
        "Name": container.name,
        "EndpointID": fleet.map_or("", |fleet| &fleet.id),
        "MacAddress": fleet.map_or("", |fleet| &fleet.mac),
        "IPv4Address": address,
        "IPv6Address": address6.unwrap_or_default(),
    });
    (container.id.to_string(), member)
}
