use std::collections::BTreeMap;

use anyhow::ensure;

use crate::fleet::{Container, Fleet};

pub(crate) fn containers_are_spread(fleet: &Fleet) -> anyhow::Result<()> {
    // Other tests place containers at the same time: what reserves much is spread all the same.
    let mut nodes = BTreeMap::new();
    let mut guards = Vec::new();
    for number in 0..6 {
        let guard = fleet.sleeper(&format!("spread{number}"), &["--memory", "2g"])?;
        *nodes.entry(fleet.node_of(&guard.name)?).or_insert(0) += 1;
        guards.push(guard);
    }
    ensure!(nodes.len() == 3 && nodes.values().all(|count| *count == 2), "{nodes:?}");
    Ok(())
}

pub(crate) fn constraints_are_kept(fleet: &Fleet) -> anyhow::Result<()> {
    for node in ["node1", "node2", "node3"] {
        let guard = fleet.sleeper("constrained", &["-e", &format!("constraint:node=={node}")])?;
        ensure!(fleet.node_of(&guard.name)? == node);
        let environment = fleet.docker(&["exec", &guard.name, "env"])?;
        ensure!(!environment.contains("constraint"), "{environment}");
        let label = "{{index .Config.Labels \"com.docker.swarm.constraints\"}}";
        let label = fleet.docker(&["inspect", "--format", label, &guard.name])?;
        ensure!(label == format!("[\"node=={node}\"]"), "{label}");
    }
    let guard = fleet
        .sleeper("constrained", &["--label", "com.docker.swarm.constraints=[\"node==/^node3$/\",\"ostype==linux\"]"])?;
    ensure!(fleet.node_of(&guard.name)? == "node3");
    drop(guard);
    let guard = fleet.sleeper("constrained", &["-e", "constraint:node==~nowhere"])?;
    drop(guard);
    Ok(())
}

pub(crate) fn a_port_is_had_once_per_node(fleet: &Fleet) -> anyhow::Result<()> {
    let mut guards = Vec::new();
    for number in 1..=3 {
        guards.push(fleet.sleeper(&format!("port{number}"), &["-p", "19090:80"])?);
    }
    let mut nodes = guards.iter().map(|guard| fleet.node_of(&guard.name)).collect::<Result<Vec<_>, _>>()?;
    nodes.sort();
    ensure!(nodes == ["node1", "node2", "node3"], "{nodes:?}");
    let said = fleet.docker_fails(&["run", "-d", "--name", "port4", "-p", "19090:80", "busybox", "sleep", "9"])?;
    ensure!(said.contains("port 19090/tcp is taken by port"), "{said}");
    // Another protocol is another port; one that is left again can be had.
    guards.push(fleet.sleeper("port-udp", &["-p", "19090:80/udp"])?);
    fleet.docker(&["stop", "-t", "0", "port2"])?;
    guards.push(fleet.sleeper("port5", &["-p", "19090:80"])?);
    Ok(())
}

