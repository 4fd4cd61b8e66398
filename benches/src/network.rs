//! What networks between the nodes cost: the ways between two containers in turn, in one run, and what the ways cost those
//! who start containers and engines.

mod api;
mod boot;
mod load;
mod namespace;
mod paths;
mod times;

use std::time::Duration;

use anyhow::ensure;
use tokio::{runtime::Runtime, time::Instant};
use wharf_engine::Client;
use wharf_lab::{Lab, load_busybox};

use self::{api::Api, load::Figures, paths::Path};
use crate::{
    Engines, Options,
    measure::{Goal, Row},
    subject::{Manager, pause},
};

/// After so long no further round begins, where there were some.
const ROUNDS_WITHIN: Duration = Duration::from_secs(60);
const ROUNDS_LEAST: usize = 3;

/// What is waited for is there after so long, or never.
const WITHIN: Duration = Duration::from_secs(60);

/// The networks that are measured, and the options that they are created with.
const PLAIN: &str = "plain";
const SEALED: &str = "sealed";

/// Which way is to reach which part of which other one. What the kernel's VXLAN reaches by itself is no doing of ours.
const RATIOS: [(&str, &str, Option<f64>); 4] = [
    ("fleet", "hand VXLAN", Some(0.97)),
    ("fleet", "routed", Some(0.88)),
    ("hand VXLAN", "routed", None),
    ("encrypted", "fleet", Some(0.4)),
];

/// A fleet on real engines.
struct Fleet<'a> {
    lab: &'a Lab,
    api: Api<'a>,
    /// Each node's own engine.
    engines: Vec<Api<'a>>,
}

/// Measures all of it on a lab of its own.
pub(crate) fn measure(options: &Options, runtime: &Runtime) -> anyhow::Result<Vec<Row>> {
    let name = "bench".parse()?;
    Lab::down(&name)?;
    let lab = Engines(Lab::up(name, 3, |_| {})?);
    let folder = tempfile::tempdir()?;
    let manager = Manager::start(&options.wharf, folder.path(), &lab.0.discovery(), &[])?;
    load_busybox(&manager.endpoint().to_string())?;
    let nodes = lab.0.nodes()?;
    let engines = nodes.iter().map(|node| Ok(Api { runtime, client: Client::new(node.endpoint.parse()?) }));
    let fleet = Fleet {
        lab: &lab.0,
        api: Api { runtime, client: Client::new(manager.endpoint()) },
        engines: engines.collect::<anyhow::Result<_>>()?,
    };
    let processors = std::thread::available_parallelism()?;
    let mut rows = vec![Row::single(&format!("load of the {processors} processors, before"), loadavg()?, "")];
    fleet.api.network(PLAIN, &[])?;
    fleet.api.network(SEALED, &["encrypted"])?;
    let paths = paths::all(&fleet)?;
    rows.extend(rounds(options.rounds, &paths, &fleet)?);
    rows.push(Row::single("load of the processors, after the rounds", loadavg()?, ""));
    rows.extend(times::losses(&paths, &fleet)?);
    rows.push(times::memory(&fleet)?);
    rows.push(times::names(&fleet)?);
    rows.extend(times::starts(&fleet)?);
    fleet.clear()?;
    let boots = boot::prepare(&fleet)?;
    // An engine's boot depends on none of us.
    drop(manager);
    rows.push(boots.measure(&fleet)?);
    rows.push(Row::single("load of the processors, at the end", loadavg()?, ""));
    Ok(rows)
}

/// Every way once per round, in the one order and in the other in turn: what the machine does beside that hits all of them.
fn rounds(count: usize, paths: &[Path], fleet: &Fleet<'_>) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let servers: Vec<_> =
        paths.iter().map(|path| load::Server::start(path, folder.path())).collect::<anyhow::Result<_>>()?;
    let helpers = load::Helpers::find(fleet)?;
    let mut figures: Vec<_> = paths.iter().map(|_| Figures::default()).collect();
    let mut order: Vec<_> = paths.iter().enumerate().collect();
    let began = Instant::now();
    for round in 0..count {
        if round >= ROUNDS_LEAST && began.elapsed() > ROUNDS_WITHIN {
            break;
        }
        load::round(&order, &helpers, &mut figures)?;
        order.reverse();
    }
    drop(servers);
    let mut rows = Vec::new();
    for (what, unit, get) in load::FIGURES {
        for (path, figures) in paths.iter().zip(&figures) {
            rows.push(Row::median(&format!("{}: {what}", path.name), &get(figures), unit));
        }
    }
    let of = |name| paths.iter().zip(&figures).find(|(path, _)| path.name == name).map(|(_, figures)| figures);
    for (one, other, goal) in RATIOS {
        let (Some(ours), Some(theirs)) = (of(one), of(other)) else { continue };
        for (what, _, get) in load::FIGURES {
            // Within a round they had the same machine.
            let ratios: Vec<_> = get(ours).iter().zip(get(theirs)).map(|(ours, theirs)| ours / theirs).collect();
            let row = Row::median(&format!("{one} / {other}, {what}"), &ratios, "");
            rows.push(match goal.filter(|_| !load::PER_CPU.contains(&what)) {
                Some(goal) => row.with_goal(Goal::Least(goal)),
                None => row,
            });
        }
    }
    Ok(rows)
}

impl Fleet<'_> {
    /// The engine of a node, from 1.
    fn engine(&self, node: usize) -> &Api<'_> {
        &self.engines[node - 1]
    }

    /// Removes the containers and networks of what was measured before.
    fn clear(&self) -> anyhow::Result<()> {
        for container in self.api.get("/containers/json?all=1")?.as_array().into_iter().flatten() {
            self.api.delete(&format!("/containers/{}?force=1", container["Id"].as_str().unwrap_or_default()))?;
        }
        self.api.delete(&format!("/networks/{PLAIN}"))?;
        self.api.delete(&format!("/networks/{SEALED}"))
    }
}

/// Looks until what is looked for is there, with a bound.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(began.elapsed() < WITHIN, "not within {WITHIN:?}: {what}");
        pause(Duration::from_millis(10));
    }
}

/// How many processes wanted to run, on the average of the last minute.
fn loadavg() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}
