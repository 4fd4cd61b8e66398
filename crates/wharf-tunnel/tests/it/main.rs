//! Tunnels in network namespaces of their own. They need root and `ip`.
#![allow(clippy::unwrap_used, reason = "a failure in a helper is a failure of the test")]

mod between;
mod foreign;
mod lab;
mod relay;
