//! The ways between two containers: over one bridge, through fleet networks, and what the kernel does by itself.

use std::net::Ipv4Addr;

use anyhow::{Context, ensure};

use super::{Fleet, PLAIN, SEALED, api::Container, namespace::Namespace, wait_for};

/// A way from one container to another.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) name: &'static str,
    pub(super) from: Namespace,
    pub(super) to: Namespace,
    pub(super) address: Ipv4Addr,
}

/// What a node is given by hand, for a container without a network: a bridge; and a route each, over a VXLAN device of the
/// same kind as Wharf's and over the nodes' own network, to the other node's. The addresses are those set apart for
/// benchmarks (RFC 2544). The node's own rules come first: these packets meet none of Wharf's. The device carries what a
/// fleet network does; without it, packets are as large as the nodes' network has them.
const BY_HAND: &str = r#"set -e
ip link add hand0 type bridge
ip link set hand0 up
ip address add 198.18.$ME.1/24 dev hand0
ip address add 198.19.$ME.1/24 dev hand0
ip link add hand1 type veth peer name eth0 netns "$PID"
ip link set hand1 master hand0 up
ip link add hand2 address 02:00:00:00:00:0$ME type vxlan id 42 local "$UNDERLAY" dstport 4789 nolearning
ip link set hand2 mtu 1450 up
ip address add 198.18.0.$ME/32 dev hand2
bridge fdb append 02:00:00:00:00:0$OTHER dev hand2 dst "$OTHER_UNDERLAY"
ip neighbour add 198.18.0.$OTHER lladdr 02:00:00:00:00:0$OTHER dev hand2 nud permanent
ip route add 198.18.$OTHER.0/24 via 198.18.0.$OTHER dev hand2 onlink
ip route add 198.19.$OTHER.0/24 via "$OTHER_UNDERLAY"
iptables -w -I FORWARD -i hand0 -j ACCEPT
iptables -w -I FORWARD -o hand0 -j ACCEPT
"#;

/// And its container.
const IN_CONTAINER: &str = r#"set -e
ip link set eth0 up
ip address add 198.18.$ME.2/24 dev eth0
ip address add 198.19.$ME.2/24 dev eth0
ip route add 198.18.0.0/16 via 198.18.$ME.1 mtu "$MTU" advmss "$((MTU - 40))"
ip route add 198.19.0.0/16 via 198.19.$ME.1
"#;

/// Makes them all, and waits until packets pass.
pub(super) fn all(fleet: &Fleet<'_>) -> anyhow::Result<Vec<Path>> {
    let run = |name, node, network| fleet.api.run(name, node, network);
    let (one, beside, two) = (run("one", "node1", PLAIN)?, run("beside", "node1", PLAIN)?, run("two", "node2", PLAIN)?);
    let (sealed_one, sealed_two) = (run("sealed-one", "node1", SEALED)?, run("sealed-two", "node2", SEALED)?);
    let (hand_one, hand_two) = (run("hand-one", "node1", "none")?, run("hand-two", "node2", "none")?);
    by_hand(fleet, [&hand_one, &hand_two])?;
    let path = |name, from: &Container, to: &Container, address| Path {
        name,
        from: from.namespace,
        to: to.namespace,
        address,
    };
    let to = |container: &Container| container.address.context("a container without an address");
    let paths = vec![
        path("bridge", &one, &beside, to(&beside)?),
        path("fleet", &one, &two, to(&two)?),
        path("hand VXLAN", &hand_one, &hand_two, Ipv4Addr::new(198, 18, 2, 2)),
        path("routed", &hand_one, &hand_two, Ipv4Addr::new(198, 19, 2, 2)),
        path("encrypted", &sealed_one, &sealed_two, to(&sealed_two)?),
    ];
    for path in &paths {
        wait_for(&format!("packets pass: {}", path.name), || Ok(path.passes()?.then_some(())))?;
    }
    Ok(paths)
}

fn by_hand(fleet: &Fleet<'_>, containers: [&Container; 2]) -> anyhow::Result<()> {
    let network = fleet.engine(1).get(&format!("/networks/{PLAIN}"))?;
    let mtu = network["Options"]["com.docker.network.driver.mtu"].as_str().context("a network's MTU")?.to_owned();
    let nodes = fleet.lab.nodes()?;
    for (me, other) in [(1, 2), (2, 1)] {
        let container = containers[me - 1].namespace;
        let mut on_node = fleet.lab.command(&format!("node{me}"), "sh")?;
        on_node.args(["-c", BY_HAND]);
        let mut in_container = container.command("sh");
        in_container.args(["-c", IN_CONTAINER]);
        for command in [&mut on_node, &mut in_container] {
            command
                .env("ME", me.to_string())
                .env("OTHER", other.to_string())
                .env("PID", container.pid.to_string())
                .env("UNDERLAY", &nodes[me - 1].address)
                .env("OTHER_UNDERLAY", &nodes[other - 1].address)
                .env("MTU", &mtu);
            let output = command.output()?;
            ensure!(output.status.success(), "by hand: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}

impl Path {
    /// Whether an answer comes back.
    fn passes(&self) -> anyhow::Result<bool> {
        let mut ping = self.from.command("busybox");
        Ok(ping.args(["ping", "-q", "-c", "1", "-W", "1", &self.address.to_string()]).output()?.status.success())
    }
}
