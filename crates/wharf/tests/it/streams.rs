use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Stdio,
};

use anyhow::{Context, ensure};

use crate::fleet::{Fleet, text};

/// 64 MB that do not repeat.
fn blob() -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(next).take(8 << 20).flat_map(u64::to_le_bytes).collect()
}

pub(crate) fn standard_input_comes_through_whole(fleet: &Fleet) -> anyhow::Result<()> {
    let blob = blob();
    let path = fleet.folder().join("blob");
    std::fs::write(&path, &blob)?;
    let sum = |arguments: &[&str]| -> anyhow::Result<String> {
        let mut client = fleet.client("docker", arguments);
        let output = client.stdin(Stdio::from(std::fs::File::open(&path)?)).output()?;
        ensure!(output.status.success(), "{}", text(&output.stderr));
        Ok(text(&output.stdout).split(' ').next().unwrap_or_default().to_owned())
    };
    let expected = text(&std::process::Command::new("md5sum").arg(&path).output()?.stdout);
    let expected = expected.split(' ').next().unwrap_or_default();
    ensure!(sum(&["run", "--rm", "-i", "busybox", "md5sum"])? == expected);
    let sleeper = fleet.sleeper("blob", &[])?;
    ensure!(sum(&["exec", "-i", &sleeper.name, "md5sum"])? == expected);
    // Back again: what goes in comes out.
    let mut client = fleet.client("docker", &["run", "--rm", "-i", "busybox", "cat"]);
    let output = client.stdin(Stdio::from(std::fs::File::open(&path)?)).output()?;
    ensure!(output.stdout == blob, "{} of {} bytes", output.stdout.len(), blob.len());
    Ok(())
}

pub(crate) fn clients_attach_to_what_runs_and_what_is_started(fleet: &Fleet) -> anyhow::Result<()> {
    let script = "read line; echo got $line; exit 6";
    let with_input = |arguments: &[&str], input: &str| -> anyhow::Result<(String, Option<i32>)> {
        let mut client = fleet.client("docker", arguments).stdin(Stdio::piped()).spawn()?;
        // It stays open: a client whose input ends may leave before it has printed everything, on one engine, too.
        let mut stdin = client.stdin.take().context("a standard input")?;
        stdin.write_all(input.as_bytes())?;
        let output = client.wait_with_output()?;
        drop(stdin);
        Ok((text(&output.stdout), output.status.code()))
    };
    fleet.docker(&["run", "-d", "-i", "--name", "attached", "busybox", "sh", "-c", script])?;
    ensure!(with_input(&["attach", "attached"], "one\n")? == ("got one".to_owned(), Some(6)));
    ensure!(with_input(&["start", "-a", "-i", "attached"], "two\n")? == ("got two".to_owned(), Some(6)));
    // Without an upgrade, as old clients ask: what was printed is the answer.
    let (status, answer) = fleet.request("POST", "/v1.41/containers/attached/attach?logs=1&stdout=1", b"")?;
    ensure!(status == 200 && answer.contains("got one") && answer.contains("got two"), "{status} {answer}");
    fleet.docker(&["rm", "attached"])?;
    Ok(())
}

pub(crate) fn raw_streams_need_no_upgrade(fleet: &Fleet) -> anyhow::Result<()> {
    let sleeper = fleet.sleeper("raw", &[])?;
    let body = br#"{"Cmd":["cat"],"AttachStdin":true,"AttachStdout":true,"Tty":true}"#;
    let (_, made) = fleet.request("POST", &format!("/containers/{}/exec", sleeper.name), body)?;
    let made: serde_json::Value = serde_json::from_str(&made)?;
    let id = made["Id"].as_str().context("an exec")?;
    // On one connection: an ordinary request, then the old way to become a stream.
    let mut stream = UnixStream::connect(fleet.socket())?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")?;
    read_until(&mut stream, "\r\n\r\nOK")?;
    let start = r#"{"Detach":false,"Tty":true}"#;
    write!(
        stream,
        "POST /v1.24/exec/{id}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{start}",
        start.len()
    )?;
    let said = read_until(&mut stream, "\r\n\r\n")?;
    let head = said.to_lowercase();
    ensure!(head.starts_with("http/1.1 200 ok\r\n") && head.contains("application/vnd.docker.raw-stream"), "{said}");
    ensure!(!head.contains("upgrade"), "{said}");
    stream.write_all(b"typed\n")?;
    read_until(&mut stream, "typed")?;
    Ok(())
}

