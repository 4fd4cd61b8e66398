//! `wharf agent`: the process of a node that joins its containers to those of the others.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use wharf_model::Endpoint;

use crate::manager::{log_to_stderr, stop_on_signal};

/// Join this host's containers to those of the fleet: networks, and names.
///
/// A manager brings agents to its nodes by itself; this is for hosts where one is to be started by hand. It needs root.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf agent --join tcp://10.0.0.5:2378 --token wharf-1-…    the first time, as `wharf node token` prints it
  wharf agent --join tcp://10.0.0.5:2378                      later times
  wharf agent --cleanup                                       leave the host as it was")]
pub(crate) struct Options {
    /// Where the manager is: tcp://ADDRESS:PORT.
    #[arg(long, value_name = "URL", required_unless_present = "cleanup", value_parser = manager)]
    join: Option<SocketAddr>,

    /// A join token, as `wharf node token` prints it. Others on this host may see it here: the variable hides it.
    #[arg(long, env = "WHARF_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// Where the agent keeps its key and what it was told.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf-agent")]
    data: PathBuf,

    /// Where the host's files are, for an agent in a container.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// The Docker engine of this host.
    #[arg(long, value_name = "URL", default_value = "unix:///var/run/docker.sock")]
    engine: Endpoint,

    /// Remove what agents have made of this host, devices, routes and rules, and end.
    #[arg(long, conflicts_with_all = ["join", "token"])]
    cleanup: bool,
}

fn manager(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("tcp://").unwrap_or(text);
    address.parse().map_err(|_| "want tcp://ADDRESS:PORT, with an IP address".to_owned())
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    log_to_stderr("info");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let Some(manager) = options.join else {
        let removed = runtime.block_on(wharf_agent::cleanup(options.root))?;
        tell(&removed)?;
        return Ok(ExitCode::SUCCESS);
    };
    let build = std::env::var("WHARF_BUILD").map(|build| format!("+{build}")).unwrap_or_default();
    let config = wharf_agent::Config {
        manager,
        token: options.token,
        data: options.data,
        root: options.root,
        engine: options.engine,
        version: format!("{}{build}", env!("CARGO_PKG_VERSION")),
    };
    runtime.block_on(async {
        let stop = stop_on_signal()?;
        wharf_agent::run(config, stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn tell(removed: &[String]) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    for line in removed {
        writeln!(out, "{line}")?;
    }
    if removed.is_empty() {
        writeln!(out, "Nothing of Wharf's networks is on this host.")?;
    }
    Ok(())
}
