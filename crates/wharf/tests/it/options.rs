use std::process::Command;

use anyhow::ensure;

use crate::fleet::{Fleet, WHARF, serve, text};

/// Runs `wharf`, which has to fail; what it says.
fn fails(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(WHARF).args(arguments).output()?;
    ensure!(!output.status.success(), "{arguments:?} did not fail");
    Ok(text(&output.stderr))
}

pub(crate) fn bad_configurations_are_told_of(fleet: &Fleet) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data").display().to_string();
    let serve = |more: &[&str]| fails(&[&["serve", "--data", &data][..], more].concat());
    let socket = format!("unix://{}", folder.path().join("s").display());
    for (arguments, says) in [
        (&["--host", "tcp://0.0.0.0:12375", "nodes://127.0.0.1:1"][..], "is not a loopback address"),
        (&["--host", "ssh://x"], "only tcp://HOST:PORT and unix:///PATH are understood"),
        (&["--strategy", "clever"], "want one of spread, binpack, random"),
        (&["--host", &socket, "consul://a"], "not supported yet"),
        (&["--host", &socket, "nodes://10.0.0.1"], "no port"),
        (&["--host", &socket, "file:///nothing"], "/nothing"),
        (&["--host", &fleet.host(), "nodes://127.0.0.1:1"], "another process answers there"),
    ] {
        let said = serve(arguments)?;
        ensure!(said.contains(says), "{arguments:?}: {said}");
    }
    ensure!(fails(&["lab", "exec", "--name", "nolab", "node1", "--", "true"])?.contains("there is no lab nolab"));
    ensure!(
        fails(&["lab", "stop", "--name", fleet.lab.name().to_string().as_str(), "node9"])?
            .contains("it has node1 to node3")
    );
    ensure!(fails(&["lab", "up", "--name", "Bad Name"])?.contains("cannot name a lab"));
    Ok(())
}

pub(crate) fn managers_do_not_share_what_is_one_managers(fleet: &Fleet) -> anyhow::Result<()> {
    let data = fleet.folder().join("data").display().to_string();
    let folder = tempfile::tempdir()?;
    let socket = format!("unix://{}", folder.path().join("docker.sock").display());
    let said = fails(&["serve", "--data", &data, "--host", &socket, "nodes://127.0.0.1:1"])?;
    ensure!(said.contains("another manager uses it"), "{said}");
    // A manager is no engine, and an engine that is not there is told of; the rest works.
    let nodes = format!("{},{},tcp://127.0.0.1:9", fleet.node(1), fleet.host());
    let mut manager = serve(folder.path(), &nodes)?;
    let info = fleet.client("docker", &["info"]).env("DOCKER_HOST", &socket).output();
    manager.kill()?;
    manager.wait()?;
    let info = text(&info?.stdout);
    ensure!(info.contains("it is itself a manager (wharf/"), "{info}");
    ensure!(info.matches("Status: Pending").count() == 2 && info.matches("Status: Healthy").count() == 1, "{info}");
    Ok(())
}
