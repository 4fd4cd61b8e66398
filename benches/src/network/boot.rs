//! An engine's boot with fleet networks while there is nobody who knows of them, against one with networks of its own.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use super::{
    Fleet,
    api::{Api, sleeper},
    wait_for,
};
use crate::measure::{Row, percentile};

/// Networks of each of the two engines, and containers, one on each.
const NETWORKS: usize = 5;

/// Boots of each engine; on a slow machine one will do.
const BOOTS: usize = 3;
const BOOTS_WITHIN: Duration = Duration::from_secs(20);

/// Two nodes: one with networks of its own, one with fleet networks.
const LOCAL: (usize, &str) = (2, "node2");
const FLEET: (usize, &str) = (3, "node3");

/// Engines that are ready to be booted.
pub(super) struct Boots;

pub(super) fn prepare(fleet: &Fleet<'_>) -> anyhow::Result<Boots> {
    for (api, node, kind) in [(fleet.engine(LOCAL.0), LOCAL.1, "local"), (&fleet.api, FLEET.1, "fleet")] {
        for number in 0..NETWORKS {
            let name = format!("boot-{kind}-{number}");
            api.network(&name, &[])?;
            let id = api.create(&name, &sleeper(node, &name, "always"))?;
            api.start(&id)?;
        }
    }
    Ok(Boots)
}

impl Boots {
    /// Boots them in turn. No manager is there any more that would bring agents back.
    pub(super) fn measure(self, fleet: &Fleet<'_>) -> anyhow::Result<Row> {
        let mut times = [Vec::new(), Vec::new()];
        for (node, _) in [LOCAL, FLEET] {
            fleet.engine(node).delete("/containers/wharf-agent?force=1")?;
            ensure!(running(fleet.engine(node))? == NETWORKS, "not all containers run before the boot");
        }
        let all = Instant::now();
        for boot in 0..BOOTS {
            if boot > 0 && all.elapsed() > BOOTS_WITHIN {
                break;
            }
            for ((number, node), times) in [LOCAL, FLEET].into_iter().zip(&mut times) {
                fleet.lab.stop(node)?;
                let began = Instant::now();
                fleet.lab.start(node)?;
                let engine = fleet.engine(number);
                wait_for("containers run after a boot", || Ok((running(engine)? == NETWORKS).then_some(())))?;
                times.push(began.elapsed());
            }
        }
        let [local, ours] = times.map(|mut times| percentile(&mut times, 0.5) / 1000.0);
        Ok(Row::pair(&format!("boot with {NETWORKS} networks, without an agent"), local, ours, "s"))
    }
}

fn running(engine: &Api<'_>) -> anyhow::Result<usize> {
    Ok(engine.get("/containers/json")?.as_array().map_or(0, Vec::len))
}
