//! Names come back, sessions survive, what was revoked stays revoked.

use tests::http::{Ask, HTML, Version};
use tests::wait;
use tests::world::World;

/// An agent that was stopped or killed gets its name back when it starts again; until then the endpoint
/// answers the offline page.
#[tokio::test(flavor = "multi_thread")]
async fn an_agents_names_return() {
    let world = World::start().await;
    let mut agent = world.agent("app", &[]).await;
    for is_killed in [false, true] {
        if is_killed {
            agent.process.kill().await;
        } else {
            agent.process.terminate().await;
        }
        let offline = wait::until("the offline page", || async {
            let reply = Ask::get(&world.net, "app", "/")
                .header("accept", HTML)
                .send(&world.net, Version::H1)
                .await;
            (reply.status != 200).then_some(reply)
        })
        .await;
        assert!(
            matches!(offline.code(), "SP_3001" | "SP_3002"),
            "{}",
            offline.code()
        );
        agent.start_again().await;
        let reply = Ask::get(&world.net, "app", "/")
            .send(&world.net, Version::H2)
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// The next run of a killed agent takes its name over at once: nothing waits for the dead link.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_run_takes_over() {
    let world = World::start().await;
    let mut agent = world.agent("app", &[]).await;
    for _ in 0..3 {
        agent.process.kill().await;
        agent.start_again().await;
        let begun = std::time::Instant::now();
        let reply = Ask::get(&world.net, "app", "/")
            .send(&world.net, Version::H1)
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
    }
}

/// The random name is readable and stays with agent, upstream and authtoken.
#[tokio::test(flavor = "multi_thread")]
async fn the_random_name_stays() {
    let world = World::start().await;
    let arguments = vec!["http".to_owned(), world.upstream.address()];
    let mut agent = world.start_agent(&arguments).await;
    agent.forwarding().await;
    assert!(
        agent.label.contains('-')
            && agent
                .label
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit()),
        "{}",
        agent.label
    );
    assert_eq!(
        Ask::get(&world.net, &agent.label, "/")
            .send(&world.net, Version::H1)
            .await
            .status,
        200
    );
    agent.process.terminate().await;
    agent.start_again().await;
}

/// Sessions survive a restart and a kill -9 of the edge, agents come back by themselves, and a revoked
/// session stays revoked.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_survive_the_edge() {
    let mut world = World::with_login().await;
    let agent = world.login_agent("app").await;
    for is_killed in [false, true] {
        let mut ada = world.signed_in("ada", &agent.url).await;
        let mut lin = world.signed_in("lin", &agent.url).await;
        let session = world.api.newest_session_of("lin@elsewhere.test").await;
        world
            .api
            .revoke(&format!(
                "/app/sessions/{}",
                session["id"].as_str().unwrap()
            ))
            .await;
        if is_killed {
            world.kill_edge().await;
        } else {
            world.restart_edge().await;
        }
        wait::until("the agent is back", || async {
            let reply = Ask::get(&world.net, "app", "/")
                .cookie(&ada.cookie(&agent.url))
                .send(&world.net, Version::H1)
                .await;
            (reply.status == 200).then_some(())
        })
        .await;
        assert_eq!(ada.fetch("GET", &agent.url).await.status, 200);
        let refused = lin.fetch("GET", &agent.url).await;
        assert_eq!(refused.status, 401, "{}", refused.text());
        assert_eq!(
            world
                .api
                .get(&format!(
                    "/app/sessions/{}",
                    session["id"].as_str().unwrap()
                ))
                .await
                .status,
            404
        );
        assert!(
            world
                .api
                .sessions()
                .await
                .iter()
                .any(|row| row["application_user"]["id"].is_string())
        );
    }
}

/// A polite stop ends with 0, lets an exchange under way finish, and refuses new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_drains() {
    let mut world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let ask = Ask::get(&world.net, "app", "/big?n=3000000");
    let mut response = ask.open(&world.net, Version::H1).await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    world.edge.process.signal("TERM").await;
    let mut bytes = 0;
    let end = loop {
        match wait::within("the rest", response.chunk()).await {
            Ok(Some(chunk)) => bytes += chunk.len(),
            other => break other,
        }
    };
    assert_eq!(
        end,
        Ok(None),
        "an exchange under way is finished ({bytes} bytes came)"
    );
    let status = world.edge.process.exited().await;
    assert_eq!(
        status.code(),
        Some(0),
        "{}",
        world.edge.process.stderr_tail()
    );
    assert!(
        !world.edge.data_dir.join("edge.sock").exists(),
        "the operator's socket is removed"
    );
}
