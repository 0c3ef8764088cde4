//! Where a session comes from: browser, system and device from the user agent, the place from the
//! operator's database; and that its loss costs nothing but the place.

use serde_json::{Value, json};
use tests::mmdb;
use tests::operator::Operator;
use tests::wait;
use tests::world::World;

/// With a place database each session has country and coordinates, in the API and on the dashboard.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("places.mmdb");
    std::fs::write(&file, mmdb::loopback_is(&mmdb::london())).unwrap();
    let config = format!("geoip: {}\n", file.display());
    let world = World::builder().provider().config(&config).start().await;
    let agent = world.login_agent("app").await;
    world.signed_in("ada", &agent.url).await;
    let session = world.api.newest_session_of("ada@example.test").await;
    let location = &session["browser_session"]["location"];
    assert_eq!(location["country_code"], "GB", "{session:#}");
    assert_eq!(location["lat_long_radius_km"], json!(100));
    let near = |value: &Value, wanted: f64| (value.as_f64().unwrap() - wanted).abs() < 0.001;
    assert!(near(&location["latitude"], 51.5142), "{location}");
    assert!(near(&location["longitude"], -0.0931), "{location}");
    let mut operator = Operator::sign_in(&world).await;
    let user = session["application_user"]["id"].as_str().unwrap();
    let id = session["id"].as_str().unwrap();
    let page = operator.get(&format!("/users/{user}/sessions/{id}")).await;
    assert!(page.text().contains("London"), "{}", page.text());
}

/// A database that is missing, truncated or no database costs the place and nothing else: logins go on,
/// and the log says it once.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_database_costs_the_place_only() {
    let whole = mmdb::loopback_is(&mmdb::london());
    let halves = whole[..whole.len() / 2].to_vec();
    for bytes in [b"no database".to_vec(), halves, Vec::new()] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("places.mmdb");
        std::fs::write(&file, bytes).unwrap();
        let config = format!("geoip: {}\n", file.display());
        let world = World::builder().provider().config(&config).start().await;
        let agent = world.login_agent("app").await;
        world.signed_in("ada", &agent.url).await;
        let session = world.api.newest_session_of("ada@example.test").await;
        assert_eq!(session["browser_session"]["location"], Value::Null);
        let log = world.edge.log();
        let said = log.matches("place database cannot be used").count();
        assert_eq!(said, 1, "{log}");
        assert!(!log.contains("panicked"));
    }
}

/// Browsers, systems and devices are told apart; what is no browser gets words, never null.
#[tokio::test(flavor = "multi_thread")]
async fn user_agents_are_told_apart() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    for (raw, browser, system, device) in [
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
            "Safari",
            "iOS",
            "Mobile",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
            "Firefox",
            "Windows",
            "Desktop",
        ),
        ("curl/8.5.0", "curl", "", ""),
        ("", "", "", ""),
    ] {
        let mut user = world.user("ada");
        raw.clone_into(&mut user.user_agent);
        user.sign_in(&agent.url).await;
        let agent = wait::until("the session", || async {
            let newest = world.api.sessions().await.into_iter().next()?;
            let agent = newest["browser_session"]["user_agent"].clone();
            (agent["raw"] == raw).then_some(agent)
        })
        .await;
        for (key, wanted) in [
            ("browser_name", browser),
            ("os_name", system),
            ("device_type", device),
        ] {
            let found = agent[key]
                .as_str()
                .unwrap_or_else(|| panic!("{key} in {agent}"));
            assert!(found.contains(wanted), "{raw}: {key} is {found:?}");
        }
    }
}
