//! The control plane: the state of the fleet, and the Docker API in front of it.

use wharf_model::ApiVersion;

mod agents;
mod create;
mod error;
mod fleet;
mod front;
// In tests, too, so that the compiler sees it whenever it sees what it calls.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod lines;
mod manager;
mod networks;
mod records;
#[cfg(any(test, fuzzing))]
mod testing;
mod view;

pub use crate::{
    agents::AgentSettings,
    error::Error,
    front::{Access, ListenError, Listener},
    manager::{Config, Identity, Manager},
    networks::Reaping,
    view::containers::Naming,
};

/// The newest version of Docker's API that clients may speak; engines that are older get what they understand.
pub const API_NEWEST: ApiVersion = ApiVersion::new(1, 51);

/// The oldest version of Docker's API that clients may speak.
pub const API_OLDEST: ApiVersion = ApiVersion::new(1, 24);

/// Wharf's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the `Server` header says.
pub(crate) const SERVER: &str = concat!("Wharf/", env!("CARGO_PKG_VERSION"), " (linux)");
