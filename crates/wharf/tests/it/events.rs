use std::process::Stdio;

use anyhow::ensure;

use crate::fleet::{Fleet, text};

/// What `docker events` prints of a few containers' lives on all nodes, begun before them.
pub(crate) fn past_and_live_events_are_one_stream(fleet: &Fleet) -> anyhow::Result<()> {
    let format = "{{.Action}} {{.Actor.Attributes.name}} {{index .Actor.Attributes \"node.name\"}}";
    let since = fleet.docker(&["info", "--format", "{{.SystemTime}}"])?;
    for node in 1..=3 {
        let name = format!("past{node}");
        fleet.docker(&[
            "run",
            "--rm",
            "--name",
            &name,
            "-e",
            &format!("constraint:node==node{node}"),
            "busybox",
            "true",
        ])?;
    }
    let filters = ["--filter", "event=create", "--filter", "type=container", "--format", format];
    let arguments = [&["events", "--since", &since][..], &filters].concat();
    let mut live = fleet.client("docker", &arguments);
    let out = fleet.folder().join("events");
    let mut live = live.stdout(Stdio::from(std::fs::File::create(&out)?)).spawn()?;
    let lines = || std::fs::read_to_string(&out).unwrap_or_default();
    fleet.wait("the past is told", || lines().contains("create past3 node3"))?;
    fleet.docker(&["run", "--rm", "--name", "live1", "-e", "constraint:node==node2", "busybox", "true"])?;
    let seen = fleet.wait("the present is told", || lines().contains("create live1 node2"));
    live.kill()?;
    live.wait()?;
    seen?;
    let told = lines();
    let past: Vec<_> = told.lines().filter(|line| line.contains("past")).collect();
    ensure!(past == ["create past1 node1", "create past2 node2", "create past3 node3"], "once each, in order: {told}");
    ensure!(told.lines().filter(|line| line.contains("live1")).count() == 1, "{told}");
    Ok(())
}

pub(crate) fn events_are_filtered(fleet: &Fleet) -> anyhow::Result<()> {
    let since = fleet.docker(&["info", "--format", "{{.SystemTime}}"])?;
    let with = fleet.sleeper("with-label", &["--label", "backup=please"])?;
    let without = fleet.sleeper("without-label", &[])?;
    fleet.docker(&["kill", &with.name, &without.name])?;
    let until = fleet.docker(&["info", "--format", "{{.SystemTime}}"])?;
    let told = |filters: &[&str]| -> anyhow::Result<String> {
        let mut arguments =
            vec!["events", "--since", &since, "--until", &until, "--format", "{{.Action}}:{{.Actor.Attributes.name}}"];
        for filter in filters {
            arguments.extend(["--filter", filter]);
        }
        Ok(text(&fleet.docker_output(&arguments)?.stdout))
    };
    fleet.wait("the end is told", || told(&["event=die"]).is_ok_and(|told| told.lines().count() >= 2))?;
    let labelled = told(&["label=backup"])?;
    ensure!(
        labelled.lines().all(|line| line.ends_with(":with-label")) && labelled.contains("kill:with-label"),
        "{labelled}"
    );
    ensure!(told(&["label=backup=no"])?.is_empty());
    ensure!(told(&["container=without-label", "event=start"])? == "start:without-label");
    ensure!(told(&["type=volume"])?.is_empty());
    ensure!(told(&["node=node9"])?.is_empty());
    Ok(())
}
