//! What `POST /containers/create` asks for: read into a workload that can be placed, and rewritten for the engine that gets it.
//!
//! The body stays the client's: only the fields that mean something else to one engine than to the fleet are patched, so
//! fields that are not known here survive.

mod expressions;
mod references;
mod request;
mod wiring;

pub(crate) use self::{
    expressions::{Wishes, of_build, whitelists},
    request::CreateRequest,
};
