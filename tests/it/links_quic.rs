//! A link's promises, each with a real agent: readers that do not read harm nobody, a dead link is found,
//! a change of address is not noticed. What goes through a UDP path is QUIC's alone, and says so; the rest is
//! written for any link.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tests::http::{Ask, Reply, Response, Version, find};
use tests::http1;
use tests::relay::Relay;
use tests::require;
use tests::upstream::Seen;
use tests::wait;
use tests::world::{Agent, World};
use tokio::task::JoinSet;

/// Whom an agent of this file dials.
async fn agent_over(world: &World, relay: &Relay, label: &str) -> Agent {
    world
        .agent(label, &["--connect-url", &relay.addr.to_string()])
        .await
}

async fn get(world: &World, label: &str, target: &str) -> Reply {
    Ask::get(&world.net, label, target)
        .send(&world.net, Version::H1)
        .await
}

/// An event stream that has begun.
async fn events(world: &World, label: &str, version: Version) -> Response {
    let mut response = Ask::get(&world.net, label, "/events?every=50")
        .open(&world.net, version)
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    response.chunk().await.unwrap();
    response
}

/// Reads until the end; how long that took. None when it goes on.
async fn ends_within(response: &mut Response, limit: Duration) -> Option<Duration> {
    let begun = Instant::now();
    let ended = async { while let Ok(Some(_)) = response.chunk().await {} };
    let ended = tokio::time::timeout(limit, ended).await;
    ended.is_ok().then(|| begun.elapsed())
}

fn reconnections(agent: &Agent) -> usize {
    let all = agent.process.events.all();
    let is_one = |event: &&serde_json::Value| event["status"] == "reconnecting";
    all.iter().filter(is_one).count()
}

/// Clients that asked and do not read. Returns once nothing moves any more.
async fn stalled_downloads(world: &World, label: &str, count: usize) -> Vec<http1::Connection> {
    let mut stalled = Vec::new();
    for number in 0..count {
        // One after another: all at once would keep a slow computer from answering any of them.
        let (connection, seen) = stalled_download(world, label, number).await.unwrap();
        let holds_all = async {
            while seen.sent() < STREAM_HOLDS {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently("a download stalls", holds_all).await;
        stalled.push(connection);
    }
    let all = world.upstream.seen();
    nothing_moves(|| all.iter().map(|seen| seen.sent()).sum()).await;
    stalled
}

/// A client that asked, reads the head and no more; or the head of a refusal.
async fn stalled_download(
    world: &World,
    label: &str,
    number: usize,
) -> Result<(http1::Connection, Arc<Seen>), (u16, Vec<(String, String)>)> {
    let mark = format!("stalled-{number}");
    let ask = Ask::get(&world.net, label, "/big?n=1000000000").header("x-mark", &mark);
    let io = world.net.connect_h1_small(&ask.sni).await.unwrap();
    let mut connection = http1::Connection::over(io);
    connection.send(&ask).await.unwrap();
    let head = wait::within("a head", connection.head()).await.unwrap();
    if head.0 != 200 {
        return Err(head);
    }
    Ok((connection, world.upstream.wait_marked(&mark).await))
}

/// Clients that send what the app does not read. Returns once nothing moves any more.
async fn stalled_uploads(world: &World, label: &str, count: usize) -> JoinSet<()> {
    let mut uploads = JoinSet::new();
    let mut all = Vec::new();
    for number in 0..count {
        let (net, mark) = (world.net.clone(), format!("stalled-{number}"));
        let ask = Ask::get(&net, label, "/unread").method("POST");
        let ask = ask.header("x-mark", &mark).streamed();
        let (sender, mut written) = tokio::sync::watch::channel(0);
        uploads.spawn(async move {
            let mut connection = http1::Connection::open(&net, &ask.sni).await.unwrap();
            connection.send(&ask).await.unwrap();
            let chunk = vec![7; 64 * 1024];
            while connection.write_chunk(&chunk).await.is_ok() {
                sender.send_modify(|written| *written += chunk.len() as u64);
            }
        });
        // One after another: all at once would keep a slow computer from answering any of them.
        let holds_all = written.wait_for(|written| *written >= STREAM_HOLDS);
        assert!(
            patiently("an upload stalls", holds_all).await.is_ok(),
            "it goes on"
        );
        all.push(written);
    }
    nothing_moves(|| all.iter().map(|written| *written.borrow()).sum()).await;
    uploads
}

/// Waits until a count of bytes stays as it is: kernels hold some megabytes beyond what a stream may, and
/// filling them is work that would delay whoever is measured meanwhile.
async fn nothing_moves(count: impl Fn() -> u64) {
    let still = async {
        let (mut last, mut since) = (count(), Instant::now());
        while since.elapsed() < STILL_FOR {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = count();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    };
    patiently("nothing moves any more", still).await;
}

/// A quarter of a gigabyte takes its time in a build without optimisation.
async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(4), work)
        .await
        .unwrap_or_else(|_| panic!("not within four minutes: {what}"))
}

/// Requests one after another on some connections; how long each took, sorted.
async fn quick_requests(world: &World, label: &str, count: usize) -> Vec<Duration> {
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (net, label) = (world.net.clone(), label.to_owned());
        tasks.spawn(async move {
            let mut took = Vec::new();
            for _ in 0..count / 4 {
                let begun = Instant::now();
                let ask = Ask::get(&net, &label, "/big?n=300000").header("x-mark", "quick");
                let reply = ask.send(&net, Version::H1).await;
                assert_eq!((reply.status, reply.body.len()), (200, 300_000));
                took.push(begun.elapsed());
            }
            took
        });
    }
    let all = patiently("requests beside stalled ones", tasks.join_all()).await;
    let mut took = all.concat();
    took.sort();
    took
}

