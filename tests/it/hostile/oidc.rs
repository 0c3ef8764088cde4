//! Group D as far as this issue goes: logins that somebody else began, repeated, mixed up or lied about.
//! Each refusal leaves no App User, no session, no cookie and no hand-over code.

use serde_json::{Value, json};
use tests::http::{Ask, Reply, Version};
use tests::liar::{Liar, Lie};
use tests::user::User;
use tests::world::{Agent, World};
use url::Url;

use super::{Bench, Case, cases};

pub(super) const CASES: &[Case] = cases![
    d01_missing_or_foreign_state,
    d02_callback_replay,
    d03_parallel_tabs,
    d04_nonce_absent_or_wrong,
    d06_unsigned_id_token,
    d09_provider_mix_up,
    d10_token_for_someone_else,
    d11_duplicate_parameter,
    d12_several_at_signs,
    d13_unverified_email,
    d14_same_subject_other_issuer,
    d17_provider_error_text,
];

/// A lying provider, registered, with an endpoint behind it.
struct Lying {
    liar: Liar,
    agent: Agent,
}

impl Lying {
    async fn new(world: &World, name: &str, more: &[&str]) -> Self {
        let liar = Liar::start().await;
        liar.register(&world.edge, name).await;
        let oauth = format!("--oauth={name}");
        let mut arguments = vec![oauth.as_str()];
        arguments.extend(more);
        let agent = world.agent(name, &arguments).await;
        Self { liar, agent }
    }

    /// A fresh browser's login at this endpoint.
    async fn login(&self, world: &World) -> (User, Reply) {
        let mut user = world.user("somebody");
        let page = user.visit(&self.agent.url).await;
        (user, page.reply)
    }

    /// With this lie: refused for this reason, and nothing came of it.
    async fn assert_refused(
        &self,
        world: &World,
        lie: Lie,
        status: u16,
        codes: &[&str],
        what: &str,
    ) {
        let before = (
            world.api.users().await.len(),
            world.api.sessions().await.len(),
        );
        self.liar.lie(lie);
        let (user, reply) = self.login(world).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        assert!(
            codes.contains(&reply.code()),
            "{what}: {} is not one of {codes:?}",
            reply.code()
        );
        assert!(
            user.session(&self.agent.url).is_none(),
            "{what}: a session cookie was set"
        );
        assert!(
            user.trail
                .iter()
                .all(|url| !url.contains("/.sallyport/callback")),
            "{what}: a hand-over happened"
        );
        let after = (
            world.api.users().await.len(),
            world.api.sessions().await.len(),
        );
        assert_eq!(before, after, "{what}: an App User or a session was made");
    }

    async fn assert_gets_in(&self, world: &World, lie: Lie, what: &str) {
        self.liar.lie(lie);
        let (_, reply) = self.login(world).await;
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
    }
}

fn claims(claims: Value) -> Lie {
    Lie {
        claims,
        ..Lie::default()
    }
}

/// A browser that stands in front of the callback.
async fn at_callback(world: &World, url: &str) -> (User, Url) {
    let auth = world.net.host("auth");
    let mut user = world.user("lin");
    let page = user
        .walk_until(url, |url| {
            url.host_str() == Some(auth.as_str()) && url.path().starts_with("/callback/")
        })
        .await;
    (user, page.url)
}

/// The callback's address with one parameter changed; `None` removes it.
fn with(url: &Url, name: &str, value: Option<&str>) -> Url {
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .into_owned()
        .filter(|(key, _)| key != name)
        .collect();
    let mut changed = url.clone();
    changed
        .query_pairs_mut()
        .clear()
        .extend_pairs(pairs)
        .extend_pairs(value.map(|value| (name, value)));
    changed
}

async fn d01_missing_or_foreign_state(bench: &Bench) {
    let world = &bench.world;
    let lying = Lying::new(world, "dzeroone", &[]).await;
    // The attacker's code and state, opened in the victim's browser.
    let (_, attackers) = at_callback(world, &lying.agent.url).await;
    let calls = lying.liar.token_calls();
    let mut victim = world.user("victim");
    let reply = victim.open(attackers.as_str()).await.reply;
    reply.assert_refused(403, "SP_2008", "another browser's login");
    // The victim, in the middle of a login of their own, is sent the attacker's.
    let (mut victim, own) = at_callback(world, &lying.agent.url).await;
    let (_, attackers) = at_callback(world, &lying.agent.url).await;
    victim.open(attackers.as_str()).await.reply.assert_refused(
        403,
        "SP_2008",
        "another browser's login, while logging in",
    );
    for (state, what) in [
        (None, "none"),
        (Some(""), "empty"),
        (Some("made-up"), "made up"),
        (Some(&"x".repeat(3000)[..]), "long"),
    ] {
        let (mut user, url) = at_callback(world, &lying.agent.url).await;
        let reply = user.open(with(&url, "state", state).as_str()).await.reply;
        reply.assert_refused(403, "SP_2006", what);
        assert!(user.session(&lying.agent.url).is_none());
    }
    assert_eq!(
        lying.liar.token_calls(),
        calls,
        "a code was redeemed before the state was checked"
    );
    // None of this ended the victim's own login.
    assert_eq!(victim.open(own.as_str()).await.reply.status, 200);
}

