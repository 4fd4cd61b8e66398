//! An engine's networks: their ranges and options, who is on them, and with which address.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde_json::{Map, Value, json};

use crate::{
    Dice, Engine, State,
    answer::Refusal,
    engine::Inside,
    render::{self, Or},
};

/// A container on a network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    /// What was asked of the endpoint.
    pub(crate) settings: Value,
    /// The address that it has, while the container runs.
    pub(crate) address: Option<Ipv4Addr>,
    /// The endpoint's id, as long.
    pub(crate) id: String,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: u32,
    last: u32,
}

/// The networks that every engine has.
pub(crate) fn predefined(dice: &mut Dice) -> BTreeMap<String, Value> {
    let bridge = json!({"IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]}});
    let none = json!({"IPAM": {"Config": []}});
    let networks = [("bridge", bridge), ("host", none.clone()), ("none", none)];
    networks.map(|(name, body)| (name.to_owned(), network(&render::hex(&dice.id()), name, &body))).into()
}

/// A network as it is listed.
fn network(id: &str, name: &str, body: &Value) -> Value {
    let driver = match name {
        "host" => "host",
        "none" => "null",
        _ => body["Driver"].as_str().filter(|driver| !driver.is_empty()).unwrap_or("bridge"),
    };
    let config = body["IPAM"]["Config"].as_array().cloned().unwrap_or_default();
    json!({
        "Name": name, "Id": id, "Created": "2023-11-14T22:13:20Z", "Scope": "local", "Driver": driver, "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": config },
        "Internal": body["Internal"] == true, "Attachable": body["Attachable"] == true, "Ingress": false,
        "ConfigFrom": { "Network": "" }, "ConfigOnly": false, "Containers": {},
        "Options": body["Options"].clone().or(json!({})), "Labels": body["Labels"].clone().or(json!({})),
    })
}

// === impl Range ===

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let (address, length): (Ipv4Addr, u32) = (address.parse().ok()?, length.parse().ok()?);
        let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
        let first = u32::from(address) & !hosts;
        Some(Self { first, last: first | hosts })
    }

    /// A field of a network's only range.
    fn of(network: &Value, key: &str) -> Option<Self> {
        Self::parse(network["IPAM"]["Config"][0][key].as_str()?)
    }

    fn contains(self, address: u32) -> bool {
        (self.first..=self.last).contains(&address)
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

// === impl Joined ===

impl Joined {
    /// The address that it is to have.
    pub(crate) fn asked(&self) -> Option<Ipv4Addr> {
        self.settings["IPAMConfig"]["IPv4Address"].as_str()?.parse().ok()
    }
}

// === impl Engine ===

impl Engine {
    pub(crate) fn create_network(&self, body: &Value) -> Result<String, Refusal> {
        let name = body["Name"].as_str().unwrap_or("").to_owned();
        let mut inside = self.inside();
        if inside.networks.contains_key(&name) {
            return Err(Refusal::conflict(format!("network with name {name} already exists")));
        }
        let mut body = body.clone();
        let said = Range::of(&body, "Subnet");
        let taken: Vec<_> = inside.networks.values().filter_map(|network| Range::of(network, "Subnet")).collect();
        if said.is_some_and(|range| taken.iter().any(|other| other.overlaps(range))) {
            return Err(Refusal::forbidden("Pool overlaps with other one on this address space".to_owned()));
        }
        if said.is_none() {
            let free = (18..32).map(|second| format!("172.{second}.0.0/16"));
            let is_free =
                |text: &String| Range::parse(text).is_some_and(|one| !taken.iter().any(|it| it.overlaps(one)));
            let free = free.into_iter().find(is_free).unwrap_or_else(|| "192.168.0.0/20".to_owned());
            body["IPAM"] = json!({"Config": [{"Subnet": free}]});
        }
        let id = render::hex(&inside.dice.id());
        inside.networks.insert(name.clone(), network(&id, &name, &body));
        self.publish(&mut inside, "network", "create", &id, &json!({ "name": name }));
        Ok(id)
    }

    pub(crate) fn remove_network(&self, reference: &str) -> Result<(), Refusal> {
        let mut inside = self.inside();
        let name = inside.network(reference)?;
        let id = inside.networks[&name]["Id"].as_str().unwrap_or("").to_owned();
        if inside.on_network(&name).next().is_some() {
            return Err(Refusal::forbidden(format!(
                "error while removing network: network {name} id {id} has active endpoints"
            )));
        }
        inside.networks.remove(&name);
        self.publish(&mut inside, "network", "destroy", &id, &json!({ "name": name }));
        Ok(())
    }

    pub(crate) fn connect(&self, reference: &str, body: &Value) -> Result<(), Refusal> {
        let mut inside = self.inside();
        let name = inside.network(reference)?;
        let id = inside.find(body["Container"].as_str().unwrap_or(""))?;
        let container = &inside.containers[&id];
        if container.joined.contains_key(&name) {
            let of = &container.name;
            return Err(Refusal::forbidden(format!("endpoint with name {of} already exists in network {name}")));
        }
        let up = matches!(container.state, State::Running | State::Paused);
        let mut joined = Joined { settings: body["EndpointConfig"].clone().or(json!({})), ..Joined::default() };
        if up {
            joined = self.entered(&mut inside, &name, joined, &id)?;
        }
        inside.containers.entry(id).and_modify(|container| drop(container.joined.insert(name.clone(), joined)));
        if !up {
            self.of_network(&mut inside, "connect", &name, &id);
        }
        Ok(())
    }

    pub(crate) fn disconnect(&self, reference: &str, body: &Value) -> Result<(), Refusal> {
        let mut inside = self.inside();
        let name = inside.network(reference)?;
        let id = inside.find(body["Container"].as_str().unwrap_or(""))?;
        let left = inside.containers.get_mut(&id).and_then(|container| container.joined.remove(&name));
        if left.is_none() {
            let hex = render::hex(&id);
            return Err(Refusal::forbidden(format!("container {hex} is not connected to network {name}")));
        }
        self.of_network(&mut inside, "disconnect", &name, &id);
        Ok(())
    }

    /// Gives a container that is about to run its addresses.
    pub(crate) fn enter_all(&self, inside: &mut Inside, id: &[u8; 32]) -> Result<(), Refusal> {
        let all = inside.containers[id].joined.clone();
        for (name, joined) in all {
            let entered = self.entered(inside, &name, joined, id);
            let entered = entered.inspect_err(|_| self.leave_all(inside, id))?;
            inside.containers.entry(*id).and_modify(|container| drop(container.joined.insert(name, entered)));
        }
        Ok(())
    }

    /// Takes the addresses of a container that has ended.
    pub(crate) fn leave_all(&self, inside: &mut Inside, id: &[u8; 32]) {
        let Some(container) = inside.containers.get_mut(id) else { return };
        let mut left = Vec::new();
        for (name, joined) in &mut container.joined {
            if joined.address.take().is_some() {
                left.push(name.clone());
            }
        }
        left.iter().for_each(|name| self.of_network(inside, "disconnect", name, id));
    }

    fn entered(&self, inside: &mut Inside, name: &str, joined: Joined, id: &[u8; 32]) -> Result<Joined, Refusal> {
        if !inside.networks.contains_key(name) {
            return Err(Refusal::not_found(format!("network {name} not found")));
        }
        let address = inside.address(name, joined.asked())?;
        let endpoint = render::hex(&inside.dice.id());
        self.of_network(inside, "connect", name, id);
        Ok(Joined { address, id: endpoint, ..joined })
    }

    fn of_network(&self, inside: &mut Inside, action: &str, name: &str, container: &[u8; 32]) {
        let id = inside.networks.get(name).and_then(|network| network["Id"].as_str()).unwrap_or("").to_owned();
        let attributes = json!({ "container": render::hex(container), "name": name, "type": "bridge" });
        self.publish(inside, "network", action, &id, &attributes);
    }
}

// === impl Inside ===

impl Inside {
    pub(crate) fn network(&self, reference: &str) -> Result<String, Refusal> {
        if self.networks.contains_key(reference) {
            return Ok(reference.to_owned());
        }
        let found = self
            .networks
            .iter()
            .find(|(_, network)| network["Id"].as_str().is_some_and(|id| id.starts_with(reference)));
        found.map(|(name, _)| name.clone()).ok_or_else(|| Refusal::not_found(format!("network {reference} not found")))
    }

    /// A network as it is inspected: with those who are on it.
    pub(crate) fn network_inspect(&self, name: &str) -> Value {
        let mut network = self.networks[name].clone();
        let containers = self.on_network(name).map(|(id, container, joined)| {
            let address = joined.address.map(|address| format!("{address}/16")).unwrap_or_default();
            let told = json!({"Name": container, "EndpointID": joined.id, "MacAddress": "", "IPv4Address": address,
                "IPv6Address": ""});
            (render::hex(id), told)
        });
        network["Containers"] = Value::Object(containers.collect());
        network
    }

    /// What a create asks for: engines of this age take one network at a time.
    pub(crate) fn joins(&self, body: &Value) -> Result<BTreeMap<String, Joined>, Refusal> {
        let none = Map::new();
        let endpoints = body["NetworkingConfig"]["EndpointsConfig"].as_object().unwrap_or(&none);
        if endpoints.len() > 1 {
            let names: Vec<_> = endpoints.keys().map(String::as_str).collect();
            return Err(Refusal::invalid(format!(
                "Container cannot be connected to network endpoints: {}",
                names.join(", ")
            )));
        }
        let mode = body["HostConfig"]["NetworkMode"].as_str().unwrap_or("");
        let mode = if matches!(mode, "" | "default") { "bridge" } else { mode };
        if mode.starts_with("container:") {
            return Ok(BTreeMap::new());
        }
        let settings = endpoints.get(mode).or_else(|| endpoints.values().next());
        let settings = settings.cloned().unwrap_or(Value::Null).or(json!({}));
        Ok([(mode.to_owned(), Joined { settings, ..Joined::default() })].into())
    }

    fn on_network(&self, name: &str) -> impl Iterator<Item = (&[u8; 32], &String, &Joined)> {
        self.containers.iter().filter_map(move |(id, container)| {
            let joined = container.joined.get(name).filter(|joined| joined.address.is_some())?;
            Some((id, &container.name, joined))
        })
    }

    /// An address of a network: the one that is asked for, or any; `None` on networks without addresses.
    fn address(&self, name: &str, asked: Option<Ipv4Addr>) -> Result<Option<Ipv4Addr>, Refusal> {
        let network = &self.networks[name];
        let Some(range) = Range::of(network, "Subnet") else { return Ok(None) };
        let taken = |address: Ipv4Addr| self.on_network(name).any(|(_, _, joined)| joined.address == Some(address));
        if let Some(asked) = asked {
            if !range.contains(asked.into()) {
                return Err(Refusal::invalid(format!(
                    "Invalid address {asked}: It does not belong to any of this network's \
                    subnets"
                )));
            }
            return if taken(asked) {
                Err(Refusal::forbidden("Address already in use".to_owned()))
            } else {
                Ok(Some(asked))
            };
        }
        let from = Range::of(network, "IPRange").unwrap_or(range);
        let gateway = network["IPAM"]["Config"][0]["Gateway"].as_str().and_then(|gateway| gateway.parse().ok());
        let gateway: Ipv4Addr = gateway.unwrap_or_else(|| Ipv4Addr::from(range.first + 1));
        let ends = [range.first, range.last];
        let free = (from.first..=from.last).filter(|address| !ends.contains(address)).map(Ipv4Addr::from);
        let free = free.into_iter().find(|address| *address != gateway && !taken(*address));
        free.map(Some)
            .ok_or_else(|| Refusal::forbidden("no available IPv4 addresses on this network's pools".to_owned()))
    }
}
