//! The private network that joins a lab's nodes: a bridge, and a link into each node's namespace.

use std::{net::Ipv4Addr, path::Path};

use ipnet::Ipv4Net;

use crate::{Error, LabName, system::run};

/// Nodes begin here: .1 is the bridge.
const FIRST_NODE: u8 = 10;

/// The address of a node.
pub(crate) fn address(network: Ipv4Net, node: usize) -> Ipv4Addr {
    let [a, b, c, _] = network.network().octets();
    // A lab has at most 200 nodes.
    Ipv4Addr::new(a, b, c, FIRST_NODE.saturating_add(u8::try_from(node).unwrap_or(u8::MAX)))
}

/// A /24 that neither a route of this machine nor another lab has.
pub(crate) fn free(taken_by_labs: &[Ipv4Net]) -> Result<Ipv4Net, Error> {
    #[derive(serde::Deserialize)]
    struct Route {
        dst: String,
    }
    let routes: Vec<Route> =
        serde_json::from_str(&run("ip", &["-json", "-4", "route", "show", "table", "all"])?).unwrap_or_default();
    let routed = |text: &str| text.parse::<Ipv4Net>().or_else(|_| text.parse::<Ipv4Addr>().map(Ipv4Net::from)).ok();
    let mut taken: Vec<_> =
        routes.iter().filter_map(|route| routed(&route.dst)).filter(|net| net.prefix_len() > 0).collect();
    taken.extend(taken_by_labs);
    let candidates = (0..=255).filter_map(|number| Ipv4Net::new(Ipv4Addr::new(10, 213, number, 0), 24).ok());
    let overlaps = |one: &Ipv4Net, other: &Ipv4Net| one.contains(other) || other.contains(one);
    candidates.into_iter().find(|net| !taken.iter().any(|other| overlaps(net, other))).ok_or(Error::NoNetwork)
}

/// Makes the bridge, and lets traffic pass over it and none into it from elsewhere. Nothing happens if it is there.
pub(crate) fn make_bridge(lab: &LabName, network: Ipv4Net) -> Result<(), Error> {
    let bridge = lab.bridge();
    if !exists(&bridge) {
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
    }
    let [a, b, c, _] = network.network().octets();
    run("ip", &["address", "replace", &format!("{a}.{b}.{c}.1/24"), "dev", &bridge])?;
    run("ip", &["link", "set", &bridge, "up"])?;
    // With br_netfilter loaded, bridged frames pass FORWARD, too; and engines take no care who reaches them.
    let among = ["-i", &bridge, "-o", &bridge, "-j", "ACCEPT"];
    let into = ["-o", &bridge, "!", "-i", &bridge, "-j", "DROP"];
    for rule in [&into[..], &among[..]] {
        let comment = lab.comment();
        let rule = [rule, &["-m", "comment", "--comment", &comment]].concat();
        if run("iptables", &[&["-w", "-C", "FORWARD"], &rule[..]].concat()).is_err() {
            run("iptables", &[&["-w", "-I", "FORWARD"], &rule[..]].concat())?;
        }
    }
    Ok(())
}

/// Makes a node's namespace and the link into it. What is there already stays.
pub(crate) fn make_node(lab: &LabName, network: Ipv4Net, node: usize) -> Result<(), Error> {
    let (namespace, link, bridge) = (lab.namespace(node), lab.link(node), lab.bridge());
    if !Path::new("/run/netns").join(&namespace).exists() {
        run("ip", &["netns", "add", &namespace])?;
    }
    if !exists(&link) {
        run("ip", &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
    }
    run("ip", &["link", "set", &link, "master", &bridge, "up"])?;
    let address = format!("{}/24", address(network, node));
    run("ip", &["-n", &namespace, "address", "replace", &address, "dev", "eth0"])?;
    run("ip", &["-n", &namespace, "link", "set", "lo", "up"])?;
    run("ip", &["-n", &namespace, "link", "set", "eth0", "up"])?;
    Ok(())
}

/// Takes a node's link down, or up again. While it is down, packets vanish without an answer.
pub(crate) fn set_link(lab: &LabName, node: usize, state: &str) -> Result<(), Error> {
    run("ip", &["link", "set", &lab.link(node), state]).map(drop)
}

/// Whether a node's link is down.
pub(crate) fn is_cut(lab: &LabName, node: usize) -> bool {
    let flags = Path::new("/sys/class/net").join(lab.link(node)).join("flags");
    let flags = std::fs::read_to_string(flags).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(1);
    // IFF_UP
    flags & 1 == 0
}

/// Removes all links, namespaces and rules that bear the lab's name.
pub(crate) fn remove(lab: &LabName) -> Result<(), Error> {
    let (of_links, of_namespaces) = (format!("{}-", lab.bridge()), format!("{}-node", lab.bridge()));
    for namespace in names("/run/netns", &of_namespaces) {
        run("ip", &["netns", "delete", &namespace])?;
    }
    for link in names("/sys/class/net", &of_links) {
        // It may have gone with its namespace just now.
        if let Err(error) = run("ip", &["link", "delete", &link])
            && exists(&link)
        {
            return Err(error);
        }
    }
    if exists(&lab.bridge()) {
        run("ip", &["link", "delete", &lab.bridge()])?;
    }
    let comment = lab.comment();
    for rule in run("iptables", &["-w", "-S", "FORWARD"])?.lines() {
        let words: Vec<_> = rule.split_whitespace().map(|word| word.trim_matches('"')).collect();
        if words.contains(&comment.as_str()) {
            run("iptables", &[&["-w", "-D"], &words[1..]].concat())?;
        }
    }
    Ok(())
}

fn exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

fn names(folder: &str, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(prefix)).collect()
}
