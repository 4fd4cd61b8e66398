//! The fleet's own certificate authority, and the tokens by which nodes join.
//!
//! The manager's half is [`authority`], [`tokens`] and [`server`]; the agent's half is [`agent`] and [`joining`]; both
//! share [`names`], [`certificate`] and [`token`].
//!
//! A node joins so: an administrator gets a [`token::JoinToken`], which names the authority by its digest and holds a
//! secret. The agent connects with [`joining::Joining`], which trusts that authority and no other, and sends the token
//! and a request for a certificate. The manager redeems the token, chooses the node's number and signs. From then on
//! both sides show certificates.
//!
//! **Invariant:** what a certificate says is chosen by the authority: of a request only the public key is used.

pub mod names;

pub mod certificate;

pub mod token;

pub mod authority;

pub mod tokens;

pub mod server;

pub mod agent;

pub mod joining;

#[cfg(test)]
mod tests;
