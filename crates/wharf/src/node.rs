//! `wharf node`: the nodes of a fleet, and the labels that its operator gives them.

use std::{io::Write, process::ExitCode};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};
use wharf_model::{ByteSize, Cpus};

use crate::{client::Host, table};

/// The nodes of the fleet.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    host: Host,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the nodes
    Ls {
        /// Print JSON
        #[arg(long, conflicts_with = "quiet")]
        json: bool,
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show all that is known of nodes, as JSON
    Inspect {
        /// Names or addresses
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Print the command with which a host's agent is started by hand; its token is good for a day
    Token {
        /// Print the token only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Set a node's labels, which constraints can ask for, or show them
    #[command(after_help = "\
Examples:
  wharf node label node1 zone=a disk=ssd    set two
  wharf node label node1 disk-              take one away
  docker run -e constraint:zone==a …        asks for one
  docker run -e constraint:containerslots … a node labelled containerslots=5 has at most five containers")]
    Label {
        /// Name or address
        node: String,
        /// KEY=VALUE sets a label, KEY- takes it away
        changes: Vec<String>,
    },
}

/// Does what was asked.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let host = &options.host;
    match options.command {
        Command::Ls { json, quiet } => list(&host.ask(Method::GET, "/wharf/nodes", None)?, json, quiet)?,
        Command::Inspect { nodes } => {
            let shown = nodes.iter().map(|node| host.ask(Method::GET, &path(node, ""), None));
            let shown = Value::Array(shown.collect::<anyhow::Result<_>>()?);
            writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&shown)?)?;
        }
        Command::Token { quiet } => {
            let issued = host.ask(Method::POST, "/wharf/tokens", Some(&Value::Object(Map::new())))?;
            let (token, port) = (issued["Token"].as_str().unwrap_or_default(), &issued["Port"]);
            let mut out = std::io::stdout().lock();
            if quiet {
                writeln!(out, "{token}")?;
            } else {
                writeln!(out, "On the host, as root, with this manager's address in the place of MANAGER:\n")?;
                writeln!(out, "  WHARF_TOKEN={token} wharf agent --join tcp://MANAGER:{port}\n")?;
                writeln!(out, "Good until {}.", issued["Expires"].as_str().unwrap_or_default())?;
            }
        }
        Command::Label { node, changes } => {
            let shown = if changes.is_empty() {
                host.ask(Method::GET, &path(&node, ""), None)?
            } else {
                host.ask(Method::POST, &path(&node, "/labels"), Some(&parse(&changes)?))?
            };
            let mut out = std::io::stdout().lock();
            for (key, value) in shown["Labels"].as_object().into_iter().flatten() {
                writeln!(out, "{key}={}", value.as_str().unwrap_or_default())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(node: &str, rest: &str) -> String {
    let node = percent_encoding::utf8_percent_encode(node, percent_encoding::NON_ALPHANUMERIC);
    format!("/wharf/nodes/{node}{rest}")
}

/// `KEY=VALUE` and `KEY-` as the manager takes them.
fn parse(changes: &[String]) -> anyhow::Result<Value> {
    let mut parsed = Map::new();
    for change in changes {
        let (key, value) = match (change.split_once('='), change.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Value::from(value)),
            (None, Some(key)) => (key, Value::Null),
            _ => bail!("{change}: want KEY=VALUE to set a label, or KEY- to take it away"),
        };
        if parsed.insert(key.to_owned(), value).is_some() {
            bail!("{key} is given twice");
        }
    }
    Ok(Value::Object(parsed))
}

fn list(nodes: &Value, json: bool, quiet: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(nodes)?)?;
        return Ok(());
    }
    let nodes = nodes.as_array().context("a list of nodes")?;
    let text = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
    if quiet {
        nodes.iter().try_for_each(|node| writeln!(out, "{}", text(node, "Name")))?;
        return Ok(());
    }
    drop(out);
    let rows = nodes.iter().map(|node| {
        let number = |key: &str| node[key].as_u64().unwrap_or(0);
        let labels = node["Labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        vec![
            text(node, "Name"),
            text(node, "Endpoint"),
            text(node, "Status"),
            format!("{} ({} up)", number("Containers"), number("Running")),
            format!("{}/{}", Cpus::from_nanos(number("ReservedNanoCpus")), Cpus::from_nanos(number("NanoCpus"))),
            format!("{} / {}", ByteSize(number("ReservedMemory")), ByteSize(number("Memory"))),
            text(node, "ServerVersion"),
            match node["Error"].as_str() {
                Some(error) => error.to_owned(),
                None => labels.collect::<Vec<_>>().join(","),
            },
        ]
    });
    let heads = ["NAME", "ENDPOINT", "STATUS", "CONTAINERS", "CPUS", "MEMORY", "ENGINE", "LABELS"];
    table::print(&heads, &rows.collect::<Vec<_>>())?;
    Ok(())
}
