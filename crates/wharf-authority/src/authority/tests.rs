use rcgen::PKCS_ED25519;
use x509_parser::extensions::GeneralName;

use super::*;
use crate::{
    agent::generate_csr,
    certificate::{node_of, renew_after},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const NODE: NodeNumber = NodeNumber(7);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn authority() -> Authority {
    Authority::create(now()).unwrap()
}

fn sign(authority: &Authority, request: &str) -> CertificateDer<'static> {
    certificate::from_pem(&authority.sign(request, NODE, DAY, now()).unwrap()).unwrap()
}

fn refusal(request: &str) -> String {
    authority().sign(request, NODE, DAY, now()).unwrap_err().to_string()
}

#[test]
fn an_authority_signs_for_ten_years_and_has_no_authorities_below_it() {
    let authority = authority();
    let parsed = certificate::parse(authority.certificate()).unwrap();
    assert_eq!(parsed.subject().to_string(), "CN=Wharf fleet CA");
    assert_eq!(certificate::life(parsed.validity()), (now() - CLOCK_SKEW, now() + 3650 * DAY));
    let constraints = parsed.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
}

#[test]
fn an_authority_is_read_as_it_was_written() {
    let first = authority();
    let AuthorityPem { certificate, key } = first.to_pem();
    let again = Authority::from_pem(&certificate, &key).unwrap();
    assert_eq!(again.digest(), first.digest());
    let signed = sign(&again, &generate_csr().unwrap().request);
    let signed = certificate::parse(&signed).unwrap();
    let issuer = certificate::parse(first.certificate()).unwrap();
    signed.verify_signature(Some(issuer.public_key())).unwrap();
    assert_eq!(signed.issuer(), issuer.subject());
}

#[test]
fn a_certificate_and_a_key_that_do_not_belong_together_are_no_authority() {
    let (ours, theirs) = (authority().to_pem(), authority().to_pem());
    assert!(matches!(Authority::from_pem(&ours.certificate, &theirs.key), Err(Error::OtherKey)));
    assert!(matches!(Authority::from_pem(&ours.key, &ours.key), Err(Error::Certificate(_))));
    assert!(matches!(Authority::from_pem(&ours.certificate, "key"), Err(Error::Key(_))));

    let node = generate_csr().unwrap();
    let certificate = authority().sign(&node.request, NODE, DAY, now()).unwrap();
    assert!(matches!(Authority::from_pem(&certificate, &node.key), Err(Error::NotAnAuthority)));
}

#[test]
fn what_logs_show_does_not_hold_the_key() {
    let authority = authority();
    let pem = authority.to_pem();
    let secret = pem.key.lines().nth(1).unwrap();
    let identity = authority.server_identity(&[], now()).unwrap();
    let node = generate_csr().unwrap();
    let shown = format!("{authority:?} {pem:?} {node:?} {identity:?}");
    assert!(!shown.contains(secret) && !shown.contains("PRIVATE KEY"), "{shown}");
}

#[test]
fn a_certificate_names_its_node() {
    let signed = sign(&authority(), &generate_csr().unwrap().request);
    assert_eq!(node_of(&signed).unwrap(), NODE);
    let parsed = certificate::parse(&signed).unwrap();
    assert_eq!(parsed.subject().to_string(), "CN=node-7");
    assert_eq!(certificate::life(parsed.validity()), (now() - CLOCK_SKEW, now() + DAY));
}

#[test]
fn a_request_with_forged_names_gets_only_what_is_granted() {
    let mut params = CertificateParams::new(["manager.wharf".into(), "node-1.node.wharf".into()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "Wharf fleet CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let unknown = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    params.custom_extensions = vec![unknown];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let request = params.serialize_request(&key).unwrap().pem().unwrap();

    let signed = sign(&authority(), &request);
    assert_eq!(node_of(&signed).unwrap(), NODE);
    let parsed = certificate::parse(&signed).unwrap();
    assert_eq!(parsed.public_key().subject_public_key.data, key.public_key_raw());
    assert_eq!(parsed.subject().to_string(), "CN=node-7");
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::DNSName("node-7.node.wharf")]);
    assert!(!parsed.is_ca());
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(parsed.extensions().iter().all(|extension| extension.oid.to_id_string() != "1.2.3.4"));
}

#[test]
fn a_request_that_is_not_valid_is_refused() {
    let invalid = |what: &str| format!("the request for a certificate is not valid: {what}");
    assert_eq!(refusal("hello"), invalid("it is no PEM"));
    assert_eq!(refusal(&"x".repeat(REQUEST_LIMIT + 1)), invalid("it is too long"));
    let certificate = certificate::to_pem(authority().certificate());
    assert_eq!(refusal(&certificate), invalid("it is no request"));

    // The public key of somebody else: the last byte of the request is part of the signature.
    let request = pem::parse(generate_csr().unwrap().request).unwrap();
    let mut bytes = request.contents().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let forged = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", bytes));
    assert_eq!(refusal(&forged), invalid("its signature is not that of its key"));

    let other = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let other = CertificateParams::default().serialize_request(&other).unwrap().pem().unwrap();
    assert_eq!(refusal(&other), invalid("its key is not of ECDSA P-256"));
}

#[test]
fn nothing_outlives_the_authority() {
    let authority = authority();
    let late = now() + 3650 * DAY - Duration::from_secs(60);
    let request = generate_csr().unwrap().request;
    let signed = certificate::from_pem(&authority.sign(&request, NODE, DAY, late).unwrap()).unwrap();
    let (_, until) = certificate::life(certificate::parse(&signed).unwrap().validity());
    assert_eq!(until, now() + 3650 * DAY);
    let over = now() + 3650 * DAY;
    assert!(matches!(authority.sign(&request, NODE, DAY, over), Err(Error::Expired)));
    assert!(matches!(authority.server_identity(&[], over), Err(Error::Expired)));
}

#[test]
fn serial_numbers_do_not_repeat_for_the_same_key() {
    let (authority, request) = (authority(), generate_csr().unwrap().request);
    let (first, second) = (sign(&authority, &request), sign(&authority, &request));
    let serial = |signed: &CertificateDer<'_>| certificate::parse(signed).unwrap().raw_serial().to_vec();
    assert_ne!(serial(&first), serial(&second));
    assert_eq!(serial(&first).len(), SERIAL_BYTES);
}

#[test]
fn a_manager_is_no_node_and_has_the_names_that_it_asked_for() {
    let identity = authority().server_identity(&["wharf.example".into(), "192.0.2.1".into()], now()).unwrap();
    assert!(matches!(node_of(&identity.certificate), Err(CertificateError::NotANode)));
    let parsed = certificate::parse(&identity.certificate).unwrap();
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    let expected = [
        GeneralName::DNSName("manager.wharf"),
        GeneralName::DNSName("wharf.example"),
        GeneralName::IPAddress(&[192, 0, 2, 1]),
    ];
    assert_eq!(*names, expected);
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);
}

#[test]
fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
    let request = generate_csr().unwrap().request;
    let valid = Duration::from_secs(55 * 60);
    let signed = authority().sign(&request, NODE, valid, now()).unwrap();
    let signed = certificate::from_pem(&signed).unwrap();
    // It began five minutes ago: two thirds of an hour are over in 35 minutes.
    assert_eq!(renew_after(&signed).unwrap(), now() + Duration::from_secs(35 * 60));
    assert!(renew_after(b"no certificate").is_err());
}
