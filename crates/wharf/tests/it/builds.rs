use anyhow::ensure;

use crate::fleet::Fleet;

fn build(fleet: &Fleet, tag: &str, content: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(fleet.folder())?;
    std::fs::write(folder.path().join("content"), content)?;
    std::fs::write(folder.path().join("Dockerfile"), "FROM busybox\nCOPY content /content\nCMD cat /content\n")?;
    let path = folder.path().display().to_string();
    let mut client = fleet.client("docker", &["build", "-t", tag, &path]);
    let output = client.env("DOCKER_BUILDKIT", "0").output()?;
    let out = crate::fleet::text(&output.stdout);
    ensure!(
        output.status.success() && out.contains("Successfully tagged"),
        "{out} {}",
        crate::fleet::text(&output.stderr)
    );
    Ok(())
}

fn run_on(fleet: &Fleet, node: usize, image: &str) -> anyhow::Result<String> {
    fleet.docker(&["run", "--rm", "-e", &format!("constraint:node==node{node}"), image])
}

pub(crate) fn a_built_image_runs_on_every_node(fleet: &Fleet) -> anyhow::Result<()> {
    build(fleet, "built:1", "first")?;
    for node in 1..=3 {
        ensure!(run_on(fleet, node, "built:1")? == "first");
    }
    // A newer image of the same name is the one that runs, also where the older one is.
    build(fleet, "built:1", "second")?;
    for node in 1..=3 {
        ensure!(run_on(fleet, node, "built:1")? == "second", "node{node}");
    }
    let (named, all) = (fleet.docker(&["images", "-q"])?, fleet.docker(&["images", "-q", "-a"])?);
    ensure!(all.lines().count() > named.lines().count(), "what builds have made on the way is shown when asked for");
    fleet.docker(&["rmi", "built:1"])?;
    Ok(())
}

pub(crate) fn a_tag_is_moved_everywhere_and_removed_everywhere(fleet: &Fleet) -> anyhow::Result<()> {
    build(fleet, "tagged:a", "a")?;
    for node in 1..=3 {
        run_on(fleet, node, "tagged:a")?;
    }
    fleet.docker(&["tag", "tagged:a", "tagged:b"])?;
    for node in 1..=3 {
        ensure!(run_on(fleet, node, "tagged:b")? == "a");
    }
    fleet.docker(&["rmi", "tagged:a", "tagged:b"])?;
    ensure!(fleet.docker(&["images", "-q", "tagged"])?.is_empty());
    let said = fleet.docker_fails(&["image", "inspect", "tagged:a"])?;
    ensure!(said.contains("No such image: tagged:a"), "{said}");
    Ok(())
}

pub(crate) fn a_build_begins_with_an_image_of_any_node(fleet: &Fleet) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(fleet.folder())?;
    for node in 1..=3 {
        // A commit is on the container's node alone; at most one of them is the builder.
        let (name, base) = (format!("base{node}"), format!("base{node}:1"));
        let _base = fleet.sleeper(&name, &["-e", &format!("constraint:node==node{node}")])?;
        fleet.docker(&["exec", &name, "touch", "/of-the-base"])?;
        fleet.docker(&["commit", &name, &base])?;
        std::fs::write(folder.path().join("Dockerfile"), format!("FROM {base}\nRUN ls /of-the-base\n"))?;
        let path = folder.path().display().to_string();
        let output = fleet.client("docker", &["build", "-t", "begun:1", &path]).env("DOCKER_BUILDKIT", "0").output()?;
        ensure!(output.status.success(), "from node{node}: {}", crate::fleet::text(&output.stderr));
        fleet.docker(&["rmi", "begun:1", &base])?;
    }
    Ok(())
}

pub(crate) fn a_container_is_committed(fleet: &Fleet) -> anyhow::Result<()> {
    let sleeper = fleet.sleeper("committed", &["-e", "constraint:node==node2"])?;
    fleet.docker(&["exec", &sleeper.name, "sh", "-c", "echo changed > /content"])?;
    fleet.docker(&[
        "commit",
        "-m",
        "a change",
        "-c",
        "CMD [\"cat\",\"/content\"]",
        "node2/committed",
        "committed:1",
    ])?;
    ensure!(run_on(fleet, 3, "committed:1")? == "changed");
    fleet.docker(&["rmi", "committed:1"])?;
    Ok(())
}

pub(crate) fn an_image_is_saved_and_loaded(fleet: &Fleet) -> anyhow::Result<()> {
    build(fleet, "saved:1", "kept")?;
    let archive = fleet.folder().join("saved.tar").display().to_string();
    fleet.docker(&["save", "-o", &archive, "saved:1", "busybox"])?;
    fleet.docker(&["rmi", "saved:1"])?;
    let said = fleet.docker(&["load", "-i", &archive])?;
    ensure!(said.contains("Loaded image: saved:1"), "{said}");
    ensure!(fleet.docker(&["run", "--rm", "saved:1"])? == "kept");
    let history = fleet.docker(&["history", "--no-trunc", "saved:1"])?;
    ensure!(history.contains("cat /content"), "{history}");
    fleet.docker(&["rmi", "saved:1"])?;
    Ok(())
}

pub(crate) fn a_build_goes_where_its_arguments_say(fleet: &Fleet) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(fleet.folder())?;
    std::fs::write(folder.path().join("Dockerfile"), "FROM busybox\nRUN hostname > /made-on\nCMD cat /made-on\n")?;
    let path = folder.path().display().to_string();
    let build = |wish: &str| {
        let arguments = ["build", "-t", "placed:1", "--no-cache", "--network", "host", "--build-arg", wish, &path];
        fleet.client("docker", &arguments).env("DOCKER_BUILDKIT", "0").output()
    };
    for node in ["node1", "node2", "node3"] {
        let output = build(&format!("constraint:node=={node}"))?;
        ensure!(output.status.success(), "{}", crate::fleet::text(&output.stderr));
        ensure!(!crate::fleet::text(&output.stdout).contains("constraint"), "it is no argument of the build");
        ensure!(fleet.docker(&["run", "--rm", "placed:1"])? == node);
    }
    let refused = build("constraint:node==node9")?;
    let said = crate::fleet::text(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("constraint node==node9 fails"), "{said}");
    fleet.docker(&["rmi", "placed:1"])?;
    Ok(())
}

pub(crate) fn buildkit_is_reached(fleet: &Fleet) -> anyhow::Result<()> {
    use std::io::{Read, Write};
    for path in ["/session", "/grpc"] {
        let mut stream = std::os::unix::net::UnixStream::connect(fleet.socket())?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
        write!(
            stream,
            "POST /v1.41{path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\
             X-Docker-Expose-Session-Uuid: 1\r\nX-Docker-Expose-Session-Name: x\r\nContent-Length: 0\r\n\r\n"
        )?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        ensure!(&head == b"HTTP/1.1 101", "{path}: {}", String::from_utf8_lossy(&head));
    }
    Ok(())
}
