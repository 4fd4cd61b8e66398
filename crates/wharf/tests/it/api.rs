use anyhow::ensure;
use serde_json::Value;

use crate::fleet::Fleet;

/// Requests that cannot be served, and the beginning of what is said.
const BAD: [(&str, &str, &str, u16, &str); 19] = [
    ("POST", "/v1.41/containers/create", "{\"Image\":", 400, "invalid JSON: EOF"),
    ("POST", "/v1.41/containers/create", "", 400, "invalid JSON: got EOF"),
    ("POST", "/v1.41/containers/create", "[]", 400, "invalid JSON: invalid type"),
    ("POST", "/v1.41/containers/create", "{}", 400, "no image is named"),
    ("POST", "/v1.41/containers/create?name=a/b", "{\"Image\":\"busybox\"}", 400, "Invalid container name (a/b)"),
    ("POST", "/v1.41/containers/create", "{\"Image\":\"nothing\"}", 404, "No such image: nothing:latest"),
    (
        "POST",
        "/v1.41/containers/create",
        "{\"Image\":\"busybox\",\"HostConfig\":{\"NetworkMode\":\"no\"}}",
        404,
        "network no not found",
    ),
    (
        "POST",
        "/v1.41/containers/create",
        "{\"Image\":\"busybox\",\"Env\":[\"constraint:x\"]}",
        400,
        "constraint:x: One of operator",
    ),
    (
        "POST",
        "/v1.41/containers/create",
        "{\"Image\":\"busybox\",\"Env\":[\"reschedule:x\"]}",
        400,
        "invalid reschedule policy: x",
    ),
    ("POST", "/v1.51/containers/nothing/stop?signal=INT", "", 404, "No such container: nothing"),
    ("GET", "/v1.41/containers/nothing/json", "", 404, "No such container: nothing"),
    ("GET", "/v1.41/containers/json?limit=x", "", 400, "limit=x: want a whole number"),
    ("GET", "/v1.41/containers/json?filters=%7B%22no%22%3A%5B%221%22%5D%7D", "", 400, "Invalid filter 'no'"),
    ("GET", "/v1.41/exec/0123/json", "", 404, "No such exec instance: 0123"),
    ("GET", "/v1.41/events?since=yesterday", "", 400, "since=yesterday"),
    ("GET", "/v1.41/nothing", "", 404, "page not found"),
    ("PATCH", "/v1.41/info", "", 404, "page not found"),
    ("GET", "/v1.41/volumes/nothing", "", 404, "get nothing: no such volume"),
    ("POST", "/v1.41/networks/create", "{\"Name\":\"node9/x\"}", 404, "no node is called node9"),
];

pub(crate) fn bad_requests_get_docker_shaped_errors(fleet: &Fleet) -> anyhow::Result<()> {
    for (method, path, body, status, begins) in BAD {
        let (found, answer) = fleet.request(method, path, body.as_bytes())?;
        let answer: Value = serde_json::from_str(&answer)?;
        let message = answer["message"].as_str().unwrap_or_default();
        ensure!(found == status && message.starts_with(begins), "{method} {path}: {found} {message}");
    }
    let large = format!("{{\"Image\":\"busybox\",\"x\":\"{}\"}}", "a".repeat(5 << 20));
    let (status, answer) = fleet.request("POST", "/v1.41/containers/create", large.as_bytes())?;
    ensure!(status == 413 && answer.contains("larger than"), "{status} {answer}");
    Ok(())
}

pub(crate) fn what_web_pages_can_send_is_refused(fleet: &Fleet) -> anyhow::Result<()> {
    let socket = fleet.socket().display().to_string();
    let url = "http://docker/v1.41/containers/create";
    let arguments =
        ["-s", "--unix-socket", &socket, "-H", "Content-Type: text/plain", "-d", "{\"Image\":\"busybox\"}", url];
    let said = crate::fleet::text(&fleet.client("curl", &arguments).output()?.stdout);
    ensure!(said.contains("Content-Type specified (text/plain) must be 'application/json'"), "{said}");
    Ok(())
}

