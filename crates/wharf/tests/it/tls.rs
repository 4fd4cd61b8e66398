//! Who may connect.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::ensure;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::fleet::{Fleet, WHARF, text, wait};

/// Writes a CA, and what it vouches for, into a folder: `ca.pem`, and `NAME.pem` and `NAME-key.pem` for each name.
fn certificates(folder: &Path, names: &[&str]) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "a CA");
    std::fs::write(folder.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    for name in names {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        params.distinguished_name.push(rcgen::DnType::CommonName, *name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        std::fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &issuer)?.pem())?;
        std::fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem())?;
    }
    Ok(())
}

/// A manager with these arguments; and where it serves, as it says itself.
fn serve(folder: &Path, arguments: &[&str]) -> anyhow::Result<(Child, String)> {
    let out = folder.join("out");
    let mut manager = Command::new(WHARF)
        .args(["serve", "--data", &folder.join("data").display().to_string()])
        .args(arguments)
        .stdout(std::fs::File::create(&out)?)
        .stderr(std::fs::File::create(folder.join("log"))?)
        .stdin(Stdio::null())
        .spawn()?;
    let mut at = String::new();
    let served = wait("the manager serves", || {
        let said = std::fs::read_to_string(&out).unwrap_or_default();
        at = said
            .lines()
            .find_map(|line| line.strip_prefix("Serving the Docker API at "))
            .unwrap_or_default()
            .to_owned();
        !at.is_empty()
    });
    if let Err(error) = served {
        manager.kill()?;
        manager.wait()?;
        anyhow::bail!("{error}: {}", std::fs::read_to_string(folder.join("log"))?);
    }
    Ok((manager, at))
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(crate) fn only_clients_with_a_certificate_are_served(fleet: &Fleet) -> anyhow::Result<()> {
    let (folder, strangers) = (tempfile::tempdir()?, tempfile::tempdir()?);
    certificates(folder.path(), &["manager", "client"])?;
    certificates(strangers.path(), &["client"])?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let host = format!("tcp://127.0.0.1:{}", free_port()?);
    let (ca, cert, key) = (file("ca.pem"), file("manager.pem"), file("manager-key.pem"));
    let tls = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    // The engine behind it is a manager's socket: TLS is for what is on the network.
    let (mut manager, at) = serve(folder.path(), &[&["--host", &host], &tls[..], &[&fleet.node(1)]].concat())?;
    let docker = |certificates: Option<&Path>, ca: &str| {
        let mut arguments = vec!["-H".to_owned(), at.clone()];
        if let Some(certificates) = certificates {
            arguments.extend(["--tlsverify".to_owned(), "--tlscacert".to_owned(), ca.to_owned()]);
            arguments.extend(["--tlscert".to_owned(), certificates.join("client.pem").display().to_string()]);
            arguments.extend(["--tlskey".to_owned(), certificates.join("client-key.pem").display().to_string()]);
        }
        arguments.push("version".to_owned());
        let output = Command::new("docker").args(&arguments).env_remove("DOCKER_HOST").output();
        output.map(|output| (output.status.success(), format!("{} {}", text(&output.stdout), text(&output.stderr))))
    };
    let (known, stranger, plain) =
        (docker(Some(folder.path()), &ca), docker(Some(strangers.path()), &ca), docker(None, &ca));
    let environment = Command::new(WHARF)
        .args(["node", "ls", "-H", &at])
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", {
            for (name, as_docker_has_it) in [("client.pem", "cert.pem"), ("client-key.pem", "key.pem")] {
                std::fs::copy(folder.path().join(name), folder.path().join(as_docker_has_it))?;
            }
            folder.path()
        })
        .output();
    manager.kill()?;
    manager.wait()?;
    ensure!(known?.0, "who has a certificate is served");
    let (stranger, plain) = (stranger?, plain?);
    ensure!(!stranger.0 && !stranger.1.contains("wharf/"), "{}", stranger.1);
    ensure!(!plain.0 && !plain.1.contains("wharf/"), "{}", plain.1);
    // The engine of the lab has no TLS: it is told of, and not spoken to in the clear.
    let listed = text(&environment?.stdout);
    ensure!(listed.contains("Pending") || listed.contains("Unhealthy"), "{listed}");
    Ok(())
}

pub(crate) fn engines_are_dialled_with_tls(fleet: &Fleet) -> anyhow::Result<()> {
    let (folder, front) = (tempfile::tempdir()?, tempfile::tempdir()?);
    certificates(folder.path(), &["engine", "manager"])?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("engine.pem"), file("engine-key.pem"));
    // An engine behind TLS: its stream is carried in the clear from there on.
    let port = free_port()?.to_string();
    let target = fleet.node(1).replace("tcp://", "");
    let script = r#"
import socket, ssl, sys, threading
port, target, ca, cert, key = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain(cert, key)
listener = socket.create_server(("127.0.0.1", int(port)))
def copy(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
def serve(plain):
    try: client = context.wrap_socket(plain, server_side=True)
    except (ssl.SSLError, OSError): return
    host, number = target.split(":")
    server = socket.create_connection((host, int(number)))
    threading.Thread(target=copy, args=(client, server), daemon=True).start()
    copy(server, client)
while True:
    plain, _ = listener.accept()
    threading.Thread(target=serve, args=(plain,), daemon=True).start()
"#;
    let mut engine = Command::new("python3").args(["-c", script, &port, &target, &ca, &cert, &key]).spawn()?;
    let socket = format!("unix://{}", front.path().join("s").display());
    let (cert, key) = (file("manager.pem"), file("manager-key.pem"));
    let tls = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    let discovery = format!("nodes://127.0.0.1:{port}");
    let mode = ["--socket-mode", "600", "--socket-group", "root"];
    let served = serve(front.path(), &[&["--host", &socket], &mode[..], &tls[..], &[&discovery]].concat());
    let outcome = served.and_then(|(mut manager, at)| {
        let said = wait("the engine is healthy", || {
            let info = fleet.client("docker", &["info"]).env("DOCKER_HOST", &at).output();
            info.is_ok_and(|info| text(&info.stdout).contains("Status: Healthy"))
        });
        let metadata = std::fs::metadata(front.path().join("s"))?;
        manager.kill()?;
        manager.wait()?;
        ensure!(metadata.permissions().mode() & 0o777 == 0o600 && metadata.gid() == 0);
        said
    });
    engine.kill()?;
    engine.wait()?;
    outcome.map(drop)
}
