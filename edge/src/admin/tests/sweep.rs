//! Walks the tables of all doors: nothing answers whoever shows nothing, or something wrong.

use super::*;
use crate::admin::routes::{Needs, Route, Verb};

fn method(verb: Verb) -> Method {
    match verb {
        Verb::Get => Method::GET,
        Verb::Post => Method::POST,
        Verb::Delete => Method::DELETE,
    }
}

/// A path with plausible ids in place of its parameters.
fn filled(path: &str) -> String {
    let id = UserId::from_bytes([1; 20]).to_string();
    let session = SessionId::from_bytes([2; 20]).to_string();
    path.replace("{user}", &id)
        .replace("{session}", &session)
        .replace("{id}", &id)
}

fn request(route: &Route, headers: &[(&str, String)]) -> Request<Body> {
    let mut request = Request::builder()
        .method(method(route.verb))
        .uri(filled(route.path));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    request.body(Body::empty()).unwrap()
}

/// Every API route, with every wrong way to show a key.
#[tokio::test]
async fn api_routes_refuse_strangers() {
    let world = World::new().await;
    let bearer = |token: &str| {
        vec![
            ("authorization", format!("Bearer {token}")),
            ("ngrok-version", "2".to_owned()),
        ]
    };
    let authtoken = world
        .admin
        .mint_authtoken(String::new())
        .await
        .unwrap()
        .token;
    let revoked = world.admin.mint_api_key(String::new()).await.unwrap();
    let id = proto::id::ApiKeyId::parse(&revoked.id).unwrap();
    assert!(world.store.revoke_api_key(id, Clock.now()).await.unwrap());
    let other_secret = {
        let other = world.admin.mint_api_key(String::new()).await.unwrap().token;
        let (id, _) = world.key.split_at(world.key.len() - 43);
        let (_, secret) = other.split_at(other.len() - 43);
        format!("{id}{secret}")
    };
    let cases = [
        (vec![], "SP_2103"),
        (vec![("ngrok-version", "2".to_owned())], "SP_2103"),
        (
            vec![("authorization", format!("Basic {}", world.key))],
            "SP_2103",
        ),
        (bearer(""), "SP_2103"),
        (
            vec![
                ("authorization", format!("Bearer {}", world.key)),
                ("authorization", "Bearer x".to_owned()),
            ],
            "SP_2103",
        ),
        (bearer("nonsense"), "SP_2104"),
        (bearer("sp_ak_"), "SP_2104"),
        (bearer(&other_secret), "SP_2104"),
        (bearer(&revoked.token), "SP_2104"),
        (bearer(&authtoken), "SP_2105"),
        (bearer(&authtoken.replace("sp_at_", "sp_ak_")), "SP_2104"),
        (
            vec![(
                "cookie",
                format!("{}={}", check::OPERATOR_COOKIE, world.key),
            )],
            "SP_2103",
        ),
    ];
    let routes = super::super::api::routes();
    assert!(routes.len() >= 8);
    for route in routes {
        assert_eq!(route.needs, Needs::ApiKey, "{}", route.path);
        for (headers, code) in &cases {
            let answer = ask(world.admin.api(), request(&route, headers)).await;
            assert_eq!(
                answer.refusal(),
                (401, (*code).to_owned()),
                "{} {headers:?}",
                route.path
            );
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
            assert!(!answer.text.contains(&world.key));
        }
        // With a key but without the version, nothing happens either.
        let headers = [("authorization", format!("Bearer {}", world.key))];
        let answer = ask(world.admin.api(), request(&route, &headers)).await;
        assert_eq!(
            answer.refusal(),
            (400, "SP_2106".to_owned()),
            "{}",
            route.path
        );
    }
    // Unknown paths tell a stranger nothing.
    for path in ["/", "/metrics", "/debug/pprof", "/app", "/sign-in"] {
        let answer = ask(
            world.admin.api(),
            Request::get(path).body(Body::empty()).unwrap(),
        )
        .await;
        assert_eq!(answer.status, 401, "{path}");
    }
}

