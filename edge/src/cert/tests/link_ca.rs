//! Agents believe an edge by the CA's name and key alone.

use super::*;

/// What an agent makes of the key in its authtoken: nothing else of the CA is known to it.
fn anchor(public_key: [u8; 32]) -> RootCertStore {
    // SET { SEQUENCE { OID commonName, UTF8String } }, without the outer SEQUENCE.
    let mut subject = vec![
        0x31, 0x1a, 0x30, 0x18, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x11,
    ];
    subject.extend_from_slice(b"Sallyport link CA");
    // SEQUENCE { OID Ed25519 }, BIT STRING; without the outer SEQUENCE.
    let mut key = vec![0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    key.extend_from_slice(&public_key);
    let anchor = TrustAnchor {
        subject: subject.into(),
        subject_public_key_info: key.into(),
        name_constraints: None,
    };
    RootCertStore {
        roots: vec![anchor],
    }
}

/// The pinned key proves the link's name, over TCP and in QUIC, and no other name.
#[test]
fn the_pinned_key_proves_the_edge() {
    let world = World::new();
    let server = world.dev_server();
    let pinned = || trusting(anchor(world.link_ca.public_key()));
    let chain = shake(&server, pinned(), LINK_NAME).unwrap();
    assert_eq!(chain.len(), 2);
    shake(&server, pinned(), &LINK_NAME.to_uppercase()).unwrap();
    shake(&server, pinned(), "app.quay.localhost").unwrap_err();

    let resolver = world.resolver(Web::Dev(Arc::clone(&world.dev_ca)));
    let quic = quic_config(resolver, &[b"sallyport/1"]).unwrap();
    for (protocol, spoken) in [("sallyport/1", true), ("h2", false)] {
        let mut agent = pinned();
        agent.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        assert_eq!(shake(&quic, agent, LINK_NAME).is_ok(), spoken, "{protocol}");
    }
}

/// On the public TCP port the agents' protocol is offered under the link's name only, where the link's
/// certificate is.
#[test]
fn agents_are_told_by_name_and_protocol() {
    let world = World::new();
    let resolver = world.resolver(Web::Dev(Arc::clone(&world.dev_ca)));
    let public = Public::new(&resolver, LINK_NAME).unwrap();
    let offered = |name: &str, protocols: &[&str]| {
        let mut client = trusting(anchor(world.link_ca.public_key()));
        client.alpn_protocols = protocols
            .iter()
            .map(|one| one.as_bytes().to_vec())
            .collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut hello.as_slice()).unwrap();
        let accepted = acceptor.accept().ok().flatten().unwrap();
        public.choose(&accepted.client_hello())
    };
    let agents = b"sallyport/1".to_vec();
    for (name, protocols, is_agent) in [
        (LINK_NAME, &["sallyport/1"][..], true),
        ("CONNECT.Quay.localhost", &["sallyport/1", "h2"], true),
        (LINK_NAME, &["h2", "http/1.1"], false),
        (LINK_NAME, &[], false),
        ("app.quay.localhost", &["sallyport/1"], false),
        ("app.quay.localhost", &["h2", "sallyport/1"], false),
    ] {
        let config = offered(name, protocols);
        let what = format!("{name} {protocols:?}");
        assert_eq!(config.alpn_protocols.contains(&agents), is_agent, "{what}");
        assert_eq!(config.alpn_protocols.len() == 1, is_agent, "{what}");
        assert_eq!(config.max_early_data_size, 0);
    }
}

/// Every edge of a cluster has the same CA, and no other cluster has it.
#[test]
fn the_key_follows_from_the_seed() {
    let (ours, again) = (
        LinkCa::new(&[7; 32]).unwrap(),
        LinkCa::new(&[7; 32]).unwrap(),
    );
    let other = LinkCa::new(&[8; 32]).unwrap();
    assert_eq!(ours.public_key(), again.public_key());
    assert_ne!(ours.public_key(), other.public_key());
    let chain = |ca: &LinkCa| ca.issue(LINK_NAME).unwrap().cert.clone();
    assert_eq!(
        chain(&ours)[1],
        chain(&again)[1],
        "the CA's certificate is the same bytes"
    );

    let world = World::new();
    let server = world.dev_server();
    shake(&server, trusting(anchor(other.public_key())), LINK_NAME).unwrap_err();
    shake(&server, trusting(anchor(again.public_key())), LINK_NAME).unwrap();
    assert_eq!(format!("{ours:?}"), "LinkCa(…)");
}

/// QUIC is given what quinn needs, and TLS 1.2 is not among it.
#[test]
fn quic_speaks_tls_1_3_only() {
    let world = World::new();
    let resolver = world.resolver(Web::Dev(Arc::clone(&world.dev_ca)));
    let quic = quic_config(resolver, &[b"sallyport/1"]).unwrap();
    assert_eq!(quic.max_early_data_size, 0);
    quinn::crypto::rustls::QuicServerConfig::try_from(Arc::clone(&quic)).unwrap();
    let old = || {
        ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(anchor(world.link_ca.public_key()))
            .with_no_client_auth()
    };
    shake(&quic, old(), LINK_NAME).unwrap_err();
    assert_eq!(world.dev_server().max_early_data_size, 0);
    shake(&world.dev_server(), old(), LINK_NAME).unwrap();
}
