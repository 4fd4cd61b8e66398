use std::path::Path;

use anyhow::ensure;

use crate::fleet::{Fleet, text};

const SECOND: &str = "version: '2'
services:
  web:
    image: busybox
    command: sh -c 'mkdir /w; hostname > /w/index.html; exec httpd -f -h /w -p 80'
    stop_signal: SIGKILL
  asker:
    image: busybox
    command: sh -c 'until wget -q -O - http://web/; do sleep 0.1; done; echo asked; exec sleep 1000'
    stop_signal: SIGKILL
    volumes:
      - kept:/kept
volumes:
  kept: {}
";

const FIRST: &str = "web:
  image: busybox
  command: sh -c 'mkdir /w; echo linked > /w/index.html; exec httpd -f -h /w -p 80'
asker:
  image: busybox
  command: sh -c 'until wget -q -O - http://web/; do sleep 0.1; done; exec sleep 1000'
  links:
    - web
";

fn compose(fleet: &Fleet, project: &str, file: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let file = file.display().to_string();
    let all = [&["-f", &file, "-p", project][..], arguments].concat();
    let output = fleet.client("docker-compose", &all).output()?;
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "docker-compose {}: {out} {error}", arguments.join(" "));
    Ok(format!("{out}\n{error}"))
}

pub(crate) fn a_project_goes_up_scales_and_goes_down(fleet: &Fleet) -> anyhow::Result<()> {
    let file = fleet.folder().join("second.yml");
    std::fs::write(&file, SECOND)?;
    let compose = |arguments: &[&str]| compose(fleet, "second", &file, arguments);
    compose(&["up", "-d"])?;
    fleet.wait("web answers by its name", || compose(&["logs", "asker"]).is_ok_and(|log| log.contains("asked")))?;
    compose(&["up", "-d", "--scale", "asker=4"])?;
    let names =
        fleet.docker(&["ps", "--filter", "label=com.docker.compose.project=second", "--format", "{{.Names}}"])?;
    ensure!(names.lines().count() == 5, "{names}");
    ensure!(compose(&["exec", "-T", "web", "cat", "/w/index.html"])?.trim().len() == 12);
    compose(&["up", "-d", "--force-recreate"])?;
    compose(&["restart", "-t", "0", "web"])?;
    ensure!(compose(&["top", "web"])?.contains("httpd"));
    compose(&["kill"])?;
    ensure!(fleet.docker(&["ps", "-q", "--filter", "label=com.docker.compose.project=second"])?.is_empty());
    compose(&["down", "-v"])?;
    let left = fleet.docker(&["network", "ls", "-q", "--filter", "name=second"])?;
    ensure!(left.is_empty() && fleet.docker(&["volume", "ls", "-q", "--filter", "name=second"])?.is_empty());
    Ok(())
}

pub(crate) fn links_of_the_first_version_work(fleet: &Fleet) -> anyhow::Result<()> {
    let file = fleet.folder().join("first.yml");
    std::fs::write(&file, FIRST)?;
    let compose = |arguments: &[&str]| compose(fleet, "first", &file, arguments);
    compose(&["up", "-d"])?;
    fleet.wait("web answers by its link", || compose(&["logs", "asker"]).is_ok_and(|log| log.contains("linked")))?;
    compose(&["kill"])?;
    compose(&["rm", "-f"])?;
    Ok(())
}
