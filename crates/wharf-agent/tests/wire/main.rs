//! Nodes in network namespaces: what the kernel does with packets once it looks as a wish says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod heal;
mod icmp;
mod isolation;
mod lab;
mod reach;
mod scale;
mod six;
