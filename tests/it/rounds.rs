//! A thousand revocations against traffic, at random moments, judged at both ends; some under full load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::clock;
use tests::http::Version;
use tests::http2;
use tests::liar::{Liar, Lie};
use tests::random::Random;
use tests::traffic::{self, Answer, End, Kind, Session, Stream};
use tests::user::User;
use tests::world::World;

/// When the DELETE has answered: nothing is admitted, every open stream was reset at both ends, no body
/// looks complete, and no byte that the app wrote later is read; for a thousand rounds at random offsets,
/// warm and cold, over HTTP/1.1 and HTTP/2, with readers that stall, uploads, WebSockets in mid-frame,
/// under load that nobody cuts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_revocations() {
    let rounds: usize = std::env::var("SALLYPORT_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000);
    let race = Race {
        link: None,
        cold: rounds / 5,
        enough: Enough::Rounds(rounds),
        load: &LOAD,
    };
    race.run().await;
}

/// The same while requests and bulk streams of somebody else keep the edge as busy as it can be, for half a
/// minute on each link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_under_full_load_over_quic() {
    under_full_load("--link=quic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_under_full_load_over_tls() {
    under_full_load("--link=tls").await;
}

async fn under_full_load(link: &'static str) {
    let race = Race {
        link: Some(link),
        cold: 20,
        enough: Enough::Time(Duration::from_secs(30)),
        load: &FULL_LOAD,
    };
    race.run().await;
}

/// Rounds beside each other and beside somebody's traffic.
struct Race {
    link: Option<&'static str>,
    /// Rounds whose sessions the edge does not have in memory.
    cold: usize,
    enough: Enough,
    load: &'static [Kind],
}

/// When no more rounds begin.
#[derive(Clone, Copy)]
enum Enough {
    Rounds(usize),
    Time(Duration),
}

impl Race {
    async fn run(self) {
        let mut random = Random::new(Random::seed());
        let mut world = World::builder()
            .config("connections_per_address: 4096\n")
            .argument("--log")
            .argument("info")
            .start()
            .await;
        // Everybody is a person of their own: a revoke makes a login of the same person that is under way
        // ask anew, and here a thousand are.
        let provider = Liar::start().await;
        provider.lie(Lie {
            has_fresh_subjects: true,
            ..Lie::default()
        });
        provider.register(&world.edge, "many").await;
        let mut more = vec!["--oauth=many", "--log=info"];
        more.extend(self.link);
        let agent = world.agent("app", &more).await;
        let begun = Instant::now();

        // Cold: these sessions exist, and the edge has none of them in memory.
        let mut sleepers = Vec::new();
        for _ in 0..self.cold {
            sleepers.push(Round::sign_in(&world, &agent.url).await);
        }
        world.restart_edge().await;
        world.online(&agent).await;
        eprintln!("{} cold sessions after {:?}", self.cold, begun.elapsed());

        let world = Arc::new(world);
        let load = Load::begin(&world, &agent.url, self.load).await;
        let sleepers = Arc::new(std::sync::Mutex::new(sleepers));
        let next = Arc::new(AtomicUsize::new(0));
        let loaded = Instant::now();
        let is_enough = move |number| match self.enough {
            Enough::Rounds(rounds) => number >= rounds,
            Enough::Time(time) => loaded.elapsed() >= time,
        };
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..WORKERS {
            let (world, sleepers, next) =
                (Arc::clone(&world), Arc::clone(&sleepers), Arc::clone(&next));
            let mut random = Random::new(random.next());
            let url = agent.url.clone();
            workers.spawn(async move {
                let mut wrong = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if is_enough(number) {
                        return wrong;
                    }
                    let sleeper = sleepers.lock().unwrap().pop();
                    let is_cold = sleeper.is_some();
                    let round = match sleeper {
                        Some(round) => round,
                        None => Round::sign_in(&world, &url).await,
                    };
                    let what = if is_cold { " (cold)" } else { "" };
                    for found in round.run(&world, number, is_cold, &mut random).await {
                        wrong.push(format!("round {number}{what}: {found}"));
                    }
                    world.upstream.forget(&format!("{number}-"));
                    if number % 100 == 99 {
                        eprintln!("{} rounds", number + 1);
                    }
                }
            });
        }
        let mut wrong = Vec::new();
        while let Some(found) = workers.join_next().await {
            wrong.extend(found.expect("no panic"));
        }
        let (bytes, asked) = load.done(&world);
        wrong.extend(load.end().await);
        eprintln!(
            "{} rounds in {:?}, beside {asked} requests and {} MB, {} findings",
            next.load(Ordering::SeqCst) - WORKERS,
            begun.elapsed(),
            bytes >> 20,
            wrong.len()
        );
        wrong.truncate(40);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// One session to be revoked.
struct Round {
    user: User,
    id: String,
    session: Session,
}

impl Round {
    async fn sign_in(world: &World, url: &str) -> Self {
        let mut user = world.user("ada");
        user.sign_in_only(url).await;
        let who = user
            .fetch("GET", &format!("{url}/.sallyport/session"))
            .await;
        let id = who.json()["session"]["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        let session = Session {
            net: world.net.clone(),
            label: "app".to_owned(),
            cookie: user.cookie(url),
        };
        Self { user, id, session }
    }

