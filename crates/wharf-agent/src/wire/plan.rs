//! Subtracts the kernel's state from the wish: pure functions that name the steps between the two.
//!
//! Devices come first, as everything else hangs on them; once they stand, the state is read again and the entries
//! follow.

mod entries;
mod links;

pub(crate) use entries::{bridge_back, entries};
pub(crate) use links::links;

use crate::wire::problem::Problem;
use crate::wire::step::Step;

/// The steps from one state to another, and what is in their way.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) waiting: Vec<String>,
    pub(crate) problems: Vec<Problem>,
}

#[cfg(test)]
mod tests;
