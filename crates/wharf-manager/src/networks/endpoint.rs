//! What a container's engine is told of its endpoints on fleet networks, and how clients see them afterwards.
//!
//! The engine gets the address, and keeps what the client asked for in an option of the endpoint: were it given aliases
//! and links, it would answer for its own containers alone.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};
use wharf_model::{ENDPOINT_OPTION, FleetNetwork, NetworkId, Node};

use super::{Lease, Networks};
use crate::Error;

/// What of an endpoint is the client's to ask and Wharf's to answer.
const KEPT: [&str; 3] = ["Aliases", "Links", "IPAMConfig"];

/// A fleet network that a container is to be on from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Join {
    /// Its id.
    pub(crate) network: NetworkId,
    /// Its name, which is the engines' as well.
    pub(crate) name: Box<str>,
    /// The address that is asked for.
    pub(crate) address: Option<Ipv4Addr>,
}

/// The addresses of a container that is being created, and where its names are asked for.
#[derive(Debug, Default)]
pub(crate) struct Wiring {
    /// An address on each of its fleet networks, by the network's name.
    pub(crate) leases: Vec<(Box<str>, Lease)>,
    /// The address at which the node's agent answers for names; `None` where there is no agent to.
    pub(crate) names: Option<Ipv4Addr>,
}

impl Networks {
    /// Makes a node ready for a container that is to be on these networks.
    ///
    /// # Errors
    /// As [`Networks::lease`].
    pub(crate) async fn wire(&self, joins: &[Join], node: &Node) -> Result<Wiring, Error> {
        let mut leases = Vec::new();
        for join in joins {
            leases.push((join.name.clone(), self.lease(join.network, node, join.address).await?));
        }
        let snapshot = self.0.fleet.snapshot();
        let first = joins.first().and_then(|join| snapshot.fleet_network(join.network));
        Ok(Wiring { leases, names: names_at(node, first.map(AsRef::as_ref)) })
    }
}

/// Where the containers of a node ask for names. The default bridge's address stays while the node does; a network's own goes
/// with the network, but is all that those on an internal network reach.
fn names_at(node: &Node, network: Option<&FleetNetwork>) -> Option<Ipv4Addr> {
    if !node.has_agent() {
        return None;
    }
    let of_network = || network.and_then(|network| network.gateway_on(node.id));
    if network.is_some_and(|network| network.internal) {
        return of_network();
    }
    default_bridge(node).or_else(of_network)
}

/// The address of a node on its engine's default bridge.
pub(crate) fn default_bridge(node: &Node) -> Option<Ipv4Addr> {
    let bridge = node.networks.values().find(|network| &*network.name == "bridge")?;
    super::part::gateway(&bridge.entry)
}

/// An endpoint's configuration for the engine, of the client's.
pub(crate) fn endpoint_for_engine(asked: &Value, address: Ipv4Addr, address6: Option<Ipv6Addr>) -> Value {
    let mut endpoint = asked.as_object().cloned().unwrap_or_default();
    let mut kept = Map::new();
    for key in KEPT {
        if let Some(value) = endpoint.remove(key).filter(|value| !is_nothing(value)) {
            kept.insert(key.to_owned(), value);
        }
    }
    let mut addresses = kept.get("IPAMConfig").and_then(Value::as_object).cloned().unwrap_or_default();
    addresses.insert("IPv4Address".to_owned(), address.to_string().into());
    if let Some(address6) = address6 {
        addresses.insert("IPv6Address".to_owned(), address6.to_string().into());
    }
    endpoint.insert("IPAMConfig".to_owned(), addresses.into());
    let mut options =
        endpoint.remove("DriverOpts").and_then(|options| options.as_object().cloned()).unwrap_or_default();
    options.insert(ENDPOINT_OPTION.to_owned(), Value::Object(kept).to_string().into());
    endpoint.insert("DriverOpts".to_owned(), options.into());
    endpoint.into()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(|field| is_nothing(field) || field == ""),
        _ => false,
    }
}

/// The address that an endpoint asks for on a network: one of IPv6 means the one that goes with it.
///
/// # Errors
/// [`wharf_model::Class::Invalid`] if it is none, or the network has no such, or two are asked for that do not go together.
pub(crate) fn asked_address(endpoint: &Value, network: &FleetNetwork) -> Result<Option<Ipv4Addr>, Error> {
    let config = endpoint.get("IPAMConfig");
    let text = |key| config.and_then(|config| config.get(key)).and_then(Value::as_str).filter(|text| !text.is_empty());
    let parse = |text: &str| text.parse().map_err(|_| Error::invalid(format!("invalid IPv4 address: {text}")));
    let asked = text("IPv4Address").map(parse).transpose()?;
    let Some(text) = text("IPv6Address") else { return Ok(asked) };
    let address: Ipv6Addr = text.parse().map_err(|_| Error::invalid(format!("invalid IPv6 address: {text}")))?;
    let pairing = network.pairing().ok_or_else(|| {
        Error::invalid(format!("address {address}: network {} has no IPv6 addresses (--ipv6)", network.name))
    })?;
    let pair = pairing.four(address).ok_or_else(|| {
        let (paired, range) = (pairing.paired(), network.range);
        let name = &network.name;
        Error::invalid(format!(
            "address {address}: on network {name} containers have IPv6 addresses of {paired}, in pairs with those of {range}"
        ))
    })?;
    match asked {
        Some(asked) if asked != pair => Err(Error::invalid(format!(
            "addresses {asked} and {address}: on network {} addresses go in pairs: {asked} with {}, {address} with {pair}; ask \
             for one of them",
            network.name,
            pairing.six(asked),
        ))),
        _ => Ok(Some(pair)),
    }
}

