//! `wharf net doctor`: every node's agent tries the way to every other node, and what is wrong is told with what to do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::Response;
use serde_json::{Value, json};
use wharf_engine::Body;
use wharf_model::{Node, NodeId, Snapshot};
use wharf_protocol::{ProbeResult, VXLAN_PORT};

use super::{
    answer::json as answer,
    call::{App, Call, node},
};
use crate::Error;

/// An agent tries all nodes at once, each three times.
const PROBE_WITHIN: Duration = Duration::from_secs(15);

/// Nodes that one agent tries: in a fleet of thousands a sample tells as much.
const OTHERS: usize = 200;

/// Clocks that differ by more make certificates and logs hard to trust.
const SKEW: i64 = 5;

/// `GET /wharf/doctor?node=NAME`: of these nodes, or of all.
pub(crate) async fn examine(call: Call) -> Result<Response<Body>, Error> {
    let (app, snapshot, query) = (call.app.clone(), call.snapshot(), call.query()?);
    let named = query.all("node").map(|name| node(&snapshot, name)).collect::<Result<Vec<_>, _>>()?;
    let nodes: Vec<Arc<Node>> = if named.is_empty() { snapshot.nodes().cloned().collect() } else { named };
    if !app.networks.are_on() {
        return Err(Error::new(
            wharf_model::Class::Unsupported,
            "this manager has no agents (--no-agents): networks are each one node's, and there is no way to try",
        ));
    }
    let examined = join_all(nodes.iter().map(|node| of_node(&app, &snapshot, node))).await;
    Ok(answer(Value::from(examined).to_string()))
}

async fn of_node(app: &App, snapshot: &Snapshot, node: &Node) -> Value {
    let mut findings = itself(snapshot, node);
    let others: Vec<_> = snapshot.nodes().filter(|other| other.id != node.id && other.agent.is_some()).collect();
    let asked = others.iter().take(OTHERS).map(|other| other.id.0).collect();
    let probed = if node.has_agent() { app.agents.probe(node.id, asked, PROBE_WITHIN).await } else { Ok(vec![]) };
    let results = probed.unwrap_or_else(|error| {
        findings
            .push(finding(&format!("its agent could not try the way to others: {error}"), "wharf net doctor again"));
        Vec::new()
    });
    let names: BTreeMap<u32, &Node> = others.iter().map(|other| (other.id.0, other.as_ref())).collect();
    let ways = results.iter().filter_map(|result| Some(way(snapshot, node, names.get(&result.node)?, result)));
    json!({"Node": &*node.name, "Findings": findings, "Ways": ways.collect::<Vec<_>>()})
}

/// What is wrong with a node, whatever the way to others is like.
fn itself(snapshot: &Snapshot, node: &Node) -> Vec<Value> {
    let mut findings = Vec::new();
    if !node.is_healthy() {
        let error = node.error.as_deref().unwrap_or("it was not reached yet");
        findings.push(finding(
            &format!("its engine does not answer: {error}"),
            "start the engine, or see whether the host is up",
        ));
    }
    let Some(agent) = &node.agent else {
        findings.push(finding("it has no agent", "the manager's log says why it could not bring one"));
        return findings;
    };
    if !agent.connected {
        findings.push(finding(
            "its agent is not connected",
            "docker logs wharf-agent on the host says why; it has to reach the manager's port for agents",
        ));
    }
    for problem in &agent.problems {
        findings.push(finding(problem, ""));
    }
    if agent.clock_skew.abs() > SKEW {
        findings.push(finding(
            &format!("its clock is {} s off the manager's", agent.clock_skew),
            "have both hosts follow a time server (chrony, systemd-timesyncd)",
        ));
    }
    for network in snapshot.fleet_networks().filter(|network| network.nodes().contains(&node.id)) {
        if network.mtu + crate::networks::OVERHEAD > agent.underlay_mtu {
            findings.push(finding(
                &format!(
                    "network {} has packets of {} bytes, and with what tunnels add the host's own network carries {}",
                    network.name, network.mtu, agent.underlay_mtu
                ),
                "create the network anew: it will fit all hosts that are there then",
            ));
        }
    }
    findings
}

fn finding(what: &str, advice: &str) -> Value {
    json!({"What": what, "Do": advice})
}

/// The way from one node to another, and what is wrong with it.
fn way(snapshot: &Snapshot, from: &Node, to: &Node, result: &ProbeResult) -> Value {
    let common = common(snapshot, from.id, to.id);
    let address = to.agent.as_ref().map(|agent| agent.underlay.to_string()).unwrap_or_default();
    let finding = match (result.underlay, common, result.tunnel, result.tunnel_full) {
        (None, false, ..) | (None, true, None, _) => Some(finding(
            &format!("{} does not answer at {address}", to.name),
            "see whether the host is up, and whether a firewall between them drops ICMP",
        )),
        (_, true, None, _) => Some(finding(
            &format!("the hosts reach each other, the tunnel to {} does not", to.name),
            &format!("let UDP port {VXLAN_PORT} pass between the hosts, in their firewalls and the cloud's"),
        )),
        (_, true, Some(_), None) => Some(finding(
            &format!("large packets to {} get lost", to.name),
            "a link between the hosts carries less than theirs say: set the hosts' MTU to what it carries, and create the \
             networks anew",
        )),
        _ => None,
    };
    json!({
        "To": &*to.name,
        "Address": address,
        "Microseconds": {"Host": result.underlay, "Tunnel": result.tunnel, "TunnelFull": result.tunnel_full},
        "CommonNetworks": common,
        "Finding": finding,
    })
}

/// Whether two nodes have a network in common: without one there is no tunnel between them.
fn common(snapshot: &Snapshot, one: NodeId, other: NodeId) -> bool {
    snapshot.fleet_networks().any(|network| {
        let nodes = network.nodes();
        nodes.contains(&one) && nodes.contains(&other)
    })
}
