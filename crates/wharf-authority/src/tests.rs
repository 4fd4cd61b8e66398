//! Agents and managers meet over loopback.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, ClientConfig, Error, OtherError, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    agent::{KeyRequest, agent_config, generate_csr},
    authority::{Authority, Identity},
    certificate,
    joining::{Joining, OtherAuthority},
    names::{NodeNumber, manager_name},
    server::{PeerError, peer, server_config},
    token::{JoinToken, Secret},
    tokens::{Refusal, Scope, Tokens},
};

const HOUR: Duration = Duration::from_secs(60 * 60);

const NODE: NodeNumber = NodeNumber(7);

fn now() -> SystemTime {
    SystemTime::now()
}

fn authority() -> Authority {
    Authority::create(now()).unwrap()
}

fn manager(authority: &Authority) -> ServerConfig {
    server_config(authority, authority.server_identity(&[], now()).unwrap()).unwrap()
}

/// What a node has that joined in the past.
fn node(authority: &Authority, signed: SystemTime) -> (String, String) {
    let KeyRequest { key, request } = generate_csr().unwrap();
    (authority.sign(&request, NODE, HOUR, signed).unwrap(), key)
}

/// How a node of one fleet connects to the managers of another, which may be the same.
fn agent(trusts: &Authority, of: &Authority, signed: SystemTime) -> ClientConfig {
    let (certificate, key) = node(of, signed);
    agent_config(&trusts.to_pem().certificate, &certificate, &key).unwrap()
}

/// What came of a connection on each side.
#[derive(Debug)]
struct Meeting {
    /// Whom the manager saw.
    seen: Result<Result<NodeNumber, PeerError>, Error>,
    /// What the manager answered.
    answer: Result<String, Error>,
}

/// The agent says something, and the manager answers it.
async fn talk(server: ServerConfig, client: ClientConfig, say: &str, answer: impl FnOnce(String) -> String) -> Meeting {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await?;
        let seen = peer(stream.get_ref().1.peer_certificates());
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        stream.write_all(answer(said).as_bytes()).await?;
        stream.shutdown().await?;
        Ok(seen)
    };
    let ask = async {
        let stream = TcpStream::connect(address).await?;
        let mut stream = TlsConnector::from(Arc::new(client)).connect(manager_name(), stream).await?;
        stream.write_all(say.as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let (seen, answer): (io::Result<_>, io::Result<_>) = tokio::join!(serve, ask);
    Meeting { seen: seen.map_err(tls_error), answer: answer.map_err(tls_error) }
}

async fn meet(server: ServerConfig, client: ClientConfig) -> Meeting {
    talk(server, client, "hello", |said| said).await
}

fn tls_error(error: io::Error) -> Error {
    let shown = error.to_string();
    error.into_inner().and_then(|inner| inner.downcast().ok()).map_or(Error::General(shown), |error| *error)
}

fn refused(error: CertificateError) -> Error {
    Error::InvalidCertificate(error)
}

/// A manager that sends this chain and signs with this key, whether they belong together or not.
fn impostor(chain: Vec<CertificateDer<'static>>, key: PrivatePkcs8KeyDer<'static>) -> ServerConfig {
    #[derive(Debug)]
    struct Always(Arc<CertifiedKey>);

    impl ResolvesServerCert for Always {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(key)).unwrap();
    ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(Arc::new(CertifiedKey::new(chain, key)))))
}

/// An agent with a token of the fleet meets the impostor, and tells why it did not join.
async fn join_impostor(fleet: &Authority, server: ServerConfig) -> Error {
    let joining = Joining::new(fleet.digest()).unwrap();
    let meeting = meet(server, joining.config.clone()).await;
    assert!(meeting.seen.is_err(), "nothing is said to an impostor");
    meeting.answer.unwrap_err()
}

#[tokio::test]
async fn a_node_joins_with_a_token_and_comes_back_with_its_certificate() {
    let fleet = authority();
    let mut tokens = Tokens::new(fleet.digest(), []);
    let (token, _) = tokens.issue(Secret::random().unwrap(), Scope::Node(NODE), HOUR, now());
    let copied = token.to_string();

    let token: JoinToken = copied.parse().unwrap();
    let joining = Joining::new(token.authority).unwrap();
    let KeyRequest { key, request } = generate_csr().unwrap();
    let say = format!("{token}\n{request}");
    let join = |said: String| {
        let (token, request) = said.split_once('\n').unwrap();
        let token: JoinToken = token.parse().unwrap();
        let Scope::Node(node) = tokens.redeem(&token.secret, now()).unwrap().scope else { panic!("it is for a node") };
        assert_eq!(tokens.redeem(&token.secret, now()), Err(Refusal::Used));
        fleet.sign(request, node, HOUR, now()).unwrap()
    };
    let meeting = talk(manager(&fleet), joining.config.clone(), &say, join).await;
    assert!(matches!(meeting.seen, Ok(Err(PeerError::NoCertificate))));
    let certificate = meeting.answer.unwrap();
    let authority = joining.authority().unwrap();
    assert_eq!(authority, fleet.to_pem().certificate);

    let meeting = meet(manager(&fleet), agent_config(&authority, &certificate, &key).unwrap()).await;
    assert_eq!(meeting.seen.unwrap().unwrap(), NODE);
    assert_eq!(meeting.answer.unwrap(), "hello");
}

