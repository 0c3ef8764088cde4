//! Nothing secret in anything that was written down: every log and every output of a full scenario, at the
//! most talkative setting.

use tests::http::{Ask, Version};
use tests::liar::{self, Liar};
use tests::operator::{Operator, link_code};
use tests::traffic::{Kind, Session, Stream};
use tests::world::World;
use url::Url;

/// Tokens, keys, cookies, codes, client secrets, states, nonces and verifiers of a whole scenario (commands,
/// logins that succeed and fail, revokes, restarts) appear in no captured log.
#[tokio::test(flavor = "multi_thread")]
async fn captured_logs_hold_no_secret() {
    let mut world = World::builder()
        .provider()
        .argument("--log")
        .argument("trace")
        .start()
        .await;
    let mut agent = world.agent("app", &["--oauth=dev", "--log=trace"]).await;
    let liar = Liar::start().await;
    liar.register(&world.edge, "liar").await;
    let lying = world.agent("lying", &["--oauth=liar"]).await;
    let mut secrets: Vec<(&str, String)> = vec![
        ("the API key", world.api.key.clone()),
        ("the authtoken", world.authtoken.clone()),
        (
            "the development client's secret",
            world.dev.as_ref().unwrap().client_secret.clone(),
        ),
        ("another client's secret", liar::SECRET.to_owned()),
    ];
    // The secret parts alone, too.
    for text in [&world.api.key, &world.authtoken] {
        secrets.extend(
            text.split(['_', '.'])
                .filter(|part| part.len() >= 20)
                .map(|part| ("a part of a token", part.to_owned())),
        );
    }

    let mut ada = world.user("ada");
    ada.sign_in(&agent.url).await;
    let mut somebody = world.user("somebody");
    somebody.sign_in(&lying.url).await;
    // A login that fails at its end, and requests with broken cookies.
    let auth = world.net.host("auth");
    let mut lin = world.user("lin");
    let page = lin
        .walk_until(&agent.url, |url| {
            url.host_str() == Some(auth.as_str()) && url.path().starts_with("/callback/")
        })
        .await;
    world.user("thief").open(page.url.as_str()).await;
    let cookie = ada.cookie(&agent.url);
    for broken in [format!("{cookie}x"), cookie[..cookie.len() - 2].to_owned()] {
        Ask::get(&world.net, "app", "/x")
            .cookie(&broken)
            .send(&world.net, Version::H1)
            .await;
    }
    let bearer = format!("Bearer {}x", world.api.key);
    Ask::get(&world.net, "api", "/app/users")
        .header("authorization", &bearer)
        .header("ngrok-version", "2")
        .send(&world.net, Version::H1)
        .await;
    let code = link_code(&world).await;
    let mut operator = Operator::stranger(&world.net);
    operator.spend(&code).await;
    operator.get("/").await;
    secrets.push(("an operator link's code", code));
    // What is open, revoked, and all of it over a restart.
    let session = Session {
        net: world.net.clone(),
        label: "app".to_owned(),
        cookie: cookie.clone(),
    };
    let mut stream = Stream::begin(Kind::Clock(Version::H1), &session, "open");
    stream.opened().await;
    let who = ada
        .fetch("GET", &format!("{}/.sallyport/session", agent.url))
        .await
        .json();
    world
        .api
        .revoke(&format!(
            "/app/sessions/{}",
            who["session"]["id"].as_str().unwrap()
        ))
        .await;
    stream.ended().await;
    world.upstream.seen().iter().for_each(|seen| {
        secrets.extend(
            seen.folded("sallyport-assertion")
                .into_iter()
                .map(|token| ("an assertion", token.to_owned())),
        );
    });
    world.restart_edge().await;
    agent.process.terminate().await;

    for browser in [&ada, &somebody, &lin] {
        for cookie in browser.jar.all() {
            secrets.push(("a cookie", cookie.value.clone()));
            secrets.extend(
                cookie
                    .value
                    .split('.')
                    .filter(|part| part.len() > 40)
                    .map(|part| ("a part of a cookie", part.to_owned())),
            );
        }
        for url in &browser.trail {
            let url = Url::parse(url).unwrap();
            for (name, value) in url.query_pairs() {
                let is_secret = matches!(
                    &*name,
                    "code" | "state" | "nonce" | "code_challenge" | "ticket"
                );
                if is_secret && value.len() >= 16 {
                    secrets.push(("a parameter of a login", value.into_owned()));
                }
            }
        }
    }
    for cookie in operator.jar.all() {
        secrets.push(("the operator's cookie", cookie.value.clone()));
    }
    secrets.push((
        "the cluster key",
        std::fs::read_to_string(world.edge.data_dir.join("cluster.key"))
            .unwrap()
            .trim()
            .to_owned(),
    ));
    secrets.retain(|(_, secret)| secret.len() >= 12);
    assert!(
        secrets.len() > 20,
        "the scenario made too few secrets to look for: {}",
        secrets.len()
    );

    let mut bytes = 0;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(world.logs()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // The development provider prints its client secret on purpose, once, to whoever started it.
        if name == "dev-provider.stdout" {
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        bytes += text.len();
        for (what, secret) in &secrets {
            if let Some(at) = text.find(secret.as_str()) {
                let line_begin = text[..at].rfind('\n').map_or(0, |at| at + 1);
                let line: String = text[line_begin..].chars().take(300).collect();
                found.push(format!("{what} in {name}: {line}"));
            }
        }
    }
    assert!(
        bytes > 10_000,
        "the logs say too little to be judged: {bytes} bytes"
    );
    found.truncate(20);
    assert!(found.is_empty(), "{found:#?}");
}
