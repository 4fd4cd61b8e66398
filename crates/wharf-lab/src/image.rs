//! An image to try things with: no registry is needed, it is made of this machine's static busybox.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Error, system};

/// Where Debian's `busybox-static` puts it.
const BUSYBOX: &str = "/bin/busybox";

/// Makes the image `busybox:latest` on an engine (`tcp://…`, `unix://…`). Nothing happens if it has one.
///
/// # Errors
/// [`Error::Missing`] without a static busybox; [`Error::Command`].
pub fn load_busybox(endpoint: &str) -> Result<(), Error> {
    if system::run("docker", &["-H", endpoint, "image", "inspect", "busybox:latest"]).is_ok() {
        return Ok(());
    }
    if !Path::new(BUSYBOX).is_file() {
        return Err(Error::Missing { programs: BUSYBOX.to_owned(), packages: "busybox-static".to_owned() });
    }
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("wharf-busybox-{}-{number}", std::process::id()));
    let made = make(&root, endpoint);
    drop(fs::remove_dir_all(&root));
    made
}

fn make(root: &Path, endpoint: &str) -> Result<(), Error> {
    for folder in ["bin", "etc", "tmp", "root", "proc", "sys", "dev"] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
    }
    let binary = root.join("bin/busybox");
    fs::copy(BUSYBOX, &binary).map_err(Error::file(&binary))?;
    for applet in system::run(BUSYBOX, &["--list"])?.lines().filter(|applet| *applet != "busybox") {
        let link = root.join("bin").join(applet);
        std::os::unix::fs::symlink("busybox", &link).map_err(Error::file(&link))?;
    }
    let passwd = root.join("etc/passwd");
    fs::write(&passwd, "root:x:0:0:root:/root:/bin/sh\n").map_err(Error::file(&passwd))?;
    let archive = root.with_extension("tar");
    let (from, to) = (root.display().to_string(), archive.display().to_string());
    system::run("tar", &["-C", &from, "-cf", &to, "."])?;
    let bytes = fs::read(&archive).map_err(Error::file(&archive));
    drop(fs::remove_file(&archive));
    system::run_with("docker", &["-H", endpoint, "import", "-c", "CMD [\"sh\"]", "-", "busybox:latest"], &bytes?)?;
    Ok(())
}
