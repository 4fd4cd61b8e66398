//! `wharf explain`: why a container is on its node, and where one like it would go.

use std::{io::Write, process::ExitCode};

use clap::Args;
use http::Method;
use serde_json::Value;
use wharf_model::{ByteSize, Cpus};

use crate::{client::Host, table};

/// Tell why a container is on its node, and where one like it would go now.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    host: Host,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A name or an id
    container: String,
}

/// Does what was asked.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let name = percent_encoding::utf8_percent_encode(&options.container, percent_encoding::NON_ALPHANUMERIC);
    let explained = options.host.ask(Method::GET, &format!("/wharf/explain/{name}"), None)?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&explained)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |key: &str| explained[key].as_str().unwrap_or_default();
    writeln!(out, "{} is on {}.", text("Container"), text("Node"))?;
    match explained["Placed"].as_str() {
        Some(placed) => writeln!(out, "It was placed by {placed}")?,
        None => writeln!(out, "It was not placed by Wharf: it was made on its engine.")?,
    }
    let asks: Vec<_> = explained["Asks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    writeln!(
        out,
        "It asks for {}.",
        if asks.is_empty() { "nothing in particular".to_owned() } else { asks.join("; ") }
    )?;
    match explained["Best"].as_str() {
        Some(best) => writeln!(out, "One like it would go to {best} now ({}):\n", text("Strategy"))?,
        None => writeln!(out, "One like it would find no place now:\n")?,
    }
    drop(out);
    let rows = explained["Nodes"].as_array().into_iter().flatten().map(|node| row(node, text("Best")));
    table::print(&["NODE", "FITS", "CONTAINERS", "RESERVED", "WHY"], &rows.collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

fn row(node: &Value, best: &str) -> Vec<String> {
    let number = |key: &str| node[key].as_u64().unwrap_or(0);
    let name = node["Node"].as_str().unwrap_or_default();
    let fits = node["Fits"].as_bool().unwrap_or(false);
    let reserved = Cpus::from_nanos(number("ReservedNanoCpus"));
    let mut why = Vec::new();
    match node["Reason"].as_str() {
        Some(reason) => why.push(reason.to_owned()),
        None => {
            let said = [
                (name == best, "the best"),
                (node["Company"] == true, "its project is there"),
                (node["Prompt"] == false, "slow to answer just now"),
            ];
            why.extend(said.into_iter().filter(|(so, _)| *so).map(|(_, what)| what.to_owned()));
            if number("Wishes") > 0 {
                why.push(format!("{} wishes hold", number("Wishes")));
            }
        }
    }
    vec![
        name.to_owned(),
        if fits { "yes" } else { "no" }.to_owned(),
        number("Containers").to_string(),
        format!("{reserved} CPUs, {}", ByteSize(number("ReservedMemory"))),
        why.join(", "),
    ]
}
