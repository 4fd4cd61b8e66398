//! The decisions of Wharf as pure functions: what is wanted and what is known go in, a decision and its explanation come out.
//!
//! **Invariant:** no clock, no randomness, no I/O. Whoever asks twice with the same arguments gets the same answer.

pub mod addresses;
mod explain;
mod expression;
mod filter;
mod place;
mod strategy;
mod workload;

pub use crate::{
    explain::{Reason, Rejection, Unplaceable},
    expression::{Expression, ParseExpressionError},
    filter::filter_names,
    place::{Placement, Policy, Score, Seed, Verdict, judge, place},
    strategy::Strategy,
    workload::{Platform, Requirement, Workload},
};
