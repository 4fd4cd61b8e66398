//! What the nodes' kernels are to look like, made of what the fleet says of its networks; and whether they do.
//!
//! The rules are written down here a second time, from the design: a mistake in the agent's own is not repeated by a test that
//! asks the agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use ipnet::Ipv4Net;
use serde_json::Value;
use wharf_lab::Lab;

use crate::fleet::{Fleet, text, wait};

/// The VXLAN network identifier of all fleets.
const VNI: u64 = 0x57_4841;

/// What the fleet says of its networks: it can be read while a manager is there, and compared with the kernels when none is.
pub(crate) struct Wish {
    nodes: Vec<Node>,
    /// In the order of their ids, as the rules are.
    networks: Vec<Network>,
    members: Vec<Member>,
}

struct Node {
    name: String,
    underlay: Ipv4Addr,
    tunnel: Ipv4Addr,
}

struct Network {
    id: String,
    name: String,
    range: Ipv4Net,
    internal: bool,
    mtu: u64,
    /// Blocks, and single addresses outside of their node's blocks, each with the node's name.
    slices: BTreeMap<Ipv4Net, String>,
}

/// A container that runs.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) node: String,
    /// By network.
    pub(crate) addresses: BTreeMap<String, Ipv4Addr>,
}

impl Wish {
    /// Asks the fleet.
    pub(crate) fn read(fleet: &Fleet) -> anyhow::Result<Self> {
        let of_lab = fleet.lab.nodes()?.into_iter().zip(1..);
        let node = |(node, number): (wharf_lab::Node, u8)| {
            Ok(Node { name: node.name, underlay: node.address.parse()?, tunnel: Ipv4Addr::new(10, 192, 0, number) })
        };
        let nodes = of_lab.map(node).collect::<anyhow::Result<Vec<_>>>()?;
        let places = fleet.docker(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Label \"wharf.node\"}}"])?;
        let places: BTreeMap<&str, &str> = places.lines().filter_map(|line| line.split_once(' ')).collect();
        let (mut networks, mut members) = (Vec::new(), BTreeMap::new());
        for id in fleet.docker(&["network", "ls", "-q", "--no-trunc", "--filter", "scope=global"])?.lines() {
            let shown: Value = serde_json::from_str(&fleet.docker(&["network", "inspect", id])?)?;
            networks.push(network(&shown[0], &places, &mut members)?);
        }
        networks.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(Self { nodes, networks, members: members.into_values().collect() })
    }

    /// A container that ran when this was read.
    pub(crate) fn member(&self, name: &str) -> anyhow::Result<&Member> {
        self.members.iter().find(|member| member.name == name).with_context(|| format!("{name} does not run"))
    }

    /// Waits until every kernel is as wished, and says how long that took; else what is missing and what is stale.
    pub(crate) fn wait_for_kernels(&self, fleet: &Fleet) -> anyhow::Result<Duration> {
        let mut last = Vec::new();
        let waited = wait("the kernels are as wished", || {
            last = self.differences(fleet).unwrap_or_else(|error| vec![format!("{error:#}")]);
            last.is_empty()
        });
        waited.with_context(|| last.join("\n"))
    }

    /// In what the kernels are not as wished.
    pub(crate) fn differences(&self, fleet: &Fleet) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for node in &self.nodes {
            let wanted = self.wanted(fleet, node)?;
            let present = present(fleet, node)?;
            for (what, wanted) in wanted {
                let present = present.get(what).map(Vec::as_slice).unwrap_or_default();
                found.extend(difference(&node.name, what, &wanted, present));
            }
        }
        Ok(found)
    }
}

fn network(
    shown: &Value,
    places: &BTreeMap<&str, &str>,
    members: &mut BTreeMap<String, Member>,
) -> anyhow::Result<Network> {
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("no text in {shown}"));
    let mut slices = BTreeMap::new();
    for slice in shown["Slices"].as_array().context("no Slices")? {
        slices.insert(text(&slice["Slice"])?.parse()?, text(&slice["Node"])?);
    }
    let name = text(&shown["Name"])?;
    let blocks: Vec<(Ipv4Net, String)> = slices.iter().map(|(slice, node)| (*slice, node.clone())).collect();
    for (id, member) in shown["Containers"].as_object().into_iter().flatten() {
        let node = (*places.get(id.as_str()).with_context(|| format!("{member} is not in the list"))?).to_owned();
        let address: Ipv4Net = text(&member["IPv4Address"])?.parse()?;
        if !blocks.iter().any(|(block, owner)| block.contains(&address.addr()) && *owner == node) {
            slices.insert(address.addr().into(), node.clone());
        }
        let (called, addresses) = (text(&member["Name"])?, BTreeMap::new());
        let member = members.entry(id.clone()).or_insert(Member { name: called, node, addresses });
        member.addresses.insert(name.clone(), address.addr());
    }
    Ok(Network {
        id: text(&shown["Id"])?,
        range: text(&shown["IPAM"]["Config"][0]["Subnet"])?.parse()?,
        internal: shown["Internal"] == true,
        mtu: shown["MTU"].as_u64().context("no MTU")?,
        name,
        slices,
    })
}

