//! Other clients than `docker` and `docker-compose`.

use anyhow::ensure;

use crate::fleet::{Fleet, text};

const DOCKER_PY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/docker_py.py");

/// Debian's own docker-py: `docker-compose` brings it.
pub(crate) fn docker_py_works_as_on_one_engine(fleet: &Fleet) -> anyhow::Result<()> {
    let output = fleet.client("python3", &[DOCKER_PY]).output()?;
    ensure!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    Ok(())
}