    async fn run(
        self,
        world: &World,
        number: usize,
        is_cold: bool,
        random: &mut Random,
    ) -> Vec<String> {
        let count = 2 + random.below(3);
        let waits_for_open = !is_cold && random.below(2) == 0;
        let mut streams = Vec::new();
        let delete_after =
            Duration::from_micros(random.below(if is_cold { 8_000 } else { 40_000 }));
        for at in 0..count {
            let kind = *random.pick(&Kind::ALL);
            streams.push(Stream::begin(
                kind,
                &self.session,
                &format!("{number}-{at}"),
            ));
        }
        if waits_for_open {
            for stream in &mut streams {
                stream.opened().await;
            }
        }
        let api = http2::Connection::open(&world.net, &world.net.host("api"), None)
            .await
            .expect("the API");
        tokio::time::sleep(delete_after).await;
        // Some begin while the order is under way.
        let late = Stream::begin(
            *random.pick(&Kind::ALL),
            &self.session,
            &format!("{number}-late"),
        );
        let reply = api
            .request(
                &world
                    .api
                    .ask("DELETE", &format!("/app/sessions/{}", self.id)),
            )
            .await;
        let answer = Answer {
            at_ns: clock::now_ns(),
        };
        streams.push(late);
        let sent: Vec<_> = streams.iter().map(Stream::sent).collect();
        let mut wrong = Vec::new();
        match reply {
            Ok(reply) if reply.status == 204 => {}
            other => wrong.push(format!("the DELETE answered {other:?}")),
        }
        // And some after the answer: of these, nothing may arrive.
        let after = Stream::begin(
            Kind::Quick(if random.below(2) == 0 {
                Version::H1
            } else {
                Version::H2
            }),
            &self.session,
            &format!("{number}-after"),
        );
        match after.ended().await.end {
            Some(End::Refused(401)) => {}
            other => wrong.push(format!("a request after the answer ended with {other:?}")),
        }
        if !world.upstream.marked(&format!("{number}-after")).is_empty() {
            wrong.push("a request after the answer reached the upstream".to_owned());
        }
        for (stream, sent) in streams.into_iter().zip(sent) {
            wrong.extend(traffic::judge(stream, answer, sent, &world.upstream).await);
        }
        drop(self.user);
        wrong
    }
}

/// Traffic of somebody whom nobody revokes.
struct Load {
    streams: Vec<Stream>,
}

impl Load {
    async fn begin(world: &World, url: &str, kinds: &[Kind]) -> Self {
        let mut user = world.user("lin");
        user.sign_in(url).await;
        let session = Session {
            net: world.net.clone(),
            label: "app".to_owned(),
            cookie: user.cookie(url),
        };
        let streams = kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| Stream::begin(*kind, &session, &format!("load-{at}")))
            .collect();
        Self { streams }
    }

    /// Bytes that the app sent and took, and requests.
    fn done(&self, world: &World) -> (u64, usize) {
        let marks = self.streams.iter().map(|stream| &stream.mark);
        let seen: Vec<_> = marks.flat_map(|mark| world.upstream.marked(mark)).collect();
        let bytes = seen.iter().map(|seen| seen.sent() + seen.bytes()).sum();
        (bytes, seen.len())
    }

    async fn end(self) -> Vec<String> {
        let mut wrong = Vec::new();
        for stream in self.streams {
            if stream.is_over() {
                let (kind, outcome) = (stream.kind, stream.ended().await);
                wrong.push(format!(
                    "{kind:?} of a bystander ended with {:?}",
                    outcome.end
                ));
            } else {
                stream.abort();
            }
        }
        wrong
    }
}

/// More than the cores, since each spends its time waiting for the others.
const WORKERS: usize = 6;
/// A few at their own pace.
const LOAD: [Kind; 8] = [
    Kind::Quick(Version::H1),
    Kind::Quick(Version::H2),
    Kind::Download(Version::H1),
    Kind::Download(Version::H2),
    Kind::Events(Version::H2),
    Kind::Clock(Version::H1),
    Kind::Clock(Version::H2),
    Kind::Upload(Version::H1),
];
/// As much as goes through, by a bounded number.
const FULL_LOAD: [Kind; 15] = [
    Kind::Quick(Version::H1),
    Kind::Quick(Version::H1),
    Kind::Quick(Version::H1),
    Kind::Quick(Version::H2),
    Kind::Quick(Version::H2),
    Kind::Quick(Version::H2),
    Kind::Bulk(Version::H1),
    Kind::Bulk(Version::H1),
    Kind::Bulk(Version::H2),
    Kind::Bulk(Version::H2),
    Kind::Frames(Version::H1),
    Kind::Frames(Version::H2),
    Kind::Upload(Version::H1),
    Kind::Upload(Version::H2),
    Kind::Clock(Version::H2),
];
