use anyhow::ensure;

use crate::fleet::Fleet;

pub(crate) fn every_filter_of_ps_works(fleet: &Fleet) -> anyhow::Result<()> {
    let _one = fleet.sleeper(
        "lists-one",
        &["--label", "group=lists", "--label", "rank=1", "-p", "18080:80", "-e", "constraint:node==node1"],
    )?;
    let _two = fleet.sleeper(
        "lists-two",
        &["--label", "group=lists", "--expose", "9999", "-v", "/lists-volume", "-e", "constraint:node==node2"],
    )?;
    let _end = fleet.sleeper("lists-end", &["--label", "group=lists", "-e", "constraint:node==node3"])?;
    fleet.docker(&["kill", "lists-end"])?;
    fleet.docker(&["create", "--name", "lists-new", "--label", "group=lists", "busybox"])?;
    let id = fleet.docker(&["inspect", "--format", "{{.Id}}", "lists-one"])?;
    let volume = fleet.docker(&["inspect", "--format", "{{range .Mounts}}{{.Name}}{{end}}", "lists-two"])?;
    let mut failures = Vec::new();
    let mut check = |filters: &[&str], expected: &[&str]| -> anyhow::Result<()> {
        let mut arguments = vec!["ps", "--format", "{{.Names}}", "--filter", "label=group=lists"];
        for filter in filters {
            match filter.strip_prefix('-') {
                Some(_) => arguments.push(filter),
                None => arguments.extend(["--filter", filter]),
            }
        }
        let found = fleet.docker(&arguments)?;
        let found: Vec<_> = found.lines().map(|name| name.trim_start_matches("lists-")).collect();
        if found != expected {
            failures.push(format!("{filters:?}: {found:?} instead of {expected:?}"));
        }
        Ok(())
    };
    check(&[], &["two", "one"])?;
    check(&["-a"], &["new", "end", "two", "one"])?;
    check(&["-l"], &["new"])?;
    check(&["-n2"], &["new", "end"])?;
    check(&["label=rank"], &["one"])?;
    check(&["label=rank=2"], &[])?;
    check(&["label=wharf.node=node2"], &["two"])?;
    check(&["node=node1"], &["one"])?;
    check(&["name=lists-t"], &["two"])?;
    check(&["name=^/lists-one$"], &["one"])?;
    check(&[&format!("id={}", &id[..10])], &["one"])?;
    check(&["status=exited"], &["end"])?;
    check(&["status=created", "status=exited"], &["new", "end"])?;
    check(&["exited=137"], &["end"])?;
    check(&["exited=0"], &[])?;
    check(&["ancestor=busybox"], &["two", "one"])?;
    check(&["ancestor=nothing"], &[])?;
    check(&["publish=18080"], &["one"])?;
    check(&["publish=18000-18100/tcp"], &["one"])?;
    check(&["expose=9999"], &["two"])?;
    check(&[&format!("volume={volume}")], &["two"])?;
    check(&["volume=/lists-volume"], &["two"])?;
    check(&["network=bridge"], &["two", "one"])?;
    check(&["health=none"], &["two", "one"])?;
    check(&["health=healthy"], &[])?;
    check(&["is-task=false"], &["two", "one"])?;
    check(&["before=lists-end"], &["two", "one"])?;
    check(&["-a", "since=lists-two"], &["new", "end"])?;
    fleet.docker(&["rm", "lists-new"])?;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    let said = fleet.docker_fails(&["ps", "--filter", "status=odd"])?;
    ensure!(said.contains("Invalid filter 'status=odd'"), "{said}");
    let said = fleet.docker_fails(&["ps", "--filter", "since=nobody"])?;
    ensure!(said.contains("No such container: nobody"), "{said}");
    let ports = fleet.docker(&["ps", "--filter", "name=lists-one", "--format", "{{.Ports}}"])?;
    let address = fleet.node(1).replace("tcp://", "").replace(":2375", "");
    ensure!(ports == format!("{address}:18080->80/tcp"), "{ports}");
    Ok(())
}

pub(crate) fn images_of_the_fleet_are_one_list(fleet: &Fleet) -> anyhow::Result<()> {
    // On every node now.
    for node in 1..=3 {
        fleet.docker(&["run", "--rm", "-e", &format!("constraint:node==node{node}"), "busybox", "true"])?;
    }
    let listed = fleet.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "busybox"])?;
    ensure!(listed == "busybox:latest", "one image, one line: {listed}");
    ensure!(fleet.docker(&["images", "-q", "--filter", "reference=busy*"])?.lines().count() == 1);
    ensure!(fleet.docker(&["images", "-q", "--filter", "reference=nothing"])?.is_empty());
    let id = fleet.docker(&["images", "-q", "--no-trunc", "busybox"])?;
    for reference in [&id, &id[7..19], "busybox:latest", "docker.io/library/busybox"] {
        ensure!(fleet.docker(&["image", "inspect", "--format", "{{.Id}}", reference])? == id, "{reference}");
    }
    Ok(())
}
