//! Links outlive a change of their address, whichever worker holds them.

use std::time::Duration;

use quinn::ConnectionError;
use tokio::task::JoinSet;

use super::*;

fn open(certificate: &Certificate, address: SocketAddr, workers: usize) -> Port {
    Port::open(certificate, address, workers, &Budget::new(0, 0))
}

async fn agents(port: &Port, certificate: &Certificate, count: usize) -> Vec<Agent> {
    let mut agents = Vec::new();
    for _ in 0..count {
        agents.push(Agent::dial(port, certificate).await);
    }
    agents
}

/// Roaming keeps a link, at any number of workers: a hundred of a hundred live, three addresses later.
#[tokio::test]
async fn links_outlive_a_change_of_address() {
    let certificate = Certificate::new();
    for workers in [1, 2, 4] {
        let port = open(&certificate, ANY, workers);
        let mut agents = agents(&port, &certificate, 100).await;
        assert!(
            port.taken.lock().unwrap().iter().all(|taken| *taken > 0),
            "the kernel spreads them"
        );
        for round in 1..=3 {
            let mut tried = JoinSet::new();
            for mut agent in agents.drain(..) {
                agent.rebind();
                tried.spawn(async move { (agent.is_live(round).await, agent) });
            }
            let mut live = 0;
            while let Some(tried) = tried.join_next().await {
                let (is_live, agent) = tried.unwrap();
                live += usize::from(is_live);
                agents.push(agent);
            }
            assert_eq!(live, 100, "{workers} workers, round {round}");
        }
        let (handed, dropped) = port.listeners[0].handed_over();
        assert_eq!(handed > 0, workers > 1, "{workers} workers");
        assert_eq!(dropped, 0);
        port.kill();
    }
}

/// Several links on one socket may belong to several workers once it has another address.
#[tokio::test]
async fn links_on_one_socket_outlive_it_too() {
    let certificate = Certificate::new();
    let port = open(&certificate, ANY, 4);
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mut streams = Vec::new();
    for round in 0..20 {
        let connecting = endpoint.connect_with(certificate.client.clone(), port.address, NAME);
        let connection = connecting.unwrap().await.unwrap();
        let (to, from) = connection.open_bi().await.unwrap();
        streams.push(Agent {
            endpoint: endpoint.clone(),
            connection,
            to,
            from,
        });
        for agent in &mut streams {
            assert!(agent.is_live(round).await, "after {round} changes");
        }
        streams[0].rebind();
    }
    assert!(port.listeners[0].handed_over().0 > 0);
    port.kill();
}

/// Agents of an edge that died hear so at their next packet, whatever number of workers comes after it.
#[tokio::test]
async fn a_restart_is_heard_with_any_number_of_workers() {
    let certificate = Certificate::new();
    for (before, after) in [(4, 3), (3, 1), (1, 2), (2, 4)] {
        let port = open(&certificate, ANY, before);
        let mut agents = agents(&port, &certificate, 12).await;
        let address = port.address;
        port.kill();
        let port = open(&certificate, address, after);
        for agent in &mut agents {
            let heard = async {
                loop {
                    // Resets are rare by design: what is too soon for one is sent again.
                    let _ = agent.to.write_all(&[1]).await;
                    tokio::select! {
                        ended = agent.connection.closed() => break ended,
                        () = tokio::time::sleep(Duration::from_millis(20)) => {}
                    }
                }
            };
            let ended = tokio::time::timeout(DEADLINE, heard).await;
            assert_eq!(ended, Ok(ConnectionError::Reset), "{before} then {after}");
        }
        port.kill();
    }
}
