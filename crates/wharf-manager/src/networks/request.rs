//! `POST /networks/create` for a network that spans the fleet.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use serde_json::{Map, Value};
use wharf_model::{Class, FLEET_NETWORK_LABEL, FleetNetwork, NetworkId, Pairing};

use crate::{Error, fleet::now};

/// The option that keeps a network on one node.
const SCOPE_OPTION: &str = "wharf.scope";

/// The engine's option for the largest packet.
const MTU_OPTION: &str = "com.docker.network.driver.mtu";

/// An option that only makes sense of one engine's bridge.
const BRIDGE_NAME_OPTION: &str = "com.docker.network.bridge.name";

/// Drivers that may mean a fleet network: clients send `bridge` when their user says nothing, or nothing at all.
const DRIVERS: [&str; 4] = ["", "overlay", "bridge", "default"];

/// The shortest and the longest prefix of a fleet network's range: a container, a gateway, and the two ends.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=29;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct NewNetwork {
    pub(crate) name: Box<str>,
    driver: Box<str>,
    labels: BTreeMap<Box<str>, Box<str>>,
    options: BTreeMap<Box<str>, Box<str>>,
    /// The range; `None` for any.
    pub(super) range: Option<Ipv4Net>,
    ip_range: Option<Ipv4Net>,
    gateway: Option<Ipv4Addr>,
    /// Whether it has IPv6 addresses, too.
    ipv6: bool,
    /// Their range; `None` for any.
    pub(super) range6: Option<Ipv6Net>,
    gateway6: Option<Ipv6Addr>,
    reserved: BTreeMap<Box<str>, Ipv4Addr>,
    internal: bool,
    attachable: bool,
    encrypted: bool,
    /// The largest packet, if the user says it.
    pub(super) mtu: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct View {
    driver: Option<Box<str>>,
    internal: Option<bool>,
    attachable: Option<bool>,
    ingress: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    ipv6: Option<bool>,
    #[serde(rename = "EnableIPv4")]
    ipv4: Option<bool>,
    config_only: Option<bool>,
    config_from: Option<ConfigFrom>,
    scope: Option<Box<str>>,
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
    options: Option<BTreeMap<Box<str>, Box<str>>>,
    labels: Option<BTreeMap<Box<str>, Option<Box<str>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigFrom {
    network: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    driver: Option<Box<str>>,
    config: Option<Vec<IpamConfig>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IpamConfig {
    #[serde(rename = "Subnet")]
    subnet: Option<String>,
    #[serde(rename = "IPRange")]
    ip_range: Option<String>,
    #[serde(rename = "Gateway")]
    gateway: Option<String>,
    #[serde(rename = "AuxiliaryAddresses", alias = "AuxAddress")]
    reserved: Option<BTreeMap<Box<str>, String>>,
}

impl NewNetwork {
    /// Reads a request. `None` if it is for a network of one node: of another driver, or because it says so.
    ///
    /// # Errors
    /// [`Class::Invalid`] for what makes no sense, [`Class::Unsupported`] for what fleet networks cannot do.
    pub(crate) fn parse(name: &str, body: &Map<String, Value>) -> Result<Option<Self>, Error> {
        let view: View = serde_json::from_value(Value::Object(body.clone()))
            .map_err(|error| Error::invalid(format!("invalid JSON: {error}")))?;
        let options = view.options.unwrap_or_default();
        let driver = view.driver.unwrap_or_default();
        let scope = options.get(SCOPE_OPTION).map(|scope| &**scope);
        let scope = scope.or_else(|| view.scope.as_deref().filter(|scope| *scope == "local"));
        let of_a_node = matches!(scope, Some("node" | "local"))
            || view.config_only == Some(true)
            || view.config_from.is_some_and(|from| !from.network.is_empty())
            || options.contains_key(BRIDGE_NAME_OPTION)
            || !DRIVERS.contains(&&*driver);
        match scope {
            Some("node" | "local" | "fleet") | None => {}
            Some(other) => {
                return Err(Error::invalid(format!("option {SCOPE_OPTION}={other}: want node or fleet")));
            }
        }
        if of_a_node {
            return Ok(None);
        }
        let unsupported = |what: &str| {
            let why =
                format!("{what} is not for networks that span the fleet; --opt {SCOPE_OPTION}=node makes one node's");
            Err(Error::new(Class::Unsupported, why))
        };
        if view.ipv4 == Some(false) {
            return unsupported("IPv6 alone");
        }
        if view.ingress == Some(true) {
            return unsupported("--ingress");
        }
        let ipam = view.ipam.unwrap_or_default();
        if let Some(driver) = ipam.driver.filter(|driver| !matches!(&**driver, "" | "default")) {
            return unsupported(&format!("the address driver {driver}"));
        }
        let (configs, configs6): (Vec<_>, Vec<_>) =
            ipam.config.unwrap_or_default().into_iter().partition(|config| !config.is_of_ipv6());
        if configs.len() > 1 || configs6.len() > 1 {
            return unsupported("a second subnet");
        }
        let mtu = options.get(MTU_OPTION).map(|text| {
            let bad = || Error::invalid(format!("option {MTU_OPTION}={text}: want a number of bytes from 1280 on"));
            text.parse::<u32>().ok().filter(|mtu| *mtu >= super::LEAST_MTU).ok_or_else(bad)
        });
        let encrypted = options.get("encrypted").is_some_and(|value| !matches!(&**value, "false" | "0"));
        let labels = view.labels.unwrap_or_default().into_iter();
        let labels = labels.map(|(key, value)| (key, value.unwrap_or_default()));
        let new = Self {
            name: name.into(),
            driver,
            labels: labels.filter(|(key, _)| **key != *FLEET_NETWORK_LABEL).collect(),
            options,
            range: None,
            ip_range: None,
            gateway: None,
            ipv6: view.ipv6.unwrap_or(false),
            range6: None,
            gateway6: None,
            reserved: BTreeMap::new(),
            internal: view.internal.unwrap_or(false),
            attachable: view.attachable.unwrap_or(false),
            encrypted,
            mtu: mtu.transpose()?,
        };
        new.with_addresses(configs.into_iter().next().unwrap_or_default())?
            .with_ipv6_addresses(configs6.into_iter().next().unwrap_or_default())
            .map(Some)
    }

    fn with_addresses(mut self, config: IpamConfig) -> Result<Self, Error> {
        let range = |key: &str, text: &str| {
            let bad = || Error::invalid(format!("{key} {text:?}: want a range of IPv4 addresses such as 10.1.0.0/16"));
            text.parse::<Ipv4Net>().map_err(|_| bad())
        };
        let Some(subnet) = said(config.subnet) else {
            if said(config.gateway).is_some() || said(config.ip_range).is_some() {
                return Err(Error::invalid("IPAM.Config: a gateway or a range needs a Subnet such as 10.1.0.0/16"));
            }
            return Ok(self);
        };
        let net = range("Subnet", &subnet)?;
        whole(net.into())?;
        if !PREFIXES.contains(&net.prefix_len()) {
            return Err(Error::invalid(format!(
                "Subnet {net}: a network that spans the fleet has between 8 addresses (/29) and 16 million (/8)"
            )));
        }
        let inside = |key: &str, text: &str| {
            let bad = || Error::invalid(format!("{key} {text:?}: want an IPv4 address of {net}"));
            text.parse::<Ipv4Addr>().ok().filter(|address| net.contains(address)).ok_or_else(bad)
        };
        self.range = Some(net);
        if let Some(text) = said(config.ip_range) {
            let part = range("IPRange", &text)?.trunc();
            if !net.contains(&part) {
                return Err(Error::invalid(format!("IPRange {part}: it is no part of {net}")));
            }
            self.ip_range = Some(part);
        }
        self.gateway = said(config.gateway).map(|text| inside("Gateway", &text)).transpose()?;
        for (name, text) in config.reserved.unwrap_or_default() {
            let address = inside("AuxiliaryAddresses", &text)?;
            self.reserved.insert(name, address);
        }
        Ok(self)
    }

    fn with_ipv6_addresses(mut self, config: IpamConfig) -> Result<Self, Error> {
        let Some(subnet) = said(config.subnet) else {
            if config.gateway.is_some() || config.ip_range.is_some() {
                return Err(Error::invalid("IPAM.Config: a gateway or a range needs a Subnet such as fd12:3456::/64"));
            }
            return Ok(self);
        };
        if !self.ipv6 {
            return Err(Error::invalid(format!("Subnet {subnet}: IPv6 is not enabled for this network (--ipv6)")));
        }
        let bad =
            || Error::invalid(format!("Subnet {subnet:?}: want a range of IPv6 addresses such as fd12:3456::/64"));
        let net: Ipv6Net = subnet.parse().map_err(|_| bad())?;
        whole(net.into())?;
        if said(config.ip_range).is_some() || config.reserved.is_some_and(|reserved| !reserved.is_empty()) {
            return Err(Error::new(
                Class::Unsupported,
                format!(
                    "parts of Subnet {net}: on networks that span the fleet a container's IPv6 address follows from its IPv4 \
                     address; say it of those"
                ),
            ));
        }
        self.range6 = Some(net);
        let inside = |text: String| {
            let bad = || Error::invalid(format!("Gateway {text:?}: want an IPv6 address of {net}"));
            text.parse::<Ipv6Addr>().ok().filter(|address| net.contains(address)).ok_or_else(bad)
        };
        self.gateway6 = said(config.gateway).map(inside).transpose()?;
        Ok(self)
    }

    /// The network that it becomes.
    ///
    /// # Errors
    /// [`Class::Invalid`] if its IPv6 range is smaller than the other.
    pub(super) fn network(self, range: Ipv4Net, mtu: u32) -> Result<FleetNetwork, Error> {
        let mut id = [0; 32];
        // The kernel gives so few bytes at once, whenever it is asked after its start.
        rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).expect("the kernel has random numbers");
        let range6 = self.range6.or_else(|| self.ipv6.then(|| unique_local(&id)));
        if let Some(range6) = range6.filter(|range6| Pairing::new(range, *range6).is_none()) {
            return Err(Error::invalid(format!(
                "Subnet {range6}: it has fewer addresses than {range}, with which its own go in pairs; want a prefix of /{} or \
                 less",
                Pairing::longest_prefix(range)
            )));
        }
        Ok(FleetNetwork {
            driver: self.driver,
            created: now(),
            labels: self.labels,
            options: self.options,
            ip_range: self.ip_range,
            gateway: self.gateway,
            range6,
            gateway6: self.gateway6,
            reserved: self.reserved,
            internal: self.internal,
            attachable: self.attachable,
            encrypted: self.encrypted,
            ..FleetNetwork::new(NetworkId::from_bytes(id), &self.name, range, mtu)
        })
    }
}

impl IpamConfig {
    fn is_of_ipv6(&self) -> bool {
        let subnet = self.subnet.as_deref().filter(|text| !text.is_empty());
        subnet.or(self.gateway.as_deref()).or(self.ip_range.as_deref()).is_some_and(|text| text.contains(':'))
    }
}

fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Refuses a range with the address of one of its hosts.
fn whole(net: IpNet) -> Result<(), Error> {
    let right = net.trunc();
    if net == right { Ok(()) } else { Err(Error::invalid(format!("invalid subnet {net}: it should be {right}"))) }
}

/// A range that nobody else has: fifty-six random bits below fd00::/8 (RFC 4193).
fn unique_local(random: &[u8; 32]) -> Ipv6Net {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random[..7]);
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: Value) -> Result<Option<NewNetwork>, Error> {
        NewNetwork::parse("blue", body.as_object().unwrap())
    }

    #[test]
    fn every_clients_way_to_say_nothing_means_a_fleet_network() {
        for body in [
            json!({}),
            json!({"Driver": "", "CheckDuplicate": true, "IPAM": null, "Options": null, "Labels": null}),
            json!({"Driver": "bridge", "Scope": "", "IPAM": {"Driver": "default", "Options": {}, "Config": []},
                "ConfigFrom": null, "EnableIPv6": false}),
            json!({"Driver": "overlay", "Attachable": true, "ConfigFrom": {"Network": ""}}),
        ] {
            assert!(parse(body.clone()).unwrap().is_some_and(|new| new.range.is_none()), "{body}");
        }
    }

    #[test]
    fn networks_of_one_node_say_so() {
        for body in [
            json!({"Driver": "macvlan"}),
            json!({"Options": {"wharf.scope": "node"}}),
            json!({"Scope": "local"}),
            json!({"ConfigOnly": true}),
            json!({"ConfigFrom": {"Network": "conf"}}),
            json!({"Options": {"com.docker.network.bridge.name": "br7"}}),
        ] {
            assert!(parse(body.clone()).unwrap().is_none(), "{body}");
        }
        assert!(parse(json!({"Options": {"wharf.scope": "moon"}})).is_err());
    }

    #[test]
    fn addresses_are_checked() {
        let config = |config: Value| parse(json!({"IPAM": {"Config": [config]}})).map(|new| new.unwrap());
        let good = config(json!({"Subnet": "10.5.0.0/24", "Gateway": "10.5.0.254", "IPRange": "10.5.0.0/25",
            "AuxiliaryAddresses": {"router": "10.5.0.7"}}))
        .unwrap();
        assert_eq!(good.gateway, Some(Ipv4Addr::new(10, 5, 0, 254)));
        assert_eq!(good.reserved.len(), 1);
        for bad in [
            json!({"Gateway": "10.5.0.1"}),
            json!({"Subnet": "10.5.0.7/24"}),
            json!({"Subnet": "10.5.0.0/30"}),
            json!({"Subnet": "fd00::/64"}),
            json!({"Gateway": "fd00::1"}),
            json!({"Subnet": "10.5.0.0/24", "Gateway": "10.6.0.1"}),
            json!({"Subnet": "10.5.0.0/24", "IPRange": "10.6.0.0/25"}),
            json!({"Subnet": "10.5.0.0/24", "AuxiliaryAddresses": {"a": "x"}}),
        ] {
            assert!(config(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn ipv6_addresses_are_checked_and_made() {
        let range = "10.5.0.0/16".parse().unwrap();
        let made = |body| parse(body).and_then(|new| new.unwrap().network(range, 1370));
        let any = made(json!({"EnableIPv6": true})).unwrap().range6.unwrap();
        assert!(any.prefix_len() == 64 && any.network().segments()[0] >> 8 == 0xfd, "{any}");
        let configs = |subnet, gateway| {
            made(json!({"EnableIPv6": true,
            "IPAM": {"Config": [{"Subnet": "10.5.0.0/16"}, {"Subnet": subnet, "Gateway": gateway}]}}))
        };
        let asked = configs("fd12::/80", "fd12::9").unwrap();
        assert_eq!(asked.range6, Some("fd12::/80".parse().unwrap()));
        assert_eq!(asked.gateway6_on(wharf_model::NodeId(1)), Some("fd12::9".parse().unwrap()));
        assert!(!asked.is_assignable(Ipv4Addr::new(10, 5, 0, 9)), "its pair is the gateway");
        for (subnet, gateway) in [("fd12::1/80", ""), ("fd12::/113", ""), ("fd12::/80", "fd13::1"), ("fd12::/80", "x")]
        {
            assert_eq!(configs(subnet, gateway).unwrap_err().class, Class::Invalid, "{subnet} {gateway}");
        }
        assert_eq!(parse(json!({"EnableIPv4": false, "EnableIPv6": true})).unwrap_err().class, Class::Unsupported);
        let twice = json!({"EnableIPv6": true, "IPAM": {"Config": [{"Subnet": "fd12::/64"}, {"Subnet": "fd13::/64"}]}});
        assert_eq!(parse(twice).unwrap_err().class, Class::Unsupported);
    }
}