async fn d02_callback_replay(bench: &Bench) {
    let world = &bench.world;
    let (mut lin, url) = at_callback(world, &bench.app.url).await;
    assert_eq!(lin.open(url.as_str()).await.reply.status, 200);
    let sessions = world.api.sessions().await.len();
    let reply = lin.open(url.as_str()).await.reply;
    reply.assert_refused(403, "SP_2006", "the same callback again");
    assert_eq!(
        world.api.sessions().await.len(),
        sessions,
        "one session exists"
    );
    assert_eq!(
        lin.fetch("GET", &bench.app.url).await.status,
        200,
        "and it stays as it was"
    );
    // Two at once: one of them.
    let (lin, url) = at_callback(world, &bench.app.url).await;
    let cookies = lin.jar.header(&url, false, true).unwrap();
    let asked = format!("{}?{}", url.path(), url.query().unwrap());
    let replies = futures_util::future::join_all((0..6).map(|_| {
        Ask::get(&world.net, "auth", &asked)
            .cookie(&cookies)
            .navigation()
            .send(&world.net, Version::H2)
    }))
    .await;
    assert_eq!(
        replies.iter().filter(|reply| reply.status == 303).count(),
        1,
        "{:?}",
        replies.iter().map(|reply| reply.status).collect::<Vec<_>>()
    );
}

async fn d03_parallel_tabs(bench: &Bench) {
    let world = &bench.world;
    let auth = world.net.host("auth");
    let mut lin = world.user("lin");
    let mut tabs = Vec::new();
    for tab in 0..10 {
        let page = lin
            .walk_until(&format!("{}/tab/{tab}", bench.app.url), |url| {
                url.host_str() == Some(auth.as_str()) && url.path().starts_with("/callback/")
            })
            .await;
        tabs.push(page.url);
    }
    for at in [9, 0, 5, 3, 7, 1, 8, 2, 6, 4] {
        let page = lin.open(tabs[at].as_str()).await;
        assert_eq!(
            (page.reply.status, page.url.path()),
            (200, format!("/tab/{at}").as_str()),
            "{}",
            page.reply.text()
        );
    }
    // The first session won; the later tabs did not replace it and cut what it has open.
    let user = world.api.user("lin@elsewhere.test").await;
    let sessions = world.api.sessions().await;
    let live = sessions
        .iter()
        .filter(|session| {
            session["application_user"]["id"] == user["id"]
                && session["public_url"] == bench.app.url.as_str()
        })
        .count();
    assert!(live >= 1);
}

async fn d04_nonce_absent_or_wrong(bench: &Bench) {
    let world = &bench.world;
    let lying = Lying::new(world, "dzerofour", &[]).await;
    for (nonce, what) in [
        (Value::Null, "absent"),
        (json!("another"), "wrong"),
        (json!(""), "empty"),
        (json!(7), "a number"),
    ] {
        lying
            .assert_refused(
                world,
                claims(json!({ "nonce": nonce })),
                403,
                &["SP_2015", "SP_2013"],
                what,
            )
            .await;
    }
    lying
        .assert_gets_in(world, Lie::default(), "the right one")
        .await;
}

async fn d06_unsigned_id_token(bench: &Bench) {
    let world = &bench.world;
    let lying = Lying::new(world, "dzerosix", &[]).await;
    lying
        .assert_refused(
            world,
            Lie {
                is_unsigned: true,
                ..Lie::default()
            },
            403,
            &["SP_2013"],
            "alg none",
        )
        .await;
    lying
        .assert_refused(
            world,
            Lie {
                has_foreign_key: true,
                ..Lie::default()
            },
            403,
            &["SP_2013"],
            "another key",
        )
        .await;
    lying.assert_gets_in(world, Lie::default(), "signed").await;
}