pub(crate) fn parallel_creates_are_even_and_keep_ports_apart(fleet: &Fleet) -> anyhow::Result<()> {
    let create = |number: usize| {
        let name = format!("parallel{number}");
        fleet.docker_output(&["create", "--name", &name, "-p", "19091:80", "busybox"])
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..12).map(|number| scope.spawn(move || create(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no client panics")).collect()
    });
    let _guards: Vec<_> = (0..12).map(|number| Container::of(fleet, &format!("parallel{number}"))).collect();
    let made = outcomes.iter().flatten().filter(|output| output.status.success()).count();
    ensure!(made == 3, "one per node, and no more: {made}");
    let listed = fleet.docker(&["ps", "-a", "--filter", "name=parallel", "--format", "{{.Label \"wharf.node\"}}"])?;
    let mut nodes: Vec<_> = listed.lines().collect();
    nodes.sort_unstable();
    ensure!(nodes == ["node1", "node2", "node3"], "{nodes:?}");
    Ok(())
}

pub(crate) fn a_refusal_names_every_node(fleet: &Fleet) -> anyhow::Result<()> {
    let said = fleet.docker_fails(&["run", "--rm", "--memory", "900g", "busybox"])?;
    ensure!(said.contains("Unable to find a node that satisfies the following conditions"), "{said}");
    let named = ["node1", "node2", "node3"].iter().all(|node| said.contains(node));
    ensure!(named && said.contains(": lacks memory: 900 GiB asked for, "), "{said}");
    let said = fleet.docker_fails(&["run", "--rm", "--cpus", "0.5", "-e", "constraint:node==node7", "busybox"])?;
    ensure!(said.contains("node2: constraint node==node7 fails: it is node2"), "{said}");
    Ok(())
}

pub(crate) fn containers_keep_apart_and_together(fleet: &Fleet) -> anyhow::Result<()> {
    // The predecessor's own test: three at once that keep apart, on two nodes.
    let create = |number: usize| {
        let (name, apart) = (format!("apart{number}"), "affinity:role!=apart");
        let more = ["create", "--name", &name, "--label", "role=apart", "-e", apart, "-e", "constraint:node!=node3"];
        fleet.docker_output(&[&more[..], &["busybox"]].concat())
    };
    let _guards: Vec<_> = (0..3).map(|number| Container::of(fleet, &format!("apart{number}"))).collect();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|number| scope.spawn(move || create(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no client panics")).collect()
    });
    let refusals = outcomes.iter().flatten().filter(|output| !output.status.success());
    let refusals: Vec<_> = refusals.map(|output| crate::fleet::text(&output.stderr)).collect();
    ensure!(refusals.len() == 1 && refusals[0].contains("node1, node2: affinity role!=apart fails"), "{refusals:?}");

    let near = fleet.sleeper("near", &["-e", "whitelist:node==node2|node3"])?;
    let home = fleet.node_of(&near.name)?;
    ensure!(home != "node1");
    for (number, wish) in ["container==near", "container==~near", "container==ne*"].iter().enumerate() {
        let with = fleet.sleeper(&format!("near{number}"), &["-e", &format!("affinity:{wish}")])?;
        ensure!(fleet.node_of(&with.name)? == home, "{wish}");
    }
    let away = fleet.sleeper("away", &["-e", "affinity:container!=near"])?;
    ensure!(fleet.node_of(&away.name)? != home);
    Ok(())
}

pub(crate) fn processors_are_reserved_by_shares_as_the_predecessor_did(fleet: &Fleet) -> anyhow::Result<()> {
    let one = fleet.sleeper("shares", &["-c", "1"])?;
    let cpus = "{{.HostConfig.CpuShares}} {{index .Config.Labels \"wharf.cpus\"}}";
    let said = fleet.docker(&["inspect", "--format", cpus, &one.name])?;
    ensure!(said.ends_with(" 1") && !said.starts_with("1 "), "{said}");
    let said = fleet.docker_fails(&["run", "--rm", "-c", "100", "busybox"])?;
    ensure!(said.contains("lacks CPUs: 100 asked for"), "{said}");
    fleet.docker(&["run", "--rm", "-c", "512", "busybox", "true"])?;
    Ok(())
}

pub(crate) fn two_hundred_creates_at_once_are_spread_evenly(fleet: &Fleet) -> anyhow::Result<()> {
    let create = |number: usize| {
        let body = br#"{"Image":"busybox","Labels":{"many":""},"HostConfig":{"Memory":8388608}}"#;
        fleet.request("POST", &format!("/containers/create?name=many{number}"), body)
    };
    let failed: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..200).map(|number| scope.spawn(move || create(number))).collect();
        let answers = threads.into_iter().map(|thread| thread.join().expect("no client panics"));
        answers.filter(|answer| !answer.as_ref().is_ok_and(|(status, _)| *status == 201)).collect()
    });
    let listed = fleet.docker(&["ps", "-a", "--filter", "label=many", "--format", "{{.Label \"wharf.node\"}}"])?;
    let mut nodes = BTreeMap::new();
    for node in listed.lines() {
        *nodes.entry(node).or_insert(0) += 1;
    }
    fleet.request("POST", "/containers/prune?filters=%7B%22label%22%3A%5B%22many%22%5D%7D", b"")?;
    ensure!(failed.is_empty() && listed.lines().count() == 200, "{failed:?}");
    // Other tests' containers count, too, and come and go meanwhile.
    ensure!(nodes.len() == 3 && nodes.values().all(|count| (55..=78).contains(count)), "{nodes:?}");
    Ok(())
}
