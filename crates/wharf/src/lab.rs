//! `wharf lab`: real engines on this machine, to try things with.

use std::{io::Write, os::unix::process::CommandExt, process::ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand};
use wharf_lab::{Lab, LabName};

/// Real Docker engines on this machine, each in namespaces of its own: to try things with.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Named {
    /// The lab.
    #[arg(long, default_value = "lab")]
    name: LabName,
}

#[derive(Debug, Args)]
struct OfNode {
    #[command(flatten)]
    lab: Named,
    /// The node: node1, node2, …
    node: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a lab up, or what is missing of it
    Up {
        #[command(flatten)]
        lab: Named,
        /// How many engines
        #[arg(long, default_value_t = 3)]
        nodes: usize,
    },
    /// List labs and their nodes
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a command on a node, with its engine as DOCKER_HOST
    Exec {
        #[command(flatten)]
        of: OfNode,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Stop a node's containers and engine in good order
    Stop(OfNode),
    /// Start a node's engine
    Start(OfNode),
    /// Kill a node's engine and all that it runs, at once
    Kill(OfNode),
    /// Freeze a node: it accepts connections and answers nothing
    Pause(OfNode),
    /// Let a frozen node go on
    Resume(OfNode),
    /// Cut a node's network: packets vanish
    Cut(OfNode),
    /// Mend a node's network
    Mend(OfNode),
    /// Take a lab down; nothing of it stays
    Down {
        #[command(flatten)]
        lab: Named,
        /// All labs of this machine
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
}

/// Does what was asked.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    match options.command {
        Command::Up { lab, nodes } => up(lab.name, nodes)?,
        Command::Ls { json } => list(json)?,
        Command::Exec { of, command } => {
            let (program, arguments) = command.split_first().context("no command")?;
            let mut command = Lab::open(of.lab.name)?.command(&of.node, program)?;
            // Becomes the command: its terminal, signals and exit code are ours.
            return Err(command.args(arguments).exec()).context("nsenter");
        }
        Command::Stop(of) => Lab::open(of.lab.name)?.stop(&of.node)?,
        Command::Start(of) => Lab::open(of.lab.name)?.start(&of.node)?,
        Command::Kill(of) => Lab::open(of.lab.name)?.kill(&of.node)?,
        Command::Pause(of) => Lab::open(of.lab.name)?.pause(&of.node)?,
        Command::Resume(of) => Lab::open(of.lab.name)?.resume(&of.node)?,
        Command::Cut(of) => Lab::open(of.lab.name)?.cut(&of.node)?,
        Command::Mend(of) => Lab::open(of.lab.name)?.mend(&of.node)?,
        Command::Down { lab, all: false } => Lab::down(&lab.name)?,
        Command::Down { all: true, .. } => {
            for name in Lab::names() {
                Lab::down(&name)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(name: LabName, nodes: usize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Starting {nodes} Docker engines …")?;
    let lab = Lab::up(name.clone(), nodes, |node| {
        // A closed terminal must not stop the engines half way.
        drop(writeln!(std::io::stdout(), "  {} at {} is {}", node.name, node.endpoint, node.state.name()));
    });
    let lab = lab.with_context(|| format!("lab {name} (wharf lab down --name {name} removes what there is of it)"))?;
    writeln!(out, "\nOne Docker for all of them:\n  wharf serve {}", lab.discovery())?;
    Ok(())
}

fn list(json: bool) -> anyhow::Result<()> {
    let mut labs = Vec::new();
    for lab in Lab::all()? {
        labs.push((lab.name().to_string(), lab.nodes()?));
    }
    let mut out = std::io::stdout().lock();
    if json {
        let labs: Vec<_> =
            labs.iter().map(|(name, nodes)| serde_json::json!({ "name": name, "nodes": nodes })).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&labs)?)?;
        return Ok(());
    }
    if labs.is_empty() {
        writeln!(out, "No labs. Make one with: wharf lab up")?;
        return Ok(());
    }
    writeln!(out, "{:<10} {:<10} {:<9} ENDPOINT", "LAB", "NODE", "STATE")?;
    for (name, nodes) in labs {
        for node in nodes {
            writeln!(out, "{name:<10} {:<10} {:<9} {}", node.name, node.state.name(), node.endpoint)?;
        }
    }
    Ok(())
}
