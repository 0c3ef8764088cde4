//! What cannot be made durable was not revoked: 503, never 204; and everything heals by itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tests::fault::{FailingCalls, SmallDisk};
use tests::http::{Ask, Reply, Version};
use tests::traffic::{End, Kind, Session, Stream};
use tests::user::User;
use tests::wait;
use tests::world::{Agent, World};

/// A full disk: a DELETE answers 503 and ends nothing; with room again it answers 204, and that holds
/// over a kill -9.
#[tokio::test(flavor = "multi_thread")]
async fn disk_full() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("data"), "24m", "disk_full").await else {
        return;
    };
    let mut world = World::builder()
        .provider()
        .data_dir(&disk.folder)
        .start()
        .await;
    let agent = world.login_agent("app").await;
    let mut people = Vec::new();
    for _ in 0..40 {
        people.push(Person::sign_in(&world, &agent).await);
    }
    disk.fill().await;
    // The store still has pages of its own. Logins that nobody finishes use them up.
    wait::until("a store without room", || async {
        let replies = join_all((0..20).map(|_| async {
            let mut somebody = world.user("somebody");
            somebody.open(&agent.url).await.reply
        }))
        .await;
        let refused = replies.into_iter().find(|reply| reply.status == 503)?;
        assert_not_done(&refused);
        Some(())
    })
    .await;
    // What it has room for may succeed, and then it must hold; sooner or later it has none.
    let mut ended = Vec::new();
    let victim = loop {
        let person = people.pop().expect("the store never ran out of room");
        let reply = world.api.delete(&person.path()).await;
        if reply.status != 204 {
            assert_not_done(&reply);
            break person;
        }
        ended.push(person);
    };
    victim.assert_lives(&world).await;
    login_is_refused_kindly(&world, &agent).await;
    disk.free();
    victim.assert_heals(&world).await;
    ended.push(victim);
    world.kill_edge().await;
    world.online(&agent).await;
    for person in &ended {
        person.assert_out(&world).await;
    }
    people
        .last()
        .expect("some are left")
        .assert_in(&world)
        .await;
}

/// A store that has become read-only.
#[tokio::test(flavor = "multi_thread")]
async fn read_only() {
    failing_calls(
        "read_only",
        "pwrite64,pwritev,pwritev2,write,ftruncate",
        "EROFS",
    )
    .await;
}

/// A sync that fails.
#[tokio::test(flavor = "multi_thread")]
async fn failing_sync() {
    failing_calls(
        "failing_sync",
        "fsync,fdatasync,sync_file_range,msync",
        "EIO",
    )
    .await;
}

/// A disk that answers with errors.
#[tokio::test(flavor = "multi_thread")]
async fn failing_writes() {
    failing_calls("failing_writes", "pwrite64,pwritev,pwritev2,write", "EIO").await;
}

/// A disk without room, said by the write itself.
#[tokio::test(flavor = "multi_thread")]
async fn writes_without_room() {
    failing_calls(
        "writes_without_room",
        "pwrite64,pwritev,pwritev2,write,fallocate,ftruncate",
        "ENOSPC",
    )
    .await;
}

/// e13, as far as one edge goes: for ten seconds its store can be neither read nor written. Whoever is
/// signed in is served from what the edge holds or told to come back: no redirect, no cookie touched. A
/// login and a revocation are told to come back, and a forged cookie is refused without the store. It ends
/// by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_disk() {
    let mut world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let mut people = Vec::new();
    for _ in 0..8 {
        people.push(Person::sign_in(&world, &agent).await);
    }
    world.restart_edge().await;
    world.online(&agent).await;
    let Some(fault) = FailingCalls::begin(
        world.edge.process.pid(),
        &store_file(&world),
        "pread64,preadv,preadv2,read,pwrite64,pwritev,pwritev2,write,ftruncate",
        "EIO",
        &world.logs(),
        "a_dead_disk",
    )
    .await
    else {
        return;
    };
    let begun = Instant::now();
    while begun.elapsed() < TROUBLE {
        for person in &people {
            let reply = person.ask(&world).await;
            assert!(
                matches!(reply.status, 200 | 503),
                "{} {}",
                reply.status,
                reply.text()
            );
            assert_eq!(reply.header("set-cookie"), None);
            assert_eq!(reply.header("location"), None);
            assert_eq!(reply.status == 503, reply.header("retry-after").is_some());
        }
        let forged = format!("{}x", people[0].session.cookie);
        let reply = Ask::get(&world.net, "app", "/x")
            .cookie(&forged)
            .send(&world.net, Version::H1)
            .await;
        reply.assert_refused(401, "SP_2001", "a forged cookie");
        login_is_refused_kindly(&world, &agent).await;
        assert_not_done(&world.api.delete(&people[0].path()).await);
    }
    fault.end().await;
    for person in &people {
        wait::until("the store is back", || async {
            let reply = person.ask(&world).await;
            assert!(matches!(reply.status, 200 | 503), "{}", reply.status);
            (reply.status == 200).then_some(())
        })
        .await;
    }
}