/// Every dashboard route wants an operator, except those that a browser needs in order to become one.
#[tokio::test]
async fn dashboard_routes_refuse_strangers() {
    let world = World::new().await;
    let open = [
        "/sign-in",
        "/assets/dashboard.css",
        "/assets/dashboard.js",
        "/favicon.ico",
    ];
    let stranger = check::cookie_value(new_id(Clock.unix_ms()), &[5; 32]);
    let cookies = [
        None,
        Some(format!("{}={}", check::OPERATOR_COOKIE, stranger.expose())),
        Some(format!("{}=garbage", check::OPERATOR_COOKIE)),
        Some(format!("{}=", check::OPERATOR_COOKIE)),
    ];
    for route in super::super::dashboard::routes() {
        if route.needs == Needs::Nobody {
            assert!(
                open.contains(&route.path),
                "{} is open to strangers",
                route.path
            );
            continue;
        }
        assert_eq!(route.needs, Needs::Operator, "{}", route.path);
        for cookie in &cookies {
            let mut headers = vec![("sec-fetch-site", "same-origin".to_owned())];
            headers.extend(cookie.iter().map(|cookie| ("cookie", cookie.clone())));
            let answer = ask(world.admin.dashboard(), request(&route, &headers)).await;
            assert_eq!(
                answer.refusal(),
                (401, "SP_2101".to_owned()),
                "{} {cookie:?}",
                route.path
            );
        }
    }
    let answer = ask(
        world.admin.dashboard(),
        Request::get("/metrics").body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(answer.status, 401);
}

/// Whatever changes something at the dashboard is refused from another site, signed in or not.
#[tokio::test]
async fn dashboard_forms_come_from_the_dashboard() {
    let world = World::new().await;
    let foreign: [&[(&str, &str)]; 6] = [
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[
            ("sec-fetch-site", "same-site"),
            ("origin", "https://dashboard.otter.localhost:8443"),
        ],
        &[("sec-fetch-site", "none")],
        &[("origin", "https://app.otter.localhost:8443")],
        &[("origin", "null")],
    ];
    for route in super::super::dashboard::routes() {
        if route.verb != Verb::Post {
            continue;
        }
        for headers in foreign {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect();
            let answer = ask(world.admin.dashboard(), request(&route, &headers)).await;
            assert_eq!(
                answer.refusal(),
                (403, "SP_2111".to_owned()),
                "{} {headers:?}",
                route.path
            );
        }
    }
}

/// The socket has no route that says it is for anybody else.
#[tokio::test]
async fn socket_routes_are_the_owners() {
    for route in super::super::socket::routes() {
        assert_eq!(route.needs, Needs::Owner, "{}", route.path);
    }
}

/// Failures are counted by address; a good key still gets through.
#[tokio::test]
async fn guessing_is_slowed() {
    let world = World::new().await;
    let door = world.admin.api();
    let attempt = |token: String, address: [u8; 4]| {
        let mut request = Request::get("/app/users")
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header("ngrok-version", "2")
            .body(Body::empty())
            .unwrap();
        request
            .extensions_mut()
            .insert(Client(IpAddr::from(address)));
        ask(door.clone(), request)
    };
    let mut last = 401;
    for _ in 0..100 {
        last = attempt("sp_ak_wrong".to_owned(), [198, 51, 100, 1])
            .await
            .status
            .as_u16();
    }
    assert_eq!(last, 429);
    let answer = attempt("sp_ak_wrong".to_owned(), [198, 51, 100, 1]).await;
    assert_eq!(answer.refusal(), (429, "SP_2110".to_owned()));
    assert_eq!(answer.header("retry-after"), "60");
    assert_eq!(
        attempt("sp_ak_wrong".to_owned(), [198, 51, 100, 2])
            .await
            .status,
        401
    );
    assert_eq!(
        attempt(world.key.clone(), [198, 51, 100, 1]).await.status,
        200
    );
}