/// Reads until a text has come.
fn read_until(stream: &mut UnixStream, text: &str) -> anyhow::Result<String> {
    let mut said = String::new();
    while !said.contains(text) {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece)?;
        ensure!(count > 0, "it ended before {text:?}: {said}");
        said.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    Ok(said)
}

pub(crate) fn logs_are_followed(fleet: &Fleet) -> anyhow::Result<()> {
    let script = "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done; echo bad >&2";
    fleet.docker(&["run", "-d", "--name", "logger", "busybox", "sh", "-c", script])?;
    let followed = fleet.docker_output(&["logs", "-f", "logger"])?;
    let lines = text(&followed.stdout);
    ensure!(lines == "line 1\nline 2\nline 3\nline 4\nline 5" && text(&followed.stderr) == "bad", "{lines}");
    ensure!(fleet.docker(&["logs", "--tail", "2", "logger"])? == "line 5");
    let all = fleet.docker(&["logs", "--since", "1h", "-t", "logger"])?;
    ensure!(all.lines().count() == 5 && all.lines().all(|line| line.starts_with("20")), "{all}");
    ensure!(fleet.docker(&["logs", "--since", "2100-01-01T00:00:00Z", "logger"])?.is_empty());
    fleet.docker(&["rm", "logger"])?;
    Ok(())
}

pub(crate) fn terminals_work(fleet: &Fleet) -> anyhow::Result<()> {
    let terminal = |command: &str| -> anyhow::Result<String> {
        let output = fleet.client("script", &["-qec", command, "/dev/null"]).output()?;
        Ok(format!("{} {}", text(&output.stdout), output.status.code().unwrap_or(-1)))
    };
    let said = terminal("docker run --rm -it busybox sh -c 'tty; exit 4'")?;
    ensure!(said.contains("/dev/pts/") && said.ends_with(" 4"), "{said}");
    let sleeper = fleet.sleeper("terminal", &[])?;
    let said = terminal(&format!("docker exec -it {} sh -c 'tty; exit 5'", sleeper.name))?;
    ensure!(said.contains("/dev/pts/") && said.ends_with(" 5"), "{said}");
    Ok(())
}

pub(crate) fn waits_of_clients_that_left_are_ended(fleet: &Fleet) -> anyhow::Result<()> {
    let sleeper = fleet.sleeper("waited", &[])?;
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = UnixStream::connect(fleet.socket())?;
        let path = format!("/v1.41/containers/{}/wait", sleeper.name);
        write!(stream, "POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n")?;
        // The head comes at once, the body when the container ends.
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        ensure!(head.ends_with(b" 200"));
        streams.push(stream);
    }
    let held = || established(fleet);
    ensure!(held() >= 50, "each has a connection to the engine");
    drop(streams);
    fleet.wait("their connections are closed", || held() < 30)?;
    Ok(())
}

/// Connections from here to the engines.
fn established(fleet: &Fleet) -> usize {
    let nodes = fleet.lab.nodes().unwrap_or_default();
    let connections = std::process::Command::new("ss").args(["-Htn", "state", "established"]).output();
    let connections = connections.map(|output| text(&output.stdout)).unwrap_or_default();
    let engine = |line: &&str| nodes.iter().any(|node| line.contains(&format!("{}:2375", node.address)));
    connections.lines().filter(engine).count()
}
