//! A burst of downloads does not stop small requests that share their link.

use std::time::{Duration, Instant};

use tests::http::{Ask, Version};
use tests::http1;
use tests::wait;
use tests::world::World;
use tokio::task::JoinSet;

/// Small requests one after another on one connection; how long each took, sorted.
async fn small_requests(world: &World, count: usize) -> Vec<Duration> {
    let ask = Ask::get(&world.net, "app", "/any").header("x-mark", "small");
    let mut connection = http1::Connection::open(&world.net, &ask.sni).await.unwrap();
    let mut took = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        connection = wait::within("a small request", async {
            connection.send(&ask).await.unwrap();
            let mut response = connection.response("GET").await.unwrap();
            while response.chunk().await.unwrap().is_some() {}
            assert_eq!(response.status, 200);
            response.connection
        })
        .await;
        took.push(begun.elapsed());
    }
    took.sort();
    took
}

/// Eight downloads as fast as they go, over one link, while somebody asks for small things.
async fn small_requests_go_on(link: &str) {
    let world = World::start().await;
    let _agent = world.agent("app", &["--link", link]).await;
    small_requests(&world, 20).await;
    let alone = small_requests(&world, 100).await;
    let mut bulk = JoinSet::new();
    for number in 0..8 {
        let (net, mark) = (world.net.clone(), format!("bulk-{number}"));
        let ask = Ask::get(&net, "app", "/slow?size=65536").header("x-mark", &mark);
        bulk.spawn(async move {
            let mut response = ask.open(&net, Version::H1).await.unwrap();
            while response.chunk().await.unwrap().is_some() {}
        });
        world.upstream.wait_marked(&mark).await;
    }
    let sent = || -> u64 {
        let all = world.upstream.seen();
        all.iter().map(|seen| seen.sent()).sum()
    };
    let (before, begun) = (sent(), Instant::now());
    let beside = small_requests(&world, 150).await;
    let rate = (sent() - before) / (1 + begun.elapsed().as_secs());
    let text = format!(
        "{link}: p50 {:?}, beside p50 {:?}, p90 {:?}, most {:?}, bulk {} MB/s",
        alone[alone.len() / 2],
        beside[beside.len() / 2],
        beside[beside.len() * 9 / 10],
        beside[beside.len() - 1],
        rate / 1_000_000,
    );
    eprintln!("{text}");
    assert!(rate > 0, "{text}");
    assert!(beside[beside.len() * 9 / 10] < NINE_OF_TEN, "{text}");
    assert!(beside[beside.len() - 1] < EVERY_ONE, "{text}");
    assert!(bulk.try_join_next().is_none(), "the downloads go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_requests_go_on_over_quic() {
    small_requests_go_on("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_requests_go_on_over_tls() {
    small_requests_go_on("tls").await;
}

/// Ten times what it took beside a busy neighbour, in a build without optimisation.
const NINE_OF_TEN: Duration = Duration::from_secs(2);
/// What fills a link takes turns by luck: quinn wakes all that wait for its send window at once, and the first
/// takes what there is. A small answer was seen to wait for five seconds.
const EVERY_ONE: Duration = Duration::from_secs(15);