/// The slowest but one in a hundred.
fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100 - 1]
}

/// 64 clients that do not read delay no request of others, on the same agent: 30 MB of answers, more than
/// what a link's streams share.
async fn stalled_readers_delay_nobody(link: &str) {
    let world = World::start().await;
    let _agent = world.agent("app", &["--link", link]).await;
    quick_requests(&world, "app", 20).await;
    let before = quick_requests(&world, "app", 100).await;
    world.upstream.clear();
    let stalled = stalled_downloads(&world, "app", 64).await;
    let beside = quick_requests(&world, "app", 100).await;
    drop(stalled);
    let after = quick_requests(&world, "app", 100).await;
    assert_not_delayed([&before, &after], &beside, "64 stalled readers");
}

/// 64 uploads that the app does not read delay no request of others.
async fn stalled_uploads_delay_nobody(link: &str) {
    let world = World::start().await;
    let _agent = world.agent("app", &["--link", link]).await;
    quick_uploads(&world, 20).await;
    let before = quick_uploads(&world, 100).await;
    let mut uploads = stalled_uploads(&world, "app", 64).await;
    let beside = quick_uploads(&world, 100).await;
    uploads.shutdown().await;
    let after = quick_uploads(&world, 100).await;
    assert_not_delayed([&before, &after], &beside, "64 stalled uploads");
}