/// While the store's calls fail: 503 for every way to revoke, the sessions live on with their streams,
/// nobody is logged out or sent away; afterwards everything works again, and what was answered holds.
async fn failing_calls(test: &str, calls: &str, error: &str) {
    let mut world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let victim = Person::sign_in(&world, &agent).await;
    let other = Person::sign_in(&world, &agent).await;
    let mut stream = Stream::begin(Kind::Clock(Version::H1), &victim.session, "open");
    stream.opened().await;
    let store = store_file(&world);
    let Some(fault) = FailingCalls::begin(
        world.edge.process.pid(),
        &store,
        calls,
        error,
        &world.logs(),
        test,
    )
    .await
    else {
        return;
    };
    for _ in 0..3 {
        assert_not_done(&world.api.delete(&victim.path()).await);
    }
    assert_not_done(
        &world
            .api
            .revocation(&serde_json::json!({ "session": victim.id }), "trouble")
            .await,
    );
    assert_not_done(
        &world
            .api
            .revocation(&serde_json::json!({ "all": true }), "trouble")
            .await,
    );
    let mut leaving = world.user("nobody");
    leaving.jar = victim.user.jar.clone();
    let logout = leaving
        .fetch("POST", &format!("{}/.sallyport/logout", agent.url))
        .await;
    assert_not_done(&logout);
    assert_eq!(
        logout.header("set-cookie"),
        None,
        "a log-out that failed leaves the cookie alone"
    );
    victim.assert_lives(&world).await;
    assert!(
        !stream.is_over(),
        "the open stream was cut by a revocation that failed"
    );
    login_is_refused_kindly(&world, &agent).await;
    fault.end().await;

    assert!(
        world.edge.process.is_running(),
        "{}",
        world.edge.process.stderr_tail()
    );
    other.assert_in(&world).await;
    victim.assert_in(&world).await;
    victim.assert_heals(&world).await;
    assert_eq!(stream.ended().await.end, Some(End::Closed(1008)));
    world.kill_edge().await;
    world.online(&agent).await;
    victim.assert_out(&world).await;
    other.assert_in(&world).await;
    assert!(
        !world.edge.log().contains("panicked"),
        "{}",
        world.edge.process.stderr_tail()
    );
}

struct Person {
    user: User,
    session: Session,
    id: String,
}

impl Person {
    async fn sign_in(world: &World, agent: &Agent) -> Self {
        let mut user = world.user("ada");
        user.sign_in(&agent.url).await;
        let who = user
            .fetch("GET", &format!("{}/.sallyport/session", agent.url))
            .await;
        let id = who.json()["session"]["id"].as_str().unwrap().to_owned();
        let session = Session {
            net: world.net.clone(),
            label: agent.label.clone(),
            cookie: user.cookie(&agent.url),
        };
        Self { user, session, id }
    }

    fn path(&self) -> String {
        format!("/app/sessions/{}", self.id)
    }

    async fn ask(&self, world: &World) -> Reply {
        Ask::get(&world.net, &self.session.label, "/x")
            .cookie(&self.session.cookie)
            .send(&world.net, Version::H1)
            .await
    }

    /// In, or told that it cannot be known at the moment: never out.
    async fn assert_lives(&self, world: &World) {
        let reply = self.ask(world).await;
        assert!(
            matches!(reply.status, 200 | 503),
            "{} {}",
            reply.status,
            reply.text()
        );
        assert_eq!(reply.header("set-cookie"), None);
        assert_eq!(reply.header("location"), None);
    }

    async fn assert_in(&self, world: &World) {
        let reply = self.ask(world).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    async fn assert_out(&self, world: &World) {
        self.ask(world)
            .await
            .assert_refused(401, "SP_2002", &self.id);
    }

    /// Sooner or later the DELETE goes through; then the session is out.
    async fn assert_heals(&self, world: &World) {
        wait::until("a DELETE that goes through", || async {
            let reply = world.api.delete(&self.path()).await;
            if reply.status == 204 {
                return Some(());
            }
            assert_not_done(&reply);
            None
        })
        .await;
        self.assert_out(world).await;
    }
}

#[track_caller]
fn assert_not_done(reply: &Reply) {
    assert_eq!(
        reply.status,
        503,
        "never a success: {} {}",
        reply.status,
        reply.text()
    );
    assert!(
        matches!(reply.code(), "SP_5001" | "SP_5002" | ""),
        "{}",
        reply.code()
    );
    assert!(reply.text().contains("SP_500"), "{}", reply.text());
    assert!(reply.header("retry-after").is_some(), "{:?}", reply.headers);
    assert_eq!(reply.header("sallyport-receipt"), None);
}

/// d05: a login that meets the trouble is told so, and nothing is done to the browser's cookies.
async fn login_is_refused_kindly(world: &World, agent: &Agent) {
    let mut lin = world.user("lin");
    let page = lin.visit(&agent.url).await;
    assert_eq!(page.reply.status, 503, "{} {}", page.url, page.reply.text());
    assert!(page.reply.header("retry-after").is_some());
    assert_eq!(page.reply.header("set-cookie"), None);
    assert!(lin.session(&agent.url).is_none());
}

fn store_file(world: &World) -> PathBuf {
    std::fs::read_dir(&world.edge.data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "redb"))
        .expect("the store's file")
}

/// As long as the case says.
const TROUBLE: Duration = Duration::from_secs(10);
