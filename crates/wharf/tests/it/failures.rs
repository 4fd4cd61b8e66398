use std::{
    io::Write,
    os::unix::net::UnixStream,
    time::{Duration, SystemTime},
};

use anyhow::ensure;

use crate::fleet::{Fleet, serve};

/// How long something takes.
fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Duration)> {
    let began = SystemTime::now();
    Ok((work()?, began.elapsed()?))
}

/// Nobody may be kept waiting for a node that does not answer. A second is the aim and what is measured by the bench; tests
/// run on busy machines.
const PROMPT: Duration = Duration::from_secs(5);

fn statuses(fleet: &Fleet) -> String {
    fleet.docker(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).unwrap_or_default()
}

fn is_down(fleet: &Fleet, name: &str) -> bool {
    statuses(fleet).lines().any(|line| line == format!("{name} Host Down"))
}

pub(crate) fn a_hung_node_slows_nobody_down(fleet: &Fleet) -> anyhow::Result<()> {
    let _hung = fleet.sleeper("hung", &["-e", "constraint:node==node2"])?;
    let _well = fleet.sleeper("well", &["-e", "constraint:node==node1"])?;
    fleet.lab.pause("node2")?;
    // At once, before anybody can know: the list is there, and containers find a place.
    for _ in 0..4 {
        let (_, took) = timed(|| fleet.docker(&["run", "--rm", "busybox", "true"]))?;
        ensure!(took < PROMPT, "run took {took:?}");
        let (_, took) = timed(|| fleet.docker(&["ps"]))?;
        ensure!(took < PROMPT, "ps took {took:?}");
    }
    fleet.wait("its containers show as Host Down", || is_down(fleet, "hung"))?;
    let ((), took) = timed(|| {
        fleet.docker(&["run", "--rm", "busybox", "true"])?;
        let info = fleet.docker(&["info"])?;
        ensure!(info.contains("Status: Unhealthy") && info.contains("did not answer"), "{info}");
        for refused in [
            &["inspect", "--type", "container", "hung"][..],
            &["exec", "hung", "true"],
            &["rm", "-f", "hung"],
            &["logs", "hung"],
        ] {
            let said = fleet.docker_fails(refused)?;
            ensure!(said.contains("is on node2, which does not answer"), "{said}");
        }
        ensure!(fleet.docker(&["exec", "well", "echo", "well"])? == "well");
        let said = fleet.docker_fails(&["run", "--rm", "-e", "constraint:node==node2", "busybox"])?;
        ensure!(said.contains("node2: does not answer"), "{said}");
        Ok(())
    })?;
    ensure!(took < 2 * PROMPT, "all of it took {took:?}");
    fleet.lab.resume("node2")?;
    fleet.wait("it is back", || !is_down(fleet, "hung"))?;
    ensure!(fleet.docker(&["exec", "hung", "echo", "back"])? == "back");
    Ok(())
}

pub(crate) fn a_dead_node_comes_back_as_it_is(fleet: &Fleet) -> anyhow::Result<()> {
    let _dead = fleet.sleeper("dead", &["-e", "constraint:node==node3"])?;
    fleet.lab.kill("node3")?;
    fleet.wait("its container shows as Host Down", || is_down(fleet, "dead"))?;
    ensure!(fleet.docker(&["images", "-q", "busybox"])?.lines().count() == 1);
    fleet.lab.start("node3")?;
    fleet.wait("it is back", || statuses(fleet).contains("dead Exited"))?;
    fleet.docker(&["start", "dead"])?;
    fleet.lab.cut("node3")?;
    fleet.wait("a cut node is as good as dead", || is_down(fleet, "dead"))?;
    fleet.lab.mend("node3")?;
    fleet.wait("it is back", || statuses(fleet).contains("dead Up"))?;
    Ok(())
}