/// As a whole, and the slowest of them. The computer may have become busier meanwhile: it was measured
/// before and after.
fn assert_not_delayed(alone: [&[Duration]; 2], beside: &[Duration], what: &str) {
    let p50 = |sorted: &[Duration]| sorted[sorted.len() / 2];
    let (half, half_beside) = (alone.map(p50), p50(beside));
    let (most, most_beside) = (alone.map(p99), p99(beside));
    let text =
        format!("p50 {half:?}, beside {half_beside:?}; p99 {most:?}, beside {most_beside:?}");
    eprintln!("{what}: {text}");
    let slower = |[before, after]: [Duration; 2]| before.max(after);
    assert!(half_beside < slower(half) * 2, "{text}");
    assert!(most_beside < slower(most) * 2 + NOISE, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_readers_delay_nobody_over_quic() {
    stalled_readers_delay_nobody("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_readers_delay_nobody_over_tls() {
    stalled_readers_delay_nobody("tls").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_uploads_delay_nobody_over_quic() {
    stalled_uploads_delay_nobody("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_uploads_delay_nobody_over_tls() {
    stalled_uploads_delay_nobody("tls").await;
}

/// As [`quick_requests`], with the bytes going the other way.
async fn quick_uploads(world: &World, count: usize) -> Vec<Duration> {
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let net = world.net.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            for _ in 0..count / 4 {
                let begun = Instant::now();
                let ask = Ask::get(&net, "app", "/any").method("POST");
                let reply = ask.body(vec![7; 300_000]).send(&net, Version::H1).await;
                assert_eq!(reply.status, 200);
                took.push(begun.elapsed());
            }
            took
        });
    }
    let all = patiently("uploads beside stalled ones", tasks.join_all()).await;
    let mut took = all.concat();
    took.sort();
    took
}

/// Beyond the memory that the operator allows, those that have not read for longest lose their download,
/// and never see a complete one; whoever reads is served.
#[tokio::test(flavor = "multi_thread")]
async fn memory_for_stalled_readers_is_bounded() {
    let world = World::builder()
        .config("unread_mib_per_agent: 16\n")
        .start()
        .await;
    let _agent = world.agent("app", &["--link", "quic"]).await;
    let mut stalled = stalled_downloads(&world, "app", 12).await;
    let given_up = || async { (ended_downloads(&world) == 8).then_some(()) };
    wait::until("eight of twelve are given up", given_up).await;
    let took = quick_requests(&world, "app", 40).await;
    assert!(took.len() == 40);
    let mut broken = 0;
    for connection in &mut stalled {
        let read = tokio::time::timeout(Duration::from_secs(2), connection.drain()).await;
        broken += usize::from(read.is_ok());
    }
    assert_eq!(broken, 8, "the others go on");
}

/// Over TLS a reader holds a quarter of a megabyte until it has read as much, so it takes many to use up what
/// the operator allows. Then newcomers are turned away with a code, until some have gone.
#[tokio::test(flavor = "multi_thread")]
async fn memory_for_stalled_readers_over_tls_is_bounded() {
    let world = World::builder()
        .config("unread_mib_per_agent: 16\n")
        .start()
        .await;
    let _agent = world.agent("app", &["--link", "tls"]).await;
    let mut stalled = Vec::new();
    let (status, headers) = loop {
        match stalled_download(&world, "app", stalled.len()).await {
            Ok((connection, _)) => stalled.push(connection),
            Err(head) => break head,
        }
        assert!(stalled.len() < 500, "many times what is allowed is unread");
    };
    let ended = ended_downloads(&world);
    eprintln!("{} filled the memory, {ended} were given up", stalled.len());
    let code = find(&headers, "sallyport-error");
    assert_eq!((status, code), (503, Some("SP_3040")));
    let left = stalled.len() - ended;
    assert!((80..400).contains(&left), "{left} are left");
    drop(stalled);
    wait::until("newcomers are let in", || async {
        let reply = stalled_download(&world, "app", 1000).await;
        reply.is_ok().then_some(())
    })
    .await;
}

/// How many stalled downloads have ended at the app.
fn ended_downloads(world: &World) -> usize {
    let is_one = |mark: &str| mark.starts_with("stalled");
    let all = world.upstream.seen().into_iter();
    all.filter(|seen| seen.header("x-mark").is_some_and(is_one) && seen.ended().is_some())
        .count()
}

/// An agent that is stopped says nothing: what was open on its link ends within 5 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_is_found() {
    let world = World::start().await;
    let agent = world.agent("app", &[]).await;
    for version in Version::BOTH {
        let mut response = events(&world, "app", version).await;
        agent.process.signal("STOP").await;
        let took = ends_within(&mut response, wait::DEADLINE).await;
        agent.process.signal("CONT").await;
        let took = took.expect("it ends");
        eprintln!("{version:?}: a stopped agent was found after {took:?}");
        assert!(took < FOUND_WITHIN, "{version:?}: {took:?}");
        world.online(&agent).await;
    }
}

/// A path that falls silent is found by both ends while something is open, and the agent comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_path_is_found_by_both_ends() {
    if !require::quic("a_silent_path_is_found_by_both_ends") {
        return;
    }
    let world = World::start().await;
    let relay = Relay::start(world.net.addr).await;
    let mut agent = agent_over(&world, &relay, "app").await;
    let mut response = events(&world, "app", Version::H2).await;
    let from = agent.process.events.count();
    relay.set_silent(true);
    let begun = Instant::now();
    let told = agent.process.event_from(from, "reconnecting", |event| {
        event["status"] == "reconnecting"
    });
    let (ended, told) = tokio::join!(ends_within(&mut response, wait::DEADLINE), told);
    let told_after = begun.elapsed();
    eprintln!("edge: {ended:?}, agent: {told_after:?}");
    assert!(ended.expect("it ends") < FOUND_WITHIN);
    assert!(told_after < FOUND_WITHIN, "{told_after:?}: {told}");
    assert_eq!(told["message"], "The edge fell silent.");
    relay.set_silent(false);
    world.online(&agent).await;
    wait::until("it serves again", || async {
        (get(&world, "app", "/any").await.status == 200).then_some(())
    })
    .await;
}