#[tokio::test]
async fn a_manager_of_another_authority_is_refused() {
    let (fleet, other) = (authority(), authority());
    let joining = Joining::new(fleet.digest()).unwrap();
    let meeting = meet(manager(&other), joining.config.clone()).await;
    let Err(Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) = meeting.answer else {
        panic!("{meeting:?}")
    };
    assert_eq!(why.downcast_ref::<OtherAuthority>().unwrap().0, fleet.digest());
    assert!(meeting.seen.is_err(), "the token was not sent");
    assert_eq!(joining.authority(), None);

    let meeting = meet(manager(&other), agent(&fleet, &fleet, now())).await;
    // Both authorities have the same name, so that it is the signature that gives the other away.
    assert_eq!(meeting.answer.unwrap_err(), refused(CertificateError::BadSignature));
}

#[tokio::test]
async fn showing_the_right_authority_is_not_enough() {
    let (fleet, other) = (authority(), authority());
    let theirs = other.server_identity(&[], now()).unwrap();
    let chain = vec![theirs.certificate, fleet.certificate().clone()];
    let error = join_impostor(&fleet, impostor(chain, theirs.key)).await;
    assert_eq!(error, refused(CertificateError::BadSignature));
}

#[tokio::test]
async fn a_copied_chain_without_its_key_is_refused() {
    let (fleet, other) = (authority(), authority());
    let chain = vec![fleet.server_identity(&[], now()).unwrap().certificate, fleet.certificate().clone()];
    let error = join_impostor(&fleet, impostor(chain, other.server_identity(&[], now()).unwrap().key)).await;
    assert_eq!(error, refused(CertificateError::BadSignature));
}

#[tokio::test]
async fn a_node_does_not_pass_for_a_manager() {
    let fleet = authority();
    let (certificate, key) = node(&fleet, now());
    let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let chain = vec![certificate::from_pem(&certificate).unwrap(), fleet.certificate().clone()];
    for meeting in [
        meet(impostor(chain.clone(), key.clone_key()), Joining::new(fleet.digest()).unwrap().config).await,
        meet(impostor(chain, key), agent(&fleet, &fleet, now())).await,
    ] {
        assert!(matches!(meeting.answer, Err(Error::InvalidCertificate(_))), "{meeting:?}");
    }
}

#[tokio::test]
async fn a_manager_whose_certificate_has_expired_is_refused() {
    let past = now() - 100 * 24 * HOUR;
    let fleet = Authority::create(past).unwrap();
    let expired = fleet.server_identity(&[], past).unwrap();
    let joining = Joining::new(fleet.digest()).unwrap();
    let meeting = meet(server_config(&fleet, expired).unwrap(), joining.config).await;
    let error = meeting.answer.unwrap_err();
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::ExpiredContext { .. })), "{error:?}");
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused() {
    let (fleet, other) = (authority(), authority());
    let meeting = meet(manager(&fleet), agent(&fleet, &other, now())).await;
    assert_eq!(meeting.seen.unwrap_err(), refused(CertificateError::BadSignature));
    assert!(meeting.answer.is_err());
}

#[tokio::test]
async fn a_node_whose_certificate_has_expired_is_refused() {
    let fleet = authority();
    let meeting = meet(manager(&fleet), agent(&fleet, &fleet, now() - 2 * HOUR)).await;
    let error = meeting.seen.unwrap_err();
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::ExpiredContext { .. })), "{error:?}");
    assert!(meeting.answer.is_err());
}

#[tokio::test]
async fn a_manager_does_not_pass_for_a_node() {
    let fleet = authority();
    let Identity { certificate, key } = fleet.server_identity(&[], now()).unwrap();
    let certificate = certificate::to_pem(&certificate);
    let key = pem::encode(&pem::Pem::new("PRIVATE KEY", key.secret_pkcs8_der()));
    let client = agent_config(&fleet.to_pem().certificate, &certificate, &key).unwrap();
    let meeting = meet(manager(&fleet), client).await;
    assert!(matches!(meeting.seen, Err(Error::InvalidCertificate(_))), "{meeting:?}");
}

#[tokio::test]
async fn expired_used_and_unknown_tokens_are_told_apart() {
    let fleet = authority();
    let mut tokens = Tokens::new(fleet.digest(), []);
    let mut issue = |scope| tokens.issue(Secret::random().unwrap(), scope, HOUR, now() - HOUR / 2).0;
    let (any, single) = (issue(Scope::AnyNode), issue(Scope::Node(NODE)));
    let unknown = JoinToken { secret: Secret::random().unwrap(), ..any.clone() };
    tokens.redeem(&single.secret, now()).unwrap();
    for (token, time, refusal) in
        [(&any, now() + HOUR, Refusal::Expired), (&single, now(), Refusal::Used), (&unknown, now(), Refusal::Unknown)]
    {
        let answer = |said: String| {
            let token: JoinToken = said.parse().unwrap();
            tokens.redeem(&token.secret, time).map_or_else(|refusal| refusal.to_string(), |record| panic!("{record:?}"))
        };
        let joining = Joining::new(token.authority).unwrap();
        let meeting = talk(manager(&fleet), joining.config, &token.to_string(), answer).await;
        assert_eq!(meeting.answer.unwrap(), refusal.to_string());
    }
}
