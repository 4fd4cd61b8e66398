//! The fleet's certificate authority and its join tokens, kept in the store.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use wharf_authority::{
    authority::Authority,
    names::NodeNumber,
    server::server_config,
    token::{JoinToken, Secret},
    tokens::{Scope, TokenRecord, Tokens as Machine},
};
use wharf_model::{Class, NodeId};
use wharf_store::records::{Expect, Record};

use crate::{Error, records::Records};

/// A token that is shown to people is good for a day: long enough to walk to a few hosts.
pub(crate) const SHOWN_FOR: Duration = Duration::from_secs(24 * 3600);

/// A token that is given to one node together with its agent is used at once.
const GIVEN_FOR: Duration = Duration::from_secs(600);

/// Agents' certificates; they renew them after two thirds of it.
const CERTIFICATE_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The authority as it is stored. The store's file is readable by its owner alone.
#[derive(Debug, Serialize, Deserialize)]
struct AuthorityRecord {
    certificate: String,
    key: String,
}

impl Record for AuthorityRecord {
    const PREFIX: &'static str = "authority/";
    const FORMAT: u32 = 1;
}

/// A token as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Kept(TokenRecord);

impl Record for Kept {
    const PREFIX: &'static str = "tokens/";
    const FORMAT: u32 = 1;
}

/// Who may join, and who vouches for those who have.
#[derive(Debug)]
pub(super) struct Tokens {
    authority: Authority,
    machine: Mutex<Machine>,
}

impl Tokens {
    /// The authority that the store has; a new one on the first start.
    pub(super) async fn open(records: &Records) -> Result<Self, Error> {
        let internal = |error: wharf_authority::authority::Error| Error::internal(format!("the fleet's CA: {error}"));
        let authority = match records.get::<AuthorityRecord>("ca").await? {
            Some(kept) => Authority::from_pem(&kept.certificate, &kept.key).map_err(internal)?,
            None => {
                let made = Authority::create(SystemTime::now()).map_err(internal)?;
                let pem = made.to_pem();
                let record = AuthorityRecord { certificate: pem.certificate, key: pem.key };
                records.put("ca", &record, Expect::Absent).await?;
                made
            }
        };
        let kept = records.all::<Kept>().await?.into_iter().map(|(_, Kept(token))| token);
        let machine = Mutex::new(Machine::new(authority.digest(), kept));
        Ok(Self { authority, machine })
    }

    /// How agents are served.
    pub(super) fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, Error> {
        let bad = |error: &dyn std::fmt::Display| Error::internal(format!("the fleet's CA: {error}"));
        let identity = self.authority.server_identity(&[], SystemTime::now()).map_err(|error| bad(&error))?;
        Ok(Arc::new(server_config(&self.authority, identity).map_err(|error| bad(&error))?))
    }

    /// A token for hosts that people bring.
    pub(super) async fn issue(&self, records: &Records) -> Result<JoinToken, Error> {
        let (token, record) = self.new_token(Scope::AnyNode, SHOWN_FOR)?;
        records.put(&record.hash.to_string(), &Kept(record), Expect::Any).await?;
        Ok(token)
    }

    /// A token for one node, to be used once. It is not kept: whoever does not get to use it gets another one.
    pub(super) fn give(&self, node: NodeId) -> Result<JoinToken, Error> {
        Ok(self.new_token(Scope::Node(NodeNumber(node.0)), GIVEN_FOR)?.0)
    }

    fn new_token(&self, scope: Scope, valid: Duration) -> Result<(JoinToken, TokenRecord), Error> {
        let secret = Secret::random().map_err(|error| Error::internal(error.to_string()))?;
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        machine.sweep(SystemTime::now());
        Ok(machine.issue(secret, scope, valid, SystemTime::now()))
    }

    /// What a token allows.
    pub(super) fn redeem(&self, token: &str) -> Result<Scope, Error> {
        let token: JoinToken = token.parse().map_err(|error| Error::invalid(format!("{error}")))?;
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let redeemed = machine.redeem(&token.secret, SystemTime::now());
        redeemed.map(|record| record.scope).map_err(|refusal| Error::new(Class::Forbidden, refusal.to_string()))
    }

    /// A certificate for a node, of its request.
    pub(super) fn sign(&self, request: &str, node: NodeId) -> Result<String, Error> {
        let signed = self.authority.sign(request, NodeNumber(node.0), CERTIFICATE_FOR, SystemTime::now());
        signed.map_err(|error| Error::invalid(error.to_string()))
    }

    /// The authority's own certificate, in PEM form.
    pub(super) fn ca(&self) -> String {
        self.authority.to_pem().certificate
    }
}
