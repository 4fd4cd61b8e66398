//! `wharf net`: the networks of a fleet, who is where on them, and what is wrong with the way between nodes.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use crate::{client::Host, table};

/// The fleet's networks.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    host: Host,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the networks that span the fleet
    Ls {
        /// Print JSON
        #[arg(long, conflicts_with = "quiet")]
        json: bool,
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show networks: which node has which addresses, and which containers are where
    Inspect {
        /// Names or ids
        #[arg(required = true)]
        networks: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Try the way between all nodes, and say what is wrong and what to do. Exits with 1 if something is
    Doctor {
        /// Names of nodes, to look at their ways only
        nodes: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does what was asked.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let host = &options.host;
    match options.command {
        Command::Ls { json, quiet } => list(host, json, quiet)?,
        Command::Inspect { networks, json } => {
            let shown = networks.iter().map(|network| inspected(host, network));
            let shown = shown.collect::<anyhow::Result<Vec<_>>>()?;
            if json {
                writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&shown)?)?;
            } else {
                let containers = host.ask(Method::GET, "/containers/json", None)?;
                shown.iter().try_for_each(|network| inspect(network, &containers))?;
            }
        }
        Command::Doctor { nodes, json } => return doctor(host, &nodes, json),
    }
    Ok(ExitCode::SUCCESS)
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn inspected(host: &Host, network: &str) -> anyhow::Result<Value> {
    host.ask(Method::GET, &format!("/networks/{}", encode(network)), None)
}

fn list(host: &Host, json: bool, quiet: bool) -> anyhow::Result<()> {
    let networks = host.ask(Method::GET, &format!("/networks?filters={}", encode(r#"{"scope":["global"]}"#)), None)?;
    let networks = networks.as_array().context("a list of networks")?;
    let whole = networks.iter().map(|network| inspected(host, &text(&network["Id"])));
    let whole = whole.collect::<anyhow::Result<Vec<_>>>()?;
    if json {
        writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&whole)?)?;
        return Ok(());
    }
    if quiet {
        let mut out = std::io::stdout().lock();
        return Ok(whole.iter().try_for_each(|network| writeln!(out, "{}", text(&network["Name"])))?);
    }
    let rows = whole.iter().map(|network| {
        let slices = network["Slices"].as_array().map_or(&[][..], Vec::as_slice);
        let nodes: std::collections::BTreeSet<_> = slices.iter().map(|slice| text(&slice["Node"])).collect();
        let kinds = [("Internal", "internal"), ("Encrypted", "encrypted"), ("EnableIPv6", "ipv6")];
        let kinds = kinds.iter().filter(|(key, _)| network[*key] == true).map(|(_, name)| *name);
        vec![
            text(&network["Name"]),
            text(&network["Id"]).chars().take(12).collect(),
            text(&network["IPAM"]["Config"][0]["Subnet"]),
            network["Containers"].as_object().map_or(0, serde_json::Map::len).to_string(),
            nodes.into_iter().collect::<Vec<_>>().join(","),
            network["MTU"].to_string(),
            kinds.collect::<Vec<_>>().join(","),
        ]
    });
    table::print(&["NAME", "ID", "RANGE", "UP", "NODES", "MTU", "KIND"], &rows.collect::<Vec<_>>())?;
    Ok(())
}

fn inspect(network: &Value, containers: &Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let configs = network["IPAM"]["Config"].as_array().into_iter().flatten();
    let ranges = configs.map(|config| text(&config["Subnet"])).collect::<Vec<_>>().join(" and ");
    writeln!(out, "{}: {ranges}, packets of {} bytes", text(&network["Name"]), network["MTU"])?;
    drop(out);
    let node_of = |id: &str| {
        let found = containers.as_array()?.iter().find(|container| container["Id"] == id)?;
        Some(text(&found["Labels"]["wharf.node"]))
    };
    let members: Vec<(String, String, String)> = network["Containers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(id, member)| (node_of(id).unwrap_or_default(), text(&member["Name"]), text(&member["IPv4Address"])))
        .collect();
    let mut rows = Vec::new();
    for slice in network["Slices"].as_array().into_iter().flatten() {
        let node = text(&slice["Node"]);
        let mut mine: Vec<_> = members.iter().filter(|(of, ..)| *of == node).collect();
        mine.sort_by(|one, other| one.1.cmp(&other.1));
        let on = |(_, name, address): &(String, String, String)| {
            format!("{name} ({})", address.split('/').next().unwrap_or(address))
        };
        rows.push(vec![node, text(&slice["Slice"]), mine.into_iter().map(on).collect::<Vec<_>>().join(", ")]);
    }
    table::print(&["NODE", "BLOCK", "CONTAINERS UP"], &rows)?;
    Ok(())
}

fn doctor(host: &Host, nodes: &[String], json: bool) -> anyhow::Result<ExitCode> {
    let query: Vec<_> = nodes.iter().map(|node| format!("node={}", encode(node))).collect();
    let examined = host.ask(Method::GET, &format!("/wharf/doctor?{}", query.join("&")), None)?;
    let examined = examined.as_array().context("a list of nodes")?;
    let of_ways = |node: &Value| -> Vec<Value> {
        let ways = node["Ways"].as_array().cloned().unwrap_or_default();
        ways.into_iter().map(|way| way["Finding"].clone()).filter(|finding| !finding.is_null()).collect()
    };
    let all = examined.iter().flat_map(|node| {
        let itself = node["Findings"].as_array().cloned().unwrap_or_default();
        itself.into_iter().chain(of_ways(node)).map(|finding| (text(&node["Node"]), finding))
    });
    let findings: Vec<_> = all.collect();
    let code = if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(examined)?)?;
        return Ok(code);
    }
    let time =
        |value: &Value| value.as_u64().map_or_else(|| "-".to_owned(), |time| format!("{:.2} ms", time as f64 / 1000.0));
    let rows = examined.iter().flat_map(|node| {
        node["Ways"].as_array().into_iter().flatten().map(|way| {
            let times = &way["Microseconds"];
            let tunnel = |key: &str| {
                if way["CommonNetworks"] == true { time(&times[key]) } else { "no common network".to_owned() }
            };
            let (host, small, full) = (time(&times["Host"]), tunnel("Tunnel"), tunnel("TunnelFull"));
            vec![text(&node["Node"]), text(&way["To"]), text(&way["Address"]), host, small, full]
        })
    });
    table::print(&["FROM", "TO", "ADDRESS", "HOST", "TUNNEL", "FULL PACKET"], &rows.collect::<Vec<_>>())?;
    let mut out = std::io::stdout().lock();
    if findings.is_empty() {
        writeln!(out, "\nAll is well.")?;
    }
    for (node, finding) in findings {
        writeln!(out, "\n{node}: {}", text(&finding["What"]))?;
        if finding["Do"] != "" {
            writeln!(out, "  → {}", text(&finding["Do"]))?;
        }
    }
    Ok(code)
}
