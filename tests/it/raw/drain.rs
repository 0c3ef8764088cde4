//! A drain and raw connections: nothing in their bytes could tell them that the edge stops.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::raw::{Play, RawUpstream, read_exact, read_to_end};
use tests::upstream::Ended;
use tests::world::World;
use tokio::io::AsyncWriteExt as _;

use super::{agent, connect, world};

/// Quiet connections end after a moment, whatever the drain's limit is, and the operator hears how many.
#[tokio::test(flavor = "multi_thread")]
async fn quiet_connections_do_not_hold_a_drain() {
    let mut world = world(&[]).await;
    let lines = RawUpstream::start(Play::Lines).await;
    let agent = agent(&world, "tcp", &lines, &[]).await;
    let mut quiet = Vec::new();
    for _ in 0..3 {
        let mut client = connect(&agent).await;
        assert_eq!(read_exact(&mut client, 6).await, b"ready\n");
        client.write_all(b"one\n").await.unwrap();
        assert_eq!(read_exact(&mut client, 8).await, b"got one\n");
        quiet.push(client);
    }
    let begun = Instant::now();
    let drained = world.edge.cli(&["drain", "--timeout=10m"]).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited");
    assert_eq!(drained.code, Some(0), "{}", drained.all());
    let said = "The edge has ended; nothing was cut.\n\
                TCP and TLS connections that were quiet and have been closed: 3\n";
    assert!(drained.stdout.ends_with(said), "{}", drained.stdout);
    for mut client in quiet {
        let (_, ended) = read_to_end(&mut client).await;
        assert_eq!(ended, Ended::Reset, "nothing looks complete");
    }
    world.edge.process.exited().await;
}

/// Who waits for an answer, or reads slowly, has until the limit; the progress counts them.
#[tokio::test(flavor = "multi_thread")]
async fn busy_connections_have_until_the_limit() {
    let mut world = world(&[]).await;
    let hang = RawUpstream::start(Play::Hang).await;
    let agent_hang = agent(&world, "tcp", &hang, &[]).await;
    let mut waiting = connect(&agent_hang).await;
    waiting.write_all(b"a question\n").await.unwrap();
    let pour = RawUpstream::start(Play::Pour).await;
    let agent_pour = agent(&world, "tcp", &pour, &[]).await;
    let mut slow = connect(&agent_pour).await;
    read_exact(&mut slow, 1).await;
    carried(&world, 2).await;

    let begun = Instant::now();
    let drained = world.edge.cli(&["drain", "--timeout=4s", "--json"]).await;
    assert!(begun.elapsed() >= Duration::from_secs(4), "they had time");
    let events: Vec<Value> = drained
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect();
    let is_progress = |line: &Value| line["event"] == "draining" && line["raw"] == 2;
    assert!(events.iter().any(is_progress), "{events:?}");
    let last = events.last().unwrap();
    assert_eq!(last["event"], "drained");
    assert_eq!((&last["cut"], &last["raw_ended"]), (&2.into(), &0.into()));
    let (_, ended) = read_to_end(&mut waiting).await;
    assert_eq!(ended, Ended::Reset);
    world.edge.process.exited().await;
}

/// Until so many exchanges are open.
async fn carried(world: &World, count: u64) {
    tests::wait::until("the exchanges", || async {
        let status = world.edge.cli(&["status", "--json"]).await.json();
        (status["exchanges"] == count).then_some(())
    })
    .await;
}
