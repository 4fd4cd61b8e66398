use anyhow::ensure;

use crate::fleet::Fleet;

pub(crate) fn networks_tie_containers_to_their_node(fleet: &Fleet) -> anyhow::Result<()> {
    fleet.docker(&["network", "create", "node2/tied"])?;
    let said = fleet.docker_fails(&["network", "create", "tied"])?;
    ensure!(said.contains("network with name tied already exists"), "{said}");
    let _one = fleet.sleeper("tied-one", &["--network", "tied"])?;
    let _two = fleet.sleeper("tied-two", &["--network", "tied", "--network-alias", "second"])?;
    ensure!(fleet.node_of("tied-one")? == "node2" && fleet.node_of("tied-two")? == "node2");
    fleet.docker(&["exec", "tied-one", "ping", "-c", "1", "second"])?;
    fleet.docker(&["network", "disconnect", "tied", "tied-two"])?;
    fleet.docker(&["network", "connect", "--alias", "again", "tied", "tied-two"])?;
    fleet.docker(&["exec", "tied-one", "ping", "-c", "1", "again"])?;
    let _away = fleet.sleeper("tied-away", &["-e", "constraint:node==node1"])?;
    let said = fleet.docker_fails(&["network", "connect", "tied", "tied-away"])?;
    ensure!(said.contains("network tied is local to node2, and the container is on node1"), "{said}");
    let said = fleet.docker_fails(&["run", "--rm", "--network", "tied", "-e", "constraint:node==node1", "busybox"])?;
    ensure!(said.contains("network tied is on node2"), "{said}");
    let said = fleet.docker_fails(&["network", "rm", "tied"])?;
    ensure!(said.contains("has active endpoints"), "{said}");
    let said = fleet.docker_fails(&["network", "inspect", "bridge"])?;
    ensure!(said.contains("node1/bridge"), "{said}");
    ensure!(fleet.docker(&["network", "inspect", "--format", "{{.Name}}", "node1/bridge"])? == "bridge");
    fleet.docker(&["rm", "-f", "tied-one", "tied-two"])?;
    fleet.docker(&["network", "rm", "tied"])?;
    ensure!(fleet.docker(&["network", "ls", "-q", "--filter", "type=custom", "--filter", "name=tied"])?.is_empty());
    Ok(())
}

pub(crate) fn pruning_cleans_every_node(fleet: &Fleet) -> anyhow::Result<()> {
    for node in ["node1", "node2", "node3"] {
        let (name, place) = (format!("pruned-{node}"), format!("constraint:node=={node}"));
        fleet.docker(&["create", "--name", &name, "--label", "pruned", "-e", &place, "busybox"])?;
        fleet.docker(&["network", "create", "--label", "pruned", &format!("{node}/{name}")])?;
        fleet.docker(&["volume", "create", "--label", "pruned", &format!("{node}/{name}")])?;
    }
    let kept = fleet.sleeper("pruned-not", &["--label", "pruned"])?;
    let usage = fleet.docker(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"])?;
    let counted = |kind: &str| {
        let line = usage.lines().find_map(|line| line.strip_prefix(kind));
        line.and_then(|count| count.trim().parse::<usize>().ok()).unwrap_or(0)
    };
    ensure!(counted("Containers") >= 4 && counted("Local Volumes") >= 3 && counted("Images") >= 1, "{usage}");
    for kind in ["container", "network", "volume"] {
        let named: &[&str] = if kind == "volume" { &["--all"] } else { &[] };
        let said = fleet.docker(&[&[kind, "prune", "-f", "--filter", "label=pruned"], named].concat())?;
        ensure!(said.matches("pruned-node").count() == 3 || said.lines().count() >= 5, "{said}");
    }
    let left = fleet.docker(&["ps", "-a", "--filter", "label=pruned", "--format", "{{.Names}}"])?;
    ensure!(left == kept.name, "{left}");
    ensure!(fleet.docker(&["network", "ls", "-q", "--filter", "label=pruned"])?.is_empty());
    ensure!(fleet.docker(&["volume", "ls", "-q", "--filter", "label=pruned"])?.is_empty());
    let said = fleet.docker_fails(&["container", "prune", "-f", "--filter", "colour=red"])?;
    ensure!(said.to_lowercase().contains("invalid filter"), "{said}");
    Ok(())
}

pub(crate) fn volumes_tie_containers_to_their_node(fleet: &Fleet) -> anyhow::Result<()> {
    ensure!(fleet.docker(&["volume", "create", "node3/kept"])? == "kept");
    ensure!(fleet.docker(&["volume", "create", "kept"])? == "kept", "a volume that is there is the answer");
    fleet.docker(&["run", "--rm", "-v", "kept:/kept", "busybox", "sh", "-c", "echo here > /kept/file"])?;
    let _reader = fleet.sleeper("kept-reader", &["--mount", "type=volume,source=kept,target=/kept"])?;
    ensure!(fleet.node_of("kept-reader")? == "node3");
    ensure!(fleet.docker(&["exec", "kept-reader", "cat", "/kept/file"])? == "here");
    let _with = fleet.sleeper("kept-with", &["--volumes-from", "kept-reader:ro"])?;
    ensure!(fleet.docker(&["exec", "kept-with", "cat", "/kept/file"])? == "here");
    let _joined =
        fleet.sleeper("kept-joined", &["--network", "container:kept-reader", "--pid", "container:kept-reader"])?;
    ensure!(fleet.node_of("kept-joined")? == "node3");
    ensure!(fleet.docker(&["volume", "ls", "-q", "--filter", "name=kept"])? == "kept");
    fleet.docker(&["rm", "-f", "kept-joined", "kept-with", "kept-reader"])?;
    fleet.docker(&["volume", "rm", "kept"])?;
    let said = fleet.docker_fails(&["volume", "inspect", "kept"])?;
    ensure!(said.contains("no such volume"), "{said}");
    Ok(())
}

pub(crate) fn only_volumes_without_a_name_are_pruned_unless_asked(fleet: &Fleet) -> anyhow::Result<()> {
    fleet.docker(&["volume", "create", "--label", "anonymous-test", "named"])?;
    // A name that engines might have given, and no label of a container's: as `-v /data` makes it.
    let anonymous = "0123456789abcdef".repeat(4);
    fleet.docker(&["volume", "create", "--label", "anonymous-test", &anonymous])?;
    let prune =
        |more: &[&str]| fleet.docker(&[&["volume", "prune", "-f", "--filter", "label=anonymous-test"], more].concat());
    let said = prune(&[])?;
    ensure!(said.contains(&anonymous) && !said.contains("named"), "{said}");
    ensure!(prune(&["--filter", "label!=x", "-a"])?.contains("named"));
    ensure!(fleet.docker(&["volume", "ls", "-q", "--filter", "label=anonymous-test"])?.is_empty());
    Ok(())
}

pub(crate) fn a_container_has_several_networks_from_the_start(fleet: &Fleet) -> anyhow::Result<()> {
    for network in ["node2/both-a", "node2/both-b"] {
        fleet.docker(&["network", "create", network])?;
    }
    let more = ["--network", "name=both-a,alias=x", "--network", "both-b", "--mac-address", "02:42:ac:11:00:99"];
    fleet.sleeper("both", &more).and_then(|_both| {
        let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}{{.Config.MacAddress}}";
        let said = fleet.docker(&["inspect", "--format", networks, "both"])?;
        ensure!(said == "both-a both-b 02:42:ac:11:00:99", "{said}");
        Ok(())
    })?;
    fleet.docker(&["network", "rm", "both-a", "both-b"])?;
    Ok(())
}