async fn d09_provider_mix_up(bench: &Bench) {
    let world = &bench.world;
    let honest = Lying::new(world, "honest", &[]).await;
    let hostile = Lying::new(world, "hostile", &[]).await;
    // A login begun at one is answered at the other's path.
    let (mut user, url) = at_callback(world, &honest.agent.url).await;
    let calls = (honest.liar.token_calls(), hostile.liar.token_calls());
    let mut mixed = url.clone();
    mixed.set_path("/callback/hostile");
    user.open(mixed.as_str())
        .await
        .reply
        .assert_refused(403, "SP_2014", "another provider's path");
    // The answer of one, with the state of a login at the other.
    let (_, of_hostile) = at_callback(world, &hostile.agent.url).await;
    let (mut user, of_honest) = at_callback(world, &honest.agent.url).await;
    let code = of_hostile
        .query_pairs()
        .find(|(key, _)| key == "code")
        .unwrap()
        .1
        .into_owned();
    let iss = of_hostile
        .query_pairs()
        .find(|(key, _)| key == "iss")
        .unwrap()
        .1
        .into_owned();
    let mixed = with(&with(&of_honest, "code", Some(&code)), "iss", Some(&iss));
    user.open(mixed.as_str())
        .await
        .reply
        .assert_refused(403, "SP_2014", "another issuer's answer");
    assert_eq!(
        calls,
        (honest.liar.token_calls(), hostile.liar.token_calls()),
        "a code was sent to a token endpoint"
    );
    // `iss` that was promised and does not come, or is another one, or comes unannounced and differs.
    let iss = |value: &str, promises_iss| Lie {
        callback_iss: Some(value.to_owned()),
        promises_iss,
        ..Lie::default()
    };
    honest
        .assert_refused(
            world,
            iss("", true),
            403,
            &["SP_2014"],
            "promised, and absent",
        )
        .await;
    honest
        .assert_refused(
            world,
            iss("https://elsewhere.test", true),
            403,
            &["SP_2014"],
            "another",
        )
        .await;
    honest
        .assert_refused(
            world,
            iss(&(honest.liar.issuer.clone() + "/"), true),
            403,
            &["SP_2014"],
            "nearly",
        )
        .await;
    let unannounced = Liar::start().await;
    unannounced.lie(iss("", false));
    unannounced.register(&world.edge, "unannounced").await;
    let agent = world.agent("unannounced", &["--oauth=unannounced"]).await;
    let unannounced = Lying {
        liar: unannounced,
        agent,
    };
    unannounced
        .assert_gets_in(world, iss("", false), "not promised, and absent")
        .await;
    unannounced
        .assert_refused(
            world,
            iss("https://elsewhere.test", false),
            403,
            &["SP_2014"],
            "not promised, and another",
        )
        .await;
    // The token's own issuer.
    honest
        .assert_refused(
            world,
            claims(json!({ "iss": hostile.liar.issuer })),
            403,
            &["SP_2013", "SP_2014"],
            "the token's iss",
        )
        .await;
    honest
        .assert_gets_in(world, Lie::default(), "the truth")
        .await;
}

async fn d10_token_for_someone_else(bench: &Bench) {
    let world = &bench.world;
    let lying = Lying::new(world, "dten", &[]).await;
    for (lie, what) in [
        (json!({ "aud": "somebody-else" }), "aud"),
        (json!({ "aud": null }), "no aud"),
        (json!({ "exp": null }), "no exp"),
        (json!({ "exp": 1_000_000_000 }), "expired"),
        (json!({ "sub": null }), "no sub"),
        (
            json!({ "aud": ["liar-client", "other"], "azp": "other" }),
            "azp",
        ),
    ] {
        lying
            .assert_refused(world, claims(lie), 403, &["SP_2013"], what)
            .await;
    }
    lying.assert_gets_in(world, Lie::default(), "ours").await;
}

async fn d11_duplicate_parameter(bench: &Bench) {
    let world = &bench.world;
    let lying = Lying::new(world, "deleven", &[]).await;
    for name in ["state", "code", "iss"] {
        let (mut user, url) = at_callback(world, &lying.agent.url).await;
        let calls = lying.liar.token_calls();
        for second in [
            "b".to_owned(),
            url.query_pairs()
                .find(|(key, _)| key == name)
                .unwrap()
                .1
                .into_owned(),
        ] {
            let mut twice = url.clone();
            twice.query_pairs_mut().append_pair(name, &second);
            let reply = user.open(twice.as_str()).await.reply;
            reply.assert_refused(400, "SP_2009", &format!("{name} twice"));
        }
        assert_eq!(
            lying.liar.token_calls(),
            calls,
            "{name}: something was redeemed"
        );
        // Nothing was spent: the honest answer still counts.
        assert_eq!(user.open(url.as_str()).await.reply.status, 200, "{name}");
    }
    for version in Version::BOTH {
        let reply = Ask::get(
            &world.net,
            "app",
            "/.sallyport/login?return_to=/a&return_to=/b",
        )
        .navigation()
        .send(&world.net, version)
        .await;
        reply.assert_refused(400, "SP_2009", "return_to twice");
    }
}