// === wanted ===

impl Network {
    fn bridge(&self) -> String {
        format!("wh-{}", &self.id[..10])
    }

    fn is_on(&self, node: &Node) -> bool {
        self.slices.values().any(|owner| *owner == node.name)
    }

    fn own(&self, node: &Node) -> impl Iterator<Item = Ipv4Net> {
        self.slices.iter().filter(|(_, owner)| **owner == node.name).map(|(slice, _)| *slice)
    }

    fn remote(&self, node: &Node) -> impl Iterator<Item = (Ipv4Net, &str)> {
        self.slices.iter().filter(|(_, owner)| **owner != node.name).map(|(slice, owner)| (*slice, owner.as_str()))
    }

    /// Single addresses of others inside of a node's blocks.
    fn lent(&self, node: &Node) -> Vec<Ipv4Net> {
        let inside = |(slice, _): &(Ipv4Net, &str)| self.own(node).any(|own| own.contains(slice));
        self.remote(node).filter(inside).map(|(slice, _)| slice).collect()
    }
}

impl Wish {
    fn of<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Network> {
        self.networks.iter().filter(|network| network.is_on(node))
    }

    fn peers<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        let common = |other: &&Node| self.of(node).any(|network| network.is_on(other));
        self.nodes.iter().filter(|other| other.name != node.name).filter(common)
    }

    /// All that a node's kernel and engine are to have of ours, by what it is.
    fn wanted(&self, fleet: &Fleet, node: &Node) -> anyhow::Result<BTreeMap<&'static str, Vec<String>>> {
        let bridges = |value: &dyn Fn(&Network) -> String| self.of(node).map(value).collect::<Vec<_>>();
        let mut wanted = BTreeMap::from([
            ("tunnel", vec![format!("{} {} 1450 {VNI} 4790 {}", node.tunnel, mac(node), node.underlay)]),
            ("routes", self.routes(node)?),
            ("neighbours", self.peers(node).map(|peer| format!("{} {}", peer.tunnel, mac(peer))).collect()),
            ("forwarding", self.peers(node).map(|peer| format!("{} {}", mac(peer), peer.underlay)).collect()),
            ("parts", bridges(&|network| network.id.clone())),
            ("bridges", bridges(&|network| format!("{} 1 0", network.bridge()))),
            ("WHARF-PREROUTING", self.proxied(node)),
            ("WHARF-POSTROUTING", self.masks(node)),
            (
                "WHARF-FORWARD",
                ["-i wharf0 -j WHARF-FROM-TUNNEL", "-i wharf1 -j WHARF-FROM-TUNNEL"].map(Into::into).into(),
            ),
            ("WHARF-FROM-TUNNEL", self.out_of_tunnel(node)),
            ("WHARF-TO-TUNNEL", self.to_tunnel(node)),
            ("WHARF-BRIDGES", self.between(node)),
            ("WHARF-INPUT", self.input(fleet, node)?),
            ("jumps", JUMPS.map(Into::into).into()),
        ]);
        let forward = wanted.entry("WHARF-FORWARD").or_default();
        forward.extend(["wharf0", "wharf1"].map(|tunnel| format!("-o {tunnel} -j WHARF-TO-TUNNEL")));
        forward.push("-i wh-+ -o wh-+ -j WHARF-BRIDGES".to_owned());
        Ok(wanted)
    }

    fn routes(&self, node: &Node) -> anyhow::Result<Vec<String>> {
        let source = node.tunnel;
        let mut routes: Vec<_> =
            self.peers(node).map(|peer| format!("{} dev wharf0 src {source}", peer.tunnel)).collect();
        for network in self.of(node) {
            for (slice, owner) in network.remote(node) {
                let owner = self.nodes.iter().find(|node| node.name == owner).context("a slice of no node")?;
                routes.push(format!("{} via {} dev wharf0 src {source}", destination(slice), owner.tunnel));
            }
            let borrowed = |own: &Ipv4Net| network.remote(node).any(|(remote, _)| remote.contains(own));
            let on_bridge = |own| format!("{} dev {}", destination(own), network.bridge());
            routes.extend(network.own(node).filter(borrowed).map(on_bridge));
        }
        Ok(routes)
    }

    fn out_of_tunnel(&self, node: &Node) -> Vec<String> {
        let mut rules = vec![answers("-o wh-+")];
        for network in self.of(node) {
            let way = format!("-i wharf0 -o {}", network.bridge());
            let accept = |from: Ipv4Net| {
                let rule = |own| format!("-s {from} -d {own} {way} -j ACCEPT");
                network.own(node).map(rule).collect::<Vec<_>>()
            };
            rules.extend(network.lent(node).into_iter().flat_map(accept));
            rules.extend(network.own(node).map(|own| format!("-s {own} {way} -j DROP")));
            rules.extend(accept(network.range));
        }
        rules.push("-j DROP".to_owned());
        rules
    }

    fn to_tunnel(&self, node: &Node) -> Vec<String> {
        let mut rules = vec![answers("-i wh-+")];
        for network in self.of(node) {
            let way = format!("-i {} -o wharf0", network.bridge());
            rules.extend(network.lent(node).iter().map(|lent| format!("-s {lent} {way} -j DROP")));
            rules.extend(network.own(node).map(|own| format!("-s {own} -d {} {way} -j ACCEPT", network.range)));
        }
        rules.push("-j DROP".to_owned());
        rules
    }

    fn between(&self, node: &Node) -> Vec<String> {
        let rules = |bridge: String| {
            [
                format!("-i {bridge} -o {bridge} -j RETURN"),
                format!("-i {bridge} -j DROP"),
                format!("-o {bridge} -j DROP"),
            ]
        };
        self.of(node).map(Network::bridge).flat_map(rules).collect()
    }

    /// Ports that the node publishes are the proxy's business also for its own containers.
    fn proxied(&self, node: &Node) -> Vec<String> {
        let outward = self.of(node).filter(|network| !network.internal);
        outward.map(|network| format!("-i {} -m addrtype --dst-type LOCAL -j ACCEPT", network.bridge())).collect()
    }

    fn masks(&self, node: &Node) -> Vec<String> {
        let mut rules = ["wharf0", "wharf1"].map(|tunnel| format!("-o {tunnel} -j ACCEPT")).to_vec();
        rules.extend(
            self.of(node)
                .filter(|network| !network.internal)
                .map(|network| format!("-s {0} ! -d {0} ! -o {1} -j MASQUERADE", network.range, network.bridge())),
        );
        rules
    }

    fn input(&self, fleet: &Fleet, node: &Node) -> anyhow::Result<Vec<String>> {
        let vxlan = "-p udp -m udp --dport 4790";
        let peers: Vec<Ipv4Net> = self.peers(node).map(|peer| peer.underlay.into()).collect();
        let mut rules: Vec<String> =
            Ipv4Net::aggregate(&peers).iter().map(|nodes| format!("-s {nodes} {vxlan} -j ACCEPT")).collect();
        rules.push(format!("{vxlan} -j DROP"));
        let names = std::iter::once("wh-+".to_owned()).chain(local_bridges(fleet, &node.name)?);
        let dns = |bridge: String| {
            ["udp", "tcp"].map(|protocol| format!("-i {bridge} -p {protocol} -m {protocol} --dport 53 -j ACCEPT"))
        };
        rules.extend(names.flat_map(dns));
        for tunnel in ["wharf0", "wharf1"] {
            rules.push(answers(&format!("-i {tunnel}")));
            rules.push(format!("-i {tunnel} -p icmp -m icmp --icmp-type 8 -j ACCEPT"));
            rules.push(format!("-i {tunnel} -j DROP"));
        }
        Ok(rules)
    }
}