pub(crate) fn what_is_not_served_says_so(fleet: &Fleet) -> anyhow::Result<()> {
    // What it would do to one engine must not happen to one of many.
    for (method, path) in [("POST", "/swarm/init"), ("GET", "/services"), ("GET", "/nodes")] {
        let (status, answer) = fleet.request(method, path, b"{}")?;
        ensure!(status == 503 && answer.contains("This node is not a swarm manager."), "{path}: {status} {answer}");
    }
    let said = fleet.docker_fails(&["inspect", "nothing-of-that-name"])?;
    ensure!(said.to_lowercase().contains("no such object"), "{said}");
    Ok(())
}

pub(crate) fn a_newer_or_older_client_is_told(fleet: &Fleet) -> anyhow::Result<()> {
    let (status, answer) = fleet.request("GET", "/v9.99/info", b"")?;
    ensure!(status == 400 && answer.contains("client version 9.99 is too new. Maximum supported API version is 1.51"));
    let (status, answer) = fleet.request("GET", "/v1.10/info", b"")?;
    ensure!(status == 400 && answer.contains("client version 1.10 is too old. Minimum supported API version is 1.24"));
    for version in ["1.24", "1.30", "1.41", "1.51"] {
        let (status, _) = fleet.request("GET", &format!("/v{version}/containers/json"), b"")?;
        ensure!(status == 200, "{version}");
    }
    Ok(())
}

pub(crate) fn ping_has_the_headers_that_clients_look_for(fleet: &Fleet) -> anyhow::Result<()> {
    let socket = fleet.socket().display().to_string();
    for method in ["-I", "-i"] {
        let curl = fleet.client("curl", &["-s", method, "--unix-socket", &socket, "http://docker/_ping"]).output()?;
        let head = crate::fleet::text(&curl.stdout).to_lowercase();
        for header in ["api-version: 1.51", "ostype: linux", "docker-experimental: false", "cache-control: no-cache"] {
            ensure!(head.matches(header).count() == 1, "{header}: {head}");
        }
    }
    Ok(())
}

pub(crate) fn an_older_engine_is_not_asked_for_what_it_would_drop(fleet: &Fleet) -> anyhow::Result<()> {
    let engine: Value = serde_json::from_str(&fleet.docker(&["info", "--format", "{{json .}}"])?)?;
    let old = engine["SystemStatus"].to_string().contains("20.10.");
    ensure!(old, "these tests' engines speak 1.41");
    let _sleeper = fleet.sleeper("newer", &[])?;
    let said = fleet.docker_fails(&["stop", "-s", "INT", "newer"])?;
    ensure!(said.contains("parameter signal needs an engine of API 1.42, and node"), "{said}");
    let said = fleet.docker_fails(&["run", "--rm", "--annotation", "a=b", "busybox"])?;
    ensure!(said.contains("HostConfig.Annotations needs API 1.43, and its engine speaks 1.41"), "{said}");
    // An untagged image has no name in the newest form, and one of its own in the older.
    for (version, none) in [("1.42", serde_json::json!(["<none>:<none>"])), ("1.51", serde_json::json!([]))] {
        fleet.docker(&["commit", "newer"])?;
        let path = format!("/v{version}/images/json?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D");
        let images: Value = serde_json::from_str(&fleet.request("GET", &path, b"")?.1)?;
        ensure!(images[0]["RepoTags"] == none, "{images}");
        fleet.docker(&["rmi", images[0]["Id"].as_str().unwrap_or_default()])?;
    }
    Ok(())
}

pub(crate) fn plugins_are_their_nodes(fleet: &Fleet) -> anyhow::Result<()> {
    ensure!(fleet.docker(&["plugin", "ls", "--format", "{{.Name}}"])?.is_empty());
    let said = fleet.docker_fails(&["plugin", "inspect", "node2/sshfs"])?;
    ensure!(said.contains("plugin \"sshfs\" not found"), "its engine's answer: {said}");
    let (status, answer) = fleet.request("POST", "/plugins/pull?remote=vieux/sshfs", b"[]")?;
    ensure!(status == 404 && answer.contains("docker plugin install --alias NODE/NAME PLUGIN"), "{status} {answer}");
    Ok(())
}
