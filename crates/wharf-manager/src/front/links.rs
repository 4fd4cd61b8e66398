//! `--link` between hosts: beside the name, the variables that Docker gave linked containers before there were names.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use http::Method;
use serde_json::Value;
use wharf_model::{Container, NetworkId, Snapshot, Transport};

use super::call::App;
use crate::{API_NEWEST, create::CreateRequest};

/// An inspection asks one engine about one container.
const INSPECT_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The variables of all links of a container that is being created. A linked container whose engine does not answer now
/// has none of its own environment among them.
pub(super) async fn environment(app: &App, request: &CreateRequest) -> Vec<String> {
    let snapshot = app.fleet.snapshot();
    let joined: BTreeSet<NetworkId> = request.joins.iter().map(|join| join.network).collect();
    let name = request.workload.name.as_deref().unwrap_or_default();
    let mut variables = Vec::new();
    for (target, alias) in &request.links {
        let Ok(target) = super::container(&snapshot, target) else { continue };
        let Some(address) = address_on(&snapshot, &target, &joined) else { continue };
        let ports: Vec<_> = target.exposed.clone();
        let own = own_environment(app, &snapshot, &target).await;
        variables.extend(of_link(name, alias, address, ports, &own));
    }
    variables
}

/// The address of a container on the first of these networks that it is on.
fn address_on(snapshot: &Snapshot, container: &Container, networks: &BTreeSet<NetworkId>) -> Option<IpAddr> {
    let node = snapshot.node(container.node)?;
    let on = |network: &NetworkId| {
        let attached = container.networks.iter().find(|attached| node.fleet_network(attached) == Some(*network));
        attached.and_then(|attached| attached.address)
    };
    networks.iter().find_map(on)
}

async fn own_environment(app: &App, snapshot: &Snapshot, container: &Arc<Container>) -> Vec<String> {
    let inspect = async {
        let link = app.fleet.link(snapshot.node(container.node)?.id)?;
        let path = link.path(API_NEWEST, &format!("/containers/{}/json", container.id));
        let inspected = link.call(Method::GET, &path, None, INSPECT_WITHIN).await.ok()?;
        let inspected: Value = serde_json::from_slice(&inspected).ok()?;
        let variables = inspected["Config"]["Env"].as_array()?.iter().filter_map(Value::as_str);
        Some(variables.map(str::to_owned).collect())
    };
    inspect.await.unwrap_or_default()
}

/// Docker's variables (`daemon/links` of its source): the name, where the lowest port is, each port, and what the linked
/// container has of its own.
fn of_link(name: &str, alias: &str, address: IpAddr, mut ports: Vec<(u16, Transport)>, own: &[String]) -> Vec<String> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let mut variables = vec![format!("{prefix}_NAME=/{name}/{alias}")];
    ports.sort_unstable();
    let at = |port: u16, transport: Transport| format!("{}://{address}:{port}", transport.name());
    if let Some((port, transport)) = ports.first() {
        variables.push(format!("{prefix}_PORT={}", at(*port, *transport)));
    }
    for (port, transport) in ports {
        let key = format!("{prefix}_PORT_{port}_{}", transport.name().to_uppercase());
        variables.push(format!("{key}={}", at(port, transport)));
        variables.push(format!("{key}_ADDR={address}"));
        variables.push(format!("{key}_PORT={port}"));
        variables.push(format!("{key}_PROTO={}", transport.name()));
    }
    // What every container has anyway says nothing of this one.
    let own = own.iter().filter(|variable| !variable.starts_with("HOME=") && !variable.starts_with("PATH="));
    variables.extend(own.map(|variable| format!("{prefix}_ENV_{variable}")));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_dockers_old_variables() {
        let own = ["PATH=/bin".to_owned(), "PASSWORD=x=y".to_owned()];
        let ports = vec![(6379, Transport::Tcp), (53, Transport::Udp)];
        let variables = of_link("web", "my-db", IpAddr::from([10, 0, 0, 2]), ports, &own);
        assert_eq!(
            variables,
            [
                "MY_DB_NAME=/web/my-db",
                "MY_DB_PORT=udp://10.0.0.2:53",
                "MY_DB_PORT_53_UDP=udp://10.0.0.2:53",
                "MY_DB_PORT_53_UDP_ADDR=10.0.0.2",
                "MY_DB_PORT_53_UDP_PORT=53",
                "MY_DB_PORT_53_UDP_PROTO=udp",
                "MY_DB_PORT_6379_TCP=tcp://10.0.0.2:6379",
                "MY_DB_PORT_6379_TCP_ADDR=10.0.0.2",
                "MY_DB_PORT_6379_TCP_PORT=6379",
                "MY_DB_PORT_6379_TCP_PROTO=tcp",
                "MY_DB_ENV_PASSWORD=x=y",
            ]
        );
    }
}