/// Each is its chain's first rule, and there once.
const JUMPS: [&str; 4] = [
    "forwarded 1 WHARF-FORWARD",
    "INPUT 1 WHARF-INPUT",
    "PREROUTING 1 WHARF-PREROUTING",
    "POSTROUTING 1 WHARF-POSTROUTING",
];

fn mac(node: &Node) -> String {
    let [a, b, c, d] = node.tunnel.octets();
    format!("02:77:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// As `ip` prints it.
fn destination(net: Ipv4Net) -> String {
    if net.prefix_len() == 32 { net.addr().to_string() } else { net.to_string() }
}

fn answers(way: &str) -> String {
    format!("{way} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
}

/// The bridges of an engine's own networks.
fn local_bridges(fleet: &Fleet, node: &str) -> anyhow::Result<BTreeSet<String>> {
    let ids = engine(fleet, node, &["network", "ls", "-q", "--no-trunc", "--filter", "driver=bridge"])?;
    let shown = engine(fleet, node, &[&["network", "inspect"][..], &ids.lines().collect::<Vec<_>>()].concat())?;
    let shown: Vec<Value> = serde_json::from_str(&shown)?;
    let own = shown.iter().filter(|network| network["Labels"]["wharf.network"].is_null());
    Ok(own
        .map(|network| match network["Options"]["com.docker.network.bridge.name"].as_str() {
            Some(name) => name.to_owned(),
            None => format!("br-{}", network["Id"].as_str().unwrap_or_default().get(..12).unwrap_or_default()),
        })
        .collect())
}

// === present ===

/// All that a node's kernel and engine have of ours, by what it is.
fn present(fleet: &Fleet, node: &Node) -> anyhow::Result<BTreeMap<&'static str, Vec<String>>> {
    let json = |arguments: &str| -> anyhow::Result<Vec<Value>> {
        let printed = shell(&fleet.lab, &node.name, arguments)?;
        Ok(if printed.is_empty() { Vec::new() } else { serde_json::from_str(&printed)? })
    };
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut present = BTreeMap::new();
    let address = &json("ip -j -4 address show dev wharf0")?[0]["addr_info"];
    let addresses: Vec<_> = address.as_array().into_iter().flatten().map(|info| plain(&info["local"])).collect();
    let link = &json("ip -j -d link show dev wharf0 up")?[0];
    let vxlan = &link["linkinfo"]["info_data"];
    let (mac, mtu, id) = (plain(&link["address"]), &link["mtu"], &vxlan["id"]);
    let tunnel = format!("{} {mac} {mtu} {id} {} {}", addresses.join(","), vxlan["port"], plain(&vxlan["local"]));
    present.insert("tunnel", vec![tunnel]);
    let routes = json("ip -j -4 route show table all")?;
    let route = |route: &Value| {
        let part =
            |word: &str, key: &str| route[key].as_str().map_or_else(String::new, |value| format!(" {word} {value}"));
        let (via, device, source) = (part("via", "gateway"), part("dev", "dev"), part("src", "prefsrc"));
        format!("{}{via}{device}{source}", plain(&route["dst"]))
    };
    present.insert("routes", routes.iter().filter(|route| route["protocol"] == "87").map(route).collect());
    let neighbours = json("ip -j -4 neigh show dev wharf0 nud permanent")?;
    let neighbours = neighbours.iter().map(|entry| format!("{} {}", plain(&entry["dst"]), plain(&entry["lladdr"])));
    present.insert("neighbours", neighbours.collect());
    let forwarding = json("bridge -j fdb show dev wharf0")?;
    let forwarding = forwarding.iter().map(|entry| format!("{} {}", plain(&entry["mac"]), plain(&entry["dst"])));
    present.insert("forwarding", forwarding.collect());
    let format = "{{.Label \"wharf.network\"}}";
    let parts = engine(fleet, &node.name, &["network", "ls", "--filter", "label=wharf.network", "--format", format])?;
    present.insert("parts", parts.lines().map(str::to_owned).collect());
    let settings = "cd /proc/sys/net/ipv4; for bridge in conf/wh-*; do [ -e $bridge ] || continue; b=${bridge#conf/}; \
         echo $b $(cat conf/$b/proxy_arp) $(cat neigh/$b/proxy_delay); done";
    present.insert("bridges", shell(&fleet.lab, &node.name, settings)?.lines().map(str::to_owned).collect());
    let rules = shell(&fleet.lab, &node.name, "iptables-save -t filter && iptables-save -t nat")?;
    chains(&rules, &mut present);
    Ok(present)
}

fn chains(rules: &str, present: &mut BTreeMap<&'static str, Vec<String>>) {
    const CHAINS: [&str; 7] = [
        "WHARF-FORWARD",
        "WHARF-FROM-TUNNEL",
        "WHARF-TO-TUNNEL",
        "WHARF-BRIDGES",
        "WHARF-INPUT",
        "WHARF-PREROUTING",
        "WHARF-POSTROUTING",
    ];
    // Where somebody has flushed FORWARD, nothing leads to the engine's chain for others.
    let forwarded = if rules.contains("-A FORWARD -j DOCKER-USER") { "DOCKER-USER" } else { "FORWARD" };
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for line in rules.lines() {
        let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) else { continue };
        let number = numbers.entry(chain).or_default();
        *number += 1;
        if let Some(ours) = CHAINS.iter().find(|ours| **ours == chain) {
            present.entry(*ours).or_default().push(rule.to_owned());
        } else if let Some(target) = rule.split(' ').find(|word| word.starts_with("WHARF-")) {
            let from = if chain == forwarded { "forwarded" } else { chain };
            present.entry("jumps").or_default().push(format!("{from} {number} {target}"));
        }
    }
}

fn difference(node: &str, what: &str, wanted: &[String], present: &[String]) -> Vec<String> {
    let lacking = |one: &[String], other: &[String]| -> Vec<String> {
        let mut rest = other.to_vec();
        let lacks =
            |line: &&String| rest.iter().position(|known| known == *line).map(|at| rest.swap_remove(at)).is_none();
        one.iter().filter(lacks).cloned().collect()
    };
    let told = |word: &str, lines: Vec<String>| {
        lines.into_iter().map(|line| format!("{node}, {what}: {word} {line}")).collect::<Vec<_>>()
    };
    let mut found = told("missing", lacking(wanted, present));
    found.extend(told("stale", lacking(present, wanted)));
    if found.is_empty() && what.starts_with("WHARF-") && wanted != present {
        found.push(format!("{node}, {what}: another order: {}", present.join(" | ")));
    }
    found
}

// === talking ===

impl Wish {
    /// Tries whether every container finds and reaches all others of its networks, and nobody else; on the engines
    /// themselves, so that no manager is needed.
    pub(crate) fn wait_until_all_talk(&self, fleet: &Fleet) -> anyhow::Result<()> {
        let mut last = Vec::new();
        let waited = wait("containers reach each other", || {
            last = std::thread::scope(|scope| {
                let tries: Vec<_> =
                    self.members.iter().map(|member| (member, scope.spawn(|| self.talks(fleet, member)))).collect();
                let failed = tries.into_iter().filter_map(|(member, tried)| {
                    let error = tried.join().expect("it does not panic").err()?;
                    Some(format!("{} on {}: {error:#}", member.name, member.node))
                });
                failed.collect()
            });
            last.is_empty()
        });
        waited.map(drop).with_context(|| last.join("\n"))
    }

    fn talks(&self, fleet: &Fleet, from: &Member) -> anyhow::Result<()> {
        let mut script = String::new();
        for to in self.members.iter().filter(|to| to.name != from.name) {
            let name = &to.name;
            let common = to.addresses.iter().filter(|(network, _)| from.addresses.contains_key(*network));
            let common: Vec<_> = common.map(|(_, address)| address).collect();
            if common.is_empty() {
                // What the agent knows it answers at once; what it does not it asks others, who may be far.
                script += &format!("(timeout 2 nslookup {name} | grep -q '^Name' && echo it finds {name}) &\n");
            } else {
                // The first line that ping prints says what address the name was given.
                script += &format!("(p=$(ping -c 1 -W 2 {name} 2>&1); case \"$p\" in ");
                common.iter().for_each(|address| script += &format!("*\"({address})\"*' 0% packet loss'*) ;; "));
                script += &format!("*) echo to {name}: $p;; esac) &\n");
            }
            for (network, address) in &to.addresses {
                script += &match from.addresses.contains_key(network) {
                    true => {
                        format!("(ping -c 1 -W 2 {address} >/dev/null || echo it does not reach {name}, {address}) &\n")
                    }
                    false => format!("(ping -c 1 -W 1 {address} >/dev/null && echo it reaches {name}, {address}) &\n"),
                };
            }
        }
        let said = engine(fleet, &from.node, &["exec", &from.name, "sh", "-c", &format!("{script}wait")])?;
        ensure!(said.is_empty(), "{said}");
        let network = |network: &&Network| from.addresses.contains_key(&network.name);
        for network in self.networks.iter().filter(network) {
            let links = engine(fleet, &from.node, &["exec", &from.name, "ip", "link"])?;
            ensure!(
                links.contains(&format!("mtu {} ", network.mtu)),
                "no link has packets of {}: {links}",
                network.mtu
            );
        }
        Ok(())
    }
}

// === nodes ===

/// Runs the `docker` client on one engine; what it printed.
pub(crate) fn engine(fleet: &Fleet, node: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let number: usize = node.trim_start_matches("node").parse()?;
    let output = fleet.client("docker", arguments).env("DOCKER_HOST", fleet.node(number)).output()?;
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "docker {} on {node}: {} {out} {error}", arguments.join(" "), output.status);
    Ok(out)
}

/// Runs a shell's script on a node; what it printed.
pub(crate) fn shell(lab: &Lab, node: &str, script: &str) -> anyhow::Result<String> {
    let output = lab.command(node, "sh")?.args(["-c", script]).output()?;
    if !output.status.success() {
        bail!("{script} on {node}: {} {}", output.status, text(&output.stderr));
    }
    Ok(text(&output.stdout))
}