/// While nothing is open, a dead link is found by the probes.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_path_is_found_while_idle() {
    if !require::quic("a_silent_path_is_found_while_idle") {
        return;
    }
    let world = World::start().await;
    let relay = Relay::start(world.net.addr).await;
    let mut agent = agent_over(&world, &relay, "app").await;
    relay.set_silent(true);
    let reconnecting = async {
        while reconnections(&agent) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(IDLE_FOUND_WITHIN, reconnecting).await;
    assert!(found.is_ok(), "{:?}", agent.process.events.all());
    let gone = async {
        while get(&world, "app", "/any").await.status != 503 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let gone = tokio::time::timeout(IDLE_FOUND_WITHIN, gone).await;
    assert!(gone.is_ok(), "the edge knows, too");
    assert!(agent.process.is_running());
}

/// Roaming keeps a link, at any number of workers: a stream that is open goes on, and nothing reconnects.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_address_is_not_noticed() {
    if !require::quic("a_change_of_address_is_not_noticed") {
        return;
    }
    for workers in [1, 2, 4] {
        let world = World::builder()
            .config(&format!("workers: {workers}\n"))
            .start()
            .await;
        let relay = Relay::start(world.net.addr).await;
        let mut agents = Vec::new();
        for label in ["app-0", "app-1", "app-2"] {
            agents.push(agent_over(&world, &relay, label).await);
        }
        let mut open = Vec::new();
        for agent in &agents {
            open.push(events(&world, &agent.label, Version::H2).await);
        }
        for round in 0..4 {
            relay.change_address();
            for (agent, response) in agents.iter().zip(&mut open) {
                // More than was on its way before.
                for _ in 0..20 {
                    let event = wait::within("the next event", response.chunk()).await;
                    assert!(event.unwrap().is_some(), "round {round}");
                }
                assert_eq!(get(&world, &agent.label, "/any").await.status, 200);
            }
        }
        for agent in &agents {
            assert_eq!(reconnections(agent), 0, "{workers} workers");
        }
    }
}

/// The window of a stream.
const STREAM_HOLDS: u64 = 4 << 20;
/// Longer than anything that goes on pauses.
const STILL_FOR: Duration = Duration::from_millis(500);
/// What a turn of a busy computer's scheduler adds to one request in a hundred.
const NOISE: Duration = Duration::from_millis(100);
/// What is promised: 5 s. A shared computer may take a little longer to say so.
const FOUND_WITHIN: Duration = Duration::from_millis(5_500);
/// A probe every 20 s, and 10 s for its answer.
const IDLE_FOUND_WITHIN: Duration = Duration::from_secs(40);