async fn d12_several_at_signs(bench: &Bench) {
    let world = &bench.world;
    let lying = Lying::new(
        world,
        "dtwelve",
        &[
            "--oauth-allow-domain=company.test",
            "--oauth-allow-email=boss@other.test",
        ],
    )
    .await;
    for email in [
        "x@evil.tld@company.test",
        "\"x@evil.tld\"@company.test",
        "x@company.test@evil.tld",
        "@company.test",
        "x@",
        "x@company.test ",
        "x@company.test\u{0}",
        "x@xcompany.test",
        "x@company.test.evil.tld",
        "x@sub.company.test",
        "boss@other.test,x@evil.tld",
        "b\u{f6}ss@other.test",
        "",
    ] {
        lying
            .assert_refused(
                world,
                claims(json!({ "email": email })),
                403,
                &["SP_2004", "SP_2005", "SP_2013"],
                email,
            )
            .await;
    }
    lying
        .assert_gets_in(
            world,
            claims(json!({ "email": "x@company.test", "sub": "x" })),
            "the domain",
        )
        .await;
    lying
        .assert_gets_in(
            world,
            claims(json!({ "email": "X@COMPANY.TEST", "sub": "X" })),
            "in capitals",
        )
        .await;
    lying
        .assert_gets_in(
            world,
            claims(json!({ "email": "boss@other.test", "sub": "boss" })),
            "the address",
        )
        .await;
}

async fn d13_unverified_email(bench: &Bench) {
    let world = &bench.world;
    let lying = Lying::new(world, "dthirteen", &["--oauth-allow-domain=example.test"]).await;
    for (verified, what) in [
        (json!(false), "false"),
        (json!("false"), "the string false"),
        (json!("true"), "the string true"),
        (json!(1), "a number"),
        (Value::Null, "absent"),
    ] {
        lying
            .assert_refused(
                world,
                claims(json!({ "email_verified": verified })),
                403,
                &["SP_2005", "SP_2013"],
                what,
            )
            .await;
    }
    lying
        .assert_gets_in(world, claims(json!({ "email_verified": true })), "true")
        .await;
}

async fn d14_same_subject_other_issuer(bench: &Bench) {
    let world = &bench.world;
    let one = Lying::new(world, "subjectone", &[]).await;
    let two = Lying::new(world, "subjecttwo", &[]).await;
    let lie = |email: &str| claims(json!({ "sub": "same-subject", "email": email }));
    one.assert_gets_in(world, lie("same@one.test"), "one").await;
    two.assert_gets_in(world, lie("same@one.test"), "two").await;
    let users: Vec<_> = world
        .api
        .users()
        .await
        .into_iter()
        .filter(|user| user["provider_user_id"] == "same-subject")
        .collect();
    assert_eq!(users.len(), 2, "{users:#?}");
    assert_ne!(
        users[0]["identity_provider"]["url"],
        users[1]["identity_provider"]["url"]
    );
    // Revoking one leaves the other alone.
    world
        .api
        .revoke(&format!("/app/users/{}", users[0]["id"].as_str().unwrap()))
        .await;
    assert_eq!(
        world
            .api
            .get(&format!("/app/users/{}", users[1]["id"].as_str().unwrap()))
            .await
            .status,
        200
    );
    let left = world.api.sessions().await;
    assert!(
        left.iter()
            .any(|session| session["application_user"]["id"] == users[1]["id"])
    );
}

async fn d17_provider_error_text(bench: &Bench) {
    let world = &bench.world;
    let lying = Lying::new(world, "dseventeen", &[]).await;
    let text = format!("<script>alert(1)</script>{}", "x".repeat(2000));
    let lie = Lie {
        error: Some(("access_denied".to_owned(), text)),
        ..Lie::default()
    };
    lying
        .assert_refused(
            world,
            lie.clone(),
            403,
            &["SP_2011"],
            "an error of the provider",
        )
        .await;
    lying.liar.lie(lie);
    let (_, reply) = lying.login(world).await;
    assert!(
        !reply.text().contains("<script>alert") && !reply.text().contains("xxxxxxxxxx"),
        "{}",
        reply.text()
    );
    // Its token endpoint in trouble: the login is refused, and nothing of it is written down.
    lying
        .assert_refused(
            world,
            Lie {
                token_status: 500,
                ..Lie::default()
            },
            503,
            &["SP_2012"],
            "a token endpoint in trouble",
        )
        .await;
}
