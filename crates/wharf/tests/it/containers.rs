use anyhow::ensure;

use crate::fleet::{Fleet, text};

pub(crate) fn exit_codes_come_through(fleet: &Fleet) -> anyhow::Result<()> {
    let code = |arguments: &[&str]| anyhow::Ok(fleet.docker_output(arguments)?.status.code());
    ensure!(code(&["run", "--rm", "busybox", "true"])? == Some(0));
    ensure!(code(&["run", "--rm", "busybox", "sh", "-c", "exit 3"])? == Some(3));
    ensure!(code(&["run", "--rm", "busybox", "no-such-command"])? == Some(127));
    ensure!(code(&["run", "--rm", "busybox", "sh", "-c", "sleep 9 & kill -9 $!; wait $!"])? == Some(137));
    let sleeper = fleet.sleeper("codes", &[])?;
    ensure!(code(&["exec", &sleeper.name, "sh", "-c", "exit 7"])? == Some(7));
    Ok(())
}

pub(crate) fn a_container_answers_to_all_of_its_names(fleet: &Fleet) -> anyhow::Result<()> {
    let sleeper = fleet.sleeper("manynames", &[])?;
    let id = fleet.docker(&["inspect", "--format", "{{.Id}}", &sleeper.name])?;
    let node = fleet.node_of(&sleeper.name)?;
    for name in [&id, &id[..12], &id[..7], "/manynames", &format!("{node}/manynames")] {
        ensure!(fleet.docker(&["inspect", "--format", "{{.Id}}", name])? == id, "{name}");
    }
    ensure!(fleet.docker(&["ps", "--filter", "name=manynames", "--format", "{{.Names}}"])? == "manynames");
    let other = if node == "node1" { "node2" } else { "node1" };
    fleet.docker_fails(&["container", "inspect", &format!("{other}/manynames")])?;
    Ok(())
}

pub(crate) fn names_are_unique_in_the_fleet(fleet: &Fleet) -> anyhow::Result<()> {
    let first = fleet.sleeper("only-one", &["-e", "constraint:node==node1"])?;
    let create = ["create", "--name", "only-one", "-e", "constraint:node==node2", "busybox"];
    let said = fleet.docker_fails(&create)?;
    ensure!(said.contains("The container name \"/only-one\" is already in use by container"), "{said}");
    let second = fleet.sleeper("other-one", &["-e", "constraint:node==node2"])?;
    let said = fleet.docker_fails(&["rename", "other-one", "only-one"])?;
    ensure!(said.contains("already in use"), "{said}");
    // A name that was just freed may be taken at once, on another node, too.
    fleet.docker(&["rename", "only-one", "old-one"])?;
    fleet.docker(&["rename", "other-one", "only-one"])?;
    ensure!(fleet.node_of("only-one")? == "node2" && fleet.node_of("old-one")? == "node1");
    drop((first, second));
    fleet.docker(&["rm", "-f", "only-one", "old-one"])?;
    Ok(())
}

pub(crate) fn the_life_of_a_container(fleet: &Fleet) -> anyhow::Result<()> {
    let sleeper = fleet.sleeper("life", &[])?;
    let name = &sleeper.name;
    let status = || fleet.docker(&["ps", "-a", "--filter", "name=^/life$", "--format", "{{.Status}}"]);
    ensure!(status()?.starts_with("Up "));
    fleet.docker(&["pause", name])?;
    ensure!(status()?.ends_with("(Paused)"), "{}", status()?);
    fleet.docker(&["unpause", name])?;
    fleet.docker(&["update", "--memory", "64m", "--memory-swap", "64m", name])?;
    ensure!(fleet.docker(&["inspect", "--format", "{{.HostConfig.Memory}}", name])? == "67108864");
    fleet.docker(&["restart", "-t", "0", name])?;
    ensure!(fleet.docker(&["top", name])?.contains("sleep 1000"));
    fleet.docker(&["exec", name, "touch", "/new"])?;
    ensure!(fleet.docker(&["diff", name])?.contains("A /new"));
    let stats = fleet.docker(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", name])?;
    ensure!(stats.starts_with("life ") && stats.ends_with("/ 64MiB"), "{stats}");
    fleet.docker(&["stop", "-t", "0", name])?;
    ensure!(status()?.starts_with("Exited (137)"), "{}", status()?);
    ensure!(fleet.docker(&["wait", name])? == "137");
    fleet.docker(&["start", name])?;
    fleet.docker(&["kill", name])?;
    let sized = fleet.docker(&["ps", "-a", "-s", "--filter", "name=^/life$", "--format", "{{.Size}}"])?;
    ensure!(sized.contains("virtual"), "{sized}");
    fleet.docker(&["rm", name])?;
    ensure!(status()?.is_empty());
    // Created and never started, as docker says it.
    fleet.docker(&["create", "--name", "life", "busybox"])?;
    ensure!(status()? == "Created");
    fleet.docker(&["rm", name])?;
    Ok(())
}

pub(crate) fn files_are_copied_both_ways(fleet: &Fleet) -> anyhow::Result<()> {
    let sleeper = fleet.sleeper("copied", &[])?;
    let local = fleet.folder().join("file");
    std::fs::write(&local, "content")?;
    let local = local.display().to_string();
    fleet.docker(&["cp", &local, "copied:/tmp/file"])?;
    ensure!(fleet.docker(&["exec", &sleeper.name, "cat", "/tmp/file"])? == "content");
    let back = fleet.folder().join("back").display().to_string();
    fleet.docker(&["cp", "copied:/tmp/file", &back])?;
    ensure!(std::fs::read_to_string(&back)? == "content");
    // A folder, to a container that does not run.
    fleet.docker(&["stop", "-t", "0", &sleeper.name])?;
    let folder = fleet.folder().join("tree");
    std::fs::create_dir_all(folder.join("deep"))?;
    std::fs::write(folder.join("deep/leaf"), "leaf")?;
    fleet.docker(&["cp", &folder.display().to_string(), "copied:/tmp/"])?;
    let tar = fleet.client("docker", &["cp", "copied:/tmp/tree/deep/leaf", "-"]).output()?;
    ensure!(text(&tar.stdout).contains("leaf"));
    let exported = fleet.client("docker", &["export", &sleeper.name]).output()?;
    ensure!(exported.status.success() && exported.stdout.len() > 1 << 20);
    Ok(())
}

pub(crate) fn execs_are_found_without_a_memory_of_them(fleet: &Fleet) -> anyhow::Result<()> {
    let sleeper = fleet.sleeper("execs", &["-e", "constraint:node==node3"])?;
    // Made behind the manager's back: it has to look for it.
    let made = fleet.client("curl", &["-s", "-H", "Content-Type: application/json", "-d", "{\"Cmd\":[\"true\"]}"]);
    let url = format!("{}/containers/{}/exec", fleet.node(3).replace("tcp://", "http://"), sleeper.name);
    let mut made = made;
    let output = made.arg(url).output()?;
    let exec: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let id = exec["Id"].as_str().unwrap_or_default();
    let (status, answer) = fleet.request("GET", &format!("/v1.41/exec/{id}/json"), b"")?;
    ensure!(status == 200 && answer.contains(id), "{status} {answer}");
    Ok(())
}
