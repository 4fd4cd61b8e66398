//! The part that a node's engine has of a fleet network: an ordinary network of the driver `bridge`, with the fleet network's
//! whole range and the node's own gateway. The node's agent joins it to the others.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use http::Method;
use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value, json};
use wharf_engine::wire::Touched;
use wharf_model::{Class, FLEET_LABEL, FLEET_NETWORK_LABEL, FleetNetwork, NetworkId, Node};

use super::Networks;
use crate::{API_NEWEST, Error, fleet::Link, front::of_engine};

/// An engine that makes a network sets up a bridge and its rules.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);

/// The nodes' agents have this long to make a new part reachable before a container is created on it all the same: they go on
/// trying, and it is the container's own business how long it waits for others.
const WIRED_WITHIN: Duration = Duration::from_secs(3);

/// Options of the engine's driver that Wharf decides on. That trusted devices may reach containers directly is what engines
/// before 28 allow in any case; they accept the option all the same.
const BRIDGE: &str = "com.docker.network.bridge";

impl Networks {
    /// Makes sure that a node, which has a slice, has its part, and that it is reachable.
    pub(super) async fn ensure_part(&self, network: NetworkId, node: &Node) -> Result<(), Error> {
        let turn = self.turn(network, node.id);
        let turn = turn.lock().await;
        let network = self.known(network)?;
        let made = self.make_part(&network, node).await?;
        // Whoever comes next finds it made, and need not wait for agents that say nothing.
        drop(turn);
        if made && !self.0.agents.settled(network.nodes(), WIRED_WITHIN).await {
            tracing::warn!("network {}: not all nodes were wired within {WIRED_WITHIN:?}", network.name);
        }
        Ok(())
    }

    /// Whether it was not there before.
    async fn make_part(&self, network: &FleetNetwork, node: &Node) -> Result<bool, Error> {
        let inner = &*self.0;
        let now = || inner.fleet.snapshot().node(node.id).is_some_and(|node| node.part_of(network.id).is_some());
        if now() {
            return Ok(false);
        }
        let away = || Error::unavailable(format!("{} does not answer", node.name));
        let link = inner.fleet.link(node.id).ok_or_else(away)?;
        let body = self.part(network, node).ok_or_else(|| Error::internal("a part without a slice"))?;
        let path = link.path(API_NEWEST, "/networks/create");
        let made = link.call(Method::POST, &path, Some(body.to_string().into()), CHANGE_WITHIN).await;
        link.observe(Touched::Networks).await;
        if let Err(error) = made
            && !now()
        {
            let error = of_engine(&error, node);
            let why = format!("{} cannot join network {}: {error}", node.name, network.name);
            return Err(Error::new(error.class, why));
        }
        Ok(true)
    }

    fn part(&self, network: &FleetNetwork, node: &Node) -> Option<Value> {
        let slice = network.slices_of(node.id).next()?;
        let mut labels: BTreeMap<&str, String> =
            network.labels.iter().map(|(key, value)| (&**key, value.to_string())).collect();
        labels.insert(FLEET_NETWORK_LABEL, network.id.to_string());
        labels.insert(FLEET_LABEL, self.0.fleet_id.clone());
        let options = json!({
            format!("{BRIDGE}.name"): network.bridge(),
            // What goes to other nodes keeps its address; the agent masks what leaves the fleet.
            format!("{BRIDGE}.enable_ip_masquerade"): "false",
            format!("{BRIDGE}.trusted_host_interfaces"): "wharf0:wharf1",
            "com.docker.network.driver.mtu": network.mtu.to_string(),
        });
        let mut options = options.as_object().cloned().unwrap_or_default();
        // The engine lets through what comes from tunnels only if it lets through everything; the agent keeps out the rest.
        let nftables = node.engine.as_ref().is_some_and(|engine| engine.nftables);
        if nftables {
            for family in ["ipv4", "ipv6"] {
                options.insert(format!("{BRIDGE}.gateway_mode_{family}"), "nat-unprotected".into());
            }
        }
        for (key, value) in network.options.iter().filter(|(key, _)| key.starts_with("com.docker.network.")) {
            options.entry(key.to_string()).or_insert_with(|| value.to_string().into());
        }
        let reserved: Map<String, Value> =
            network.reserved.iter().map(|(name, address)| (name.to_string(), address.to_string().into())).collect();
        let left = FleetNetwork::left_to_engine(slice);
        let mut configs = vec![json!({
            "Subnet": network.range.to_string(),
            "IPRange": left.to_string(),
            "Gateway": network.gateway_on(node.id)?.to_string(),
            "AuxiliaryAddresses": reserved,
        })];
        if let (Some(range6), Some(pairing)) = (network.range6, network.pairing()) {
            configs.push(json!({
                "Subnet": range6.to_string(),
                "IPRange": pairing.six_block(left).to_string(),
                "Gateway": network.gateway6_on(node.id)?.to_string(),
            }));
        }
        Some(json!({
            "Name": network.name,
            "CheckDuplicate": true,
            "Driver": "bridge",
            "Internal": network.internal && !nftables,
            "EnableIPv6": network.range6.is_some(),
            "IPAM": {"Driver": "default", "Config": configs},
            "Options": options,
            "Labels": labels,
        }))
    }

    /// Removes all parts that nodes which answer have of a network.
    pub(super) async fn remove_parts(&self, network: NetworkId) {
        let snapshot = self.0.fleet.snapshot();
        let with_part = snapshot.nodes().filter(|node| node.is_healthy() && node.part_of(network).is_some());
        join_all(with_part.map(|node| async move {
            if let Err(error) = self.remove_part(network, node).await {
                tracing::warn!("the part that {} has of network {network} stays for now: {error}", node.name);
            }
        }))
        .await;
    }

    /// Removes the part that a node has of a network. That it is gone is no error.
    pub(super) async fn remove_part(&self, network: NetworkId, node: &Node) -> Result<(), Error> {
        let away = || Error::unavailable(format!("{} does not answer", node.name));
        let link = self.0.fleet.link(node.id).ok_or_else(away)?;
        let Some(part) = node.part_of(network) else { return Ok(()) };
        let removed = remove(&link, &part.id.to_string()).await;
        link.observe(Touched::Networks).await;
        removed.map_err(|error| of_engine(&error, node))
    }
}

async fn remove(link: &Link, id: &str) -> Result<(), wharf_engine::Error> {
    let path = link.path(API_NEWEST, &format!("/networks/{id}"));
    match link.call(Method::DELETE, &path, None, CHANGE_WITHIN).await {
        Err(error) if error.class() != Class::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The ranges of an engine's network, of its entry in `GET /networks`.
pub(super) fn ranges(entry: &str) -> Vec<IpNet> {
    configs(entry).iter().filter_map(|config| config["Subnet"].as_str()?.parse().ok()).collect()
}

/// The address that a node has on one of its engine's own networks; its first where the engine does not say.
pub(crate) fn gateway(entry: &str) -> Option<std::net::Ipv4Addr> {
    configs(entry).iter().find_map(|config| {
        let told = config["Gateway"].as_str().and_then(|gateway| gateway.split('/').next()?.parse().ok());
        told.or_else(|| config["Subnet"].as_str()?.parse::<Ipv4Net>().ok()?.hosts().next())
    })
}

fn configs(entry: &str) -> Vec<Value> {
    let entry: Value = serde_json::from_str(entry).unwrap_or_default();
    entry["IPAM"]["Config"].as_array().cloned().unwrap_or_default()
}
