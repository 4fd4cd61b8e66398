//! The commands beside `serve`, and the predecessor's.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, ensure};

use crate::fleet::{Fleet, WHARF, text, wait};

/// Runs `wharf` on the fleet; what it printed.
fn wharf(fleet: &Fleet, arguments: &[&str]) -> anyhow::Result<String> {
    let output = fleet.client(WHARF, arguments).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    Ok(text(&output.stdout))
}

pub(crate) fn labels_of_nodes_outlive_the_manager_and_are_constraints(fleet: &Fleet) -> anyhow::Result<()> {
    wharf(fleet, &["node", "label", "node2", "shelf=top", "gone=soon"])?;
    ensure!(wharf(fleet, &["node", "label", "node2", "gone-"])? == "shelf=top");
    let sleeper = fleet.sleeper("shelved", &["-e", "constraint:shelf==top"])?;
    ensure!(fleet.node_of(&sleeper.name)? == "node2");
    ensure!(fleet.docker(&["info"])?.contains("shelf=top"));
    fleet.restart_manager()?;
    ensure!(wharf(fleet, &["node", "label", "node2"])? == "shelf=top");
    let listed = wharf(fleet, &["node", "ls"])?;
    ensure!(listed.lines().count() == 4 && listed.contains("Healthy") && listed.contains("shelf=top"), "{listed}");
    ensure!(wharf(fleet, &["node", "ls", "-q"])? == "node1\nnode2\nnode3");
    let json: serde_json::Value = serde_json::from_str(&wharf(fleet, &["node", "inspect", "node2"])?)?;
    ensure!(json[0]["Labels"]["shelf"] == "top" && json[0]["AllLabels"]["ostype"] == "linux", "{json}");
    for (arguments, says) in [
        (&["node", "label", "node9", "a=b"][..], "no node is called node9: there are node1"),
        (&["node", "label", "node1", "ostype=x"], "cannot be changed"),
        (&["node", "label", "node1", "x"], "want KEY=VALUE to set a label, or KEY- to take it away"),
        (&["node", "label", "node1", "é=1"], "want a letter or _"),
    ] {
        let output = fleet.client(WHARF, arguments).output()?;
        ensure!(!output.status.success() && text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    wharf(fleet, &["node", "label", "node2", "shelf-"])?;
    Ok(())
}

pub(crate) fn placements_are_explained(fleet: &Fleet) -> anyhow::Result<()> {
    let more = ["-m", "64m", "-p", "19099:80", "-e", "constraint:node==node3"];
    let sleeper = fleet.sleeper("explained", &more)?;
    let said = wharf(fleet, &["explain", &sleeper.name])?;
    for part in [
        "explained is on node3.",
        "It was placed by spread, 1 of 3 nodes fit",
        "It asks for 64 MiB; port 19099/tcp; constraint node==node3.",
        "One like it would find no place now",
        "port 19099/tcp is taken by explained",
    ] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    let json: serde_json::Value = serde_json::from_str(&wharf(fleet, &["explain", "--json", &sleeper.name])?)?;
    ensure!(json["Nodes"].as_array().context("nodes")?.len() == 3 && json["Best"].is_null(), "{json}");
    let (status, answer) = fleet.request("POST", "/wharf/explain", br#"{"Image":"busybox"}"#)?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    ensure!(status == 200 && answer["Best"].as_str().is_some_and(|best| best.starts_with("node")), "{answer}");
    Ok(())
}

pub(crate) fn the_predecessors_commands_are_understood(fleet: &Fleet) -> anyhow::Result<()> {
    let swarm = |arguments: &[&str]| {
        let mut command = Command::new(WHARF);
        command.arg0("swarm").args(arguments).env_remove("SWARM_DISCOVERY").output()
    };
    let listed = swarm(&["list", "nodes://10.0.0.[1:2]:2375"])?;
    ensure!(text(&listed.stdout) == "10.0.0.1:2375\n10.0.0.2:2375", "{}", text(&listed.stderr));
    for (arguments, says) in [
        (&["list"][..], "discovery required to list a cluster. See 'swarm list --help'."),
        (&["l", "--timeout", "-1s", "nodes://a:1"], "--timeout should be a positive number"),
        (&["join", "nodes://a:1"], "missing mandatory --advertise flag"),
        (&["j", "--addr", "a", "nodes://a:1"], "--advertise should be of the form ip:port or hostname:port"),
        (
            &["join", "--advertise", "a:1", "--heartbeat", "1ms", "nodes://a:1"],
            "--heartbeat should be at least one second",
        ),
        (
            &["join", "--advertise", "a:1", "--ttl", "60s", "nodes://a:1"],
            "--ttl must be strictly superior to the heartbeat value",
        ),
        (&["join", "--advertise", "a:1", "--delay", "-1s", "nodes://a:1"], "--delay should not be a negative number"),
        (&["create"], "switched off in 2019"),
        (&["manage", "--tls", "nodes://a:1"], "--tlscert and --tlskey must be provided when using --tls"),
        (&["manage", "--tlscacert", "x", "nodes://a:1"], "require the use of either --tls or --tlsverify"),
        (
            &["manage", "--replication", "nodes://a:1"],
            "--advertise address must be provided when using --leader-election",
        ),
        (
            &["manage", "--cluster-opt", "swarm.overcommit=-2", "nodes://a:1"],
            "swarm.overcommit should be larger than -1, -2.000000 is invalid",
        ),
        (
            &["manage", "--cluster-opt", "swarm.createretry=-1", "nodes://a:1"],
            "swarm.createretry can not be negative, -1 is invalid",
        ),
        (
            &["manage", "--engine-refresh-min-interval", "-1s", "nodes://a:1"],
            "min refresh interval should be a positive number",
        ),
        (
            &["manage", "--engine-refresh-max-interval", "1s", "nodes://a:1"],
            "max refresh interval cannot be less than min refresh interval",
        ),
        (&["manage", "--engine-failure-retry", "0", "nodes://a:1"], "invalid failure retry count"),
        (&["manage", "token://0123"], "switched off in 2019"),
        (&["manage", "consul://a"], "not supported yet"),
    ] {
        let output = swarm(arguments)?;
        ensure!(
            !output.status.success() && text(&output.stderr).contains(says),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
    // As it was called: names bear their node, and only the asked-for rules are kept.
    let _named = fleet.sleeper("swarm-named", &["-e", "constraint:node==node1"])?;
    let folder = tempfile::tempdir()?;
    let socket = format!("unix://{}", folder.path().join("s").display());
    let data = folder.path().join("data").display().to_string();
    let mut manager = Command::new(WHARF)
        .arg0("swarm")
        .args(["--debug", "manage", "-H", &socket, "--data", &data, "--strategy", "binpacking", "-f", "constraint"])
        .arg(fleet.lab.discovery())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let docker = |arguments: &[&str]| fleet.client("docker", arguments).env("DOCKER_HOST", &socket).output();
    let served = wait("the predecessor's manager lists", || {
        docker(&["ps", "--format", "{{.Names}}"]).is_ok_and(|output| text(&output.stdout).contains("node1/swarm-named"))
    });
    let info = docker(&["info"]);
    manager.kill()?;
    manager.wait()?;
    served?;
    let info = text(&info?.stdout);
    ensure!(info.contains("Strategy: binpack") && info.contains("Filters: constraint\n"), "{info}");
    Ok(())
}
