//! The control plane: the state of the fleet, and the Docker API in front of it.

mod error;
mod view;

pub use crate::error::Error;