/// Makes the endpoints in an engine's answer the client's again: what was kept is back in its place, and networks have the
/// ids that the fleet knows them by. `id` is the container's.
pub(crate) fn endpoint_for_client(networks: &mut Map<String, Value>, node: &Node, id: &str) {
    for (name, endpoint) in networks {
        let Some(endpoint) = endpoint.as_object_mut() else { continue };
        let part = node.networks.values().find(|network| *network.name == **name);
        let Some(fleet) = part.and_then(|part| part.fleet) else { continue };
        if endpoint.get("NetworkID").is_some_and(|id| id != "") {
            endpoint.insert("NetworkID".to_owned(), fleet.to_string().into());
        }
        let options = endpoint.get_mut("DriverOpts").and_then(Value::as_object_mut);
        let Some(kept) = options.and_then(|options| options.remove(ENDPOINT_OPTION)) else { continue };
        if endpoint["DriverOpts"].as_object().is_some_and(Map::is_empty) {
            endpoint.insert("DriverOpts".to_owned(), Value::Null);
        }
        let kept: Map<String, Value> =
            kept.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        for key in KEPT {
            endpoint.insert(key.to_owned(), kept.get(key).cloned().unwrap_or(Value::Null));
        }
        // As engines do.
        let mut aliases = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
        let short = json!(id.get(..12).unwrap_or(id));
        if endpoint.get("EndpointID").is_some_and(|id| id != "") && !aliases.contains(&short) {
            aliases.push(short);
        }
        if !aliases.is_empty() {
            endpoint.insert("Aliases".to_owned(), aliases.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_engine_is_given_the_address_and_keeps_the_rest() {
        let asked = json!({"IPAMConfig": {}, "Aliases": ["web"], "Links": null, "MacAddress": "02:42:00:00:00:01"});
        let sent = endpoint_for_engine(&asked, Ipv4Addr::new(10, 0, 0, 2), None);
        assert_eq!(sent["IPAMConfig"], json!({"IPv4Address": "10.0.0.2"}));
        assert_eq!(sent["DriverOpts"][ENDPOINT_OPTION], r#"{"Aliases":["web"]}"#);
        assert_eq!(sent["MacAddress"], "02:42:00:00:00:01");
        assert!(sent.get("Aliases").is_none() && sent.get("Links").is_none());
        let empty = endpoint_for_engine(&Value::Null, Ipv4Addr::new(10, 0, 0, 2), None);
        assert_eq!(empty["DriverOpts"][ENDPOINT_OPTION], "{}");
    }

    #[test]
    fn an_address_of_ipv6_means_its_pair() {
        let range = "10.5.0.0/16".parse().unwrap();
        let mut network = FleetNetwork::new(NetworkId::MIN, "blue", range, 1370);
        let asked = |network: &FleetNetwork, four: &str, six: &str| {
            asked_address(&json!({"IPAMConfig": {"IPv4Address": four, "IPv6Address": six}}), network)
        };
        assert!(asked(&network, "", "fd12::9").is_err(), "it has none");
        network.range6 = Some("fd12::/64".parse().unwrap());
        let nine = Some(Ipv4Addr::new(10, 5, 0, 9));
        assert_eq!(asked(&network, "", "fd12::9").unwrap(), nine);
        assert_eq!(asked(&network, "10.5.0.9", "fd12::9").unwrap(), nine);
        assert_eq!(asked(&network, "10.5.0.9", "").unwrap(), nine);
        for (four, six) in [("10.5.0.8", "fd12::9"), ("", "fd12::1:0"), ("", "fd13::9"), ("", "x"), ("x", "")] {
            assert!(asked(&network, four, six).is_err(), "{four} {six}");
        }
        let sent = endpoint_for_engine(&Value::Null, Ipv4Addr::new(10, 5, 0, 9), Some("fd12::9".parse().unwrap()));
        assert_eq!(sent["IPAMConfig"], json!({"IPv4Address": "10.5.0.9", "IPv6Address": "fd12::9"}));
    }

    #[test]
    fn what_the_client_asked_for_is_what_it_sees() {
        let mut node = crate::testing::node(1, Vec::new());
        let fleet = NetworkId::from_bytes([7; 32]);
        let part = format!(r#"[{{"Id":"{}","Name":"blue","Labels":{{"wharf.network":"{fleet}"}}}}]"#, "01".repeat(32));
        let part = wharf_engine::wire::networks(part.as_bytes()).unwrap().0.remove(0);
        Arc::make_mut(&mut node.networks).insert(part.id, part.into());
        let asked = json!({"IPAMConfig": {"IPv4Address": "10.0.0.9"}, "Aliases": ["web"], "Links": ["db:store"]});
        let mut answer = endpoint_for_engine(&asked, Ipv4Addr::new(10, 0, 0, 9), None);
        answer["NetworkID"] = "01".repeat(32).into();
        answer["EndpointID"] = "02".repeat(32).into();
        let mut networks =
            Map::from_iter([("blue".to_owned(), answer), ("bridge".to_owned(), json!({"Aliases": null}))]);
        endpoint_for_client(&mut networks, &node, &"ab".repeat(32));
        assert_eq!(networks["blue"]["Aliases"], json!(["web", "abababababab"]));
        assert_eq!(networks["blue"]["Links"], asked["Links"]);
        assert_eq!(networks["blue"]["IPAMConfig"], asked["IPAMConfig"]);
        assert_eq!(networks["blue"]["DriverOpts"], Value::Null);
        assert_eq!(networks["blue"]["NetworkID"], fleet.to_string());
        assert_eq!(networks["bridge"], json!({"Aliases": null}));
    }
}