pub(crate) fn a_create_whose_answer_is_lost_leaves_nothing(fleet: &Fleet) -> anyhow::Result<()> {
    let before = statuses(fleet);
    fleet.lab.pause("node1")?;
    // Some of them are sent to the node that hangs before anybody knows; it carries them out when it goes on.
    for _ in 0..4 {
        fleet.docker(&["run", "--rm", "busybox", "true"])?;
    }
    // Also when the manager that sent them is no more.
    fleet.restart_manager()?;
    fleet.lab.resume("node1")?;
    fleet.wait("the node is back", || {
        fleet.docker(&["info"]).is_ok_and(|info| info.matches("Status: Healthy").count() == 3)
    })?;
    fleet.wait("nothing is left", || {
        let names = |statuses: &str| {
            statuses.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect::<Vec<_>>()
        };
        names(&statuses(fleet)) == names(&before)
    })?;
    Ok(())
}

pub(crate) fn a_killed_manager_disturbs_nothing(fleet: &Fleet) -> anyhow::Result<()> {
    let counter = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.1; done";
    fleet.docker(&["run", "-d", "--name", "counter", "busybox", "sh", "-c", counter])?;
    let before = fleet.docker(&[
        "ps",
        "-a",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.Names}} {{.Ports}} {{.Label \"wharf.node\"}}",
    ])?;
    let started = fleet.docker(&["inspect", "--format", "{{.State.StartedAt}}", "counter"])?;
    for _ in 0..3 {
        fleet.restart_manager()?;
        let after = fleet.docker(&[
            "ps",
            "-a",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.Names}} {{.Ports}} {{.Label \"wharf.node\"}}",
        ])?;
        ensure!(after == before, "{before}\n{after}");
    }
    ensure!(fleet.docker(&["inspect", "--format", "{{.State.StartedAt}}", "counter"])? == started);
    fleet.docker(&["rm", "-f", "counter"])?;
    Ok(())
}

pub(crate) fn a_client_that_hangs_up_leaves_nothing(fleet: &Fleet) -> anyhow::Result<()> {
    let before = statuses(fleet).lines().count();
    let body = "{\"Image\":\"busybox\",\"Cmd\":[\"true\"]}";
    for number in 0..10 {
        let mut stream = UnixStream::connect(fleet.socket())?;
        let path = format!("/v1.41/containers/create?name=hungup{number}");
        // Half of them leave before their request is whole.
        let sent = if number % 2 == 0 { body } else { &body[..10] };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(sent.as_bytes())?;
        drop(stream);
    }
    // Names are free again: nothing was left, and nothing is reserved.
    for number in 0..10 {
        let name = format!("hungup{number}");
        fleet.wait("the name is free", || fleet.docker(&["create", "--name", &name, "busybox"]).is_ok())?;
        fleet.docker(&["rm", &name])?;
    }
    fleet.wait("nothing is left", || statuses(fleet).lines().count() == before)?;
    Ok(())
}

pub(crate) fn nodes_come_and_go_with_a_file(fleet: &Fleet) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let nodes = folder.path().join("nodes");
    let (one, two) = (fleet.node(1), fleet.node(2));
    std::fs::write(&nodes, format!("{one} # the first\n"))?;
    let mut manager = serve(folder.path(), &format!("file://{}", nodes.display()))?;
    let docker = |arguments: &[&str]| {
        let mut client = fleet.client("docker", arguments);
        client.env("DOCKER_HOST", format!("unix://{}", folder.path().join("docker.sock").display())).output()
    };
    let names = || docker(&["info"]).map(|output| crate::fleet::text(&output.stdout)).unwrap_or_default();
    let outcome = (|| {
        ensure!(names().contains("Nodes: 1"), "{}", names());
        std::fs::write(&nodes, format!("{one}\n{two}\n"))?;
        fleet.wait("a node has come", || names().contains("Nodes: 2") && names().matches("Healthy").count() == 2)?;
        // Nonsense changes nothing.
        std::fs::write(&nodes, "???\n")?;
        let said = || std::fs::read_to_string(folder.path().join("log")).is_ok_and(|log| log.contains("line 1"));
        fleet.wait("the nonsense is told of", said)?;
        ensure!(names().contains("Nodes: 2"));
        std::fs::write(&nodes, format!("{two}\n"))?;
        fleet.wait("a node has gone", || names().contains("Nodes: 1"))?;
        Ok(())
    })();
    manager.kill()?;
    manager.wait()?;
    outcome
}
