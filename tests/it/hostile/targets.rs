//! Group C: nobody is sent to another host, by login, log-out or hand-over.

use tests::http::{Ask, Reply, Version};
use url::Url;

use super::{Bench, Case, cases};

pub(super) const CASES: &[Case] = cases![
    c01_scheme_relative,
    c02_slash_backslash,
    c03_suffix_match,
    c04_userinfo,
    c05_parsers_disagree,
    c06_third_party_login_target,
    c07_hand_over_url,
    c08_script_scheme_and_crlf,
    targets_that_are_fine,
];

/// The paths that take a return target, and its parameter.
const TAKERS: [(&str, &str); 4] = [
    ("/.sallyport/login", "return_to"),
    ("/.sallyport/login?again=1", "return_to"),
    ("/.sallyport/logout", "return_to"),
    ("/.sallyport/login", "target_link_uri"),
];

/// As browsers read these, they are paths of the endpoint's own: `https:x` without slashes is relative, and
/// a backslash ends the host.
const MAY_LEAD_HOME: [&str; 3] = [
    "https%3Aevil.tld",
    "https%3A%2Fevil.tld",
    "https%3A%5Cevil.tld",
];

/// Refused, or the own root; and a login that begins with it never ends elsewhere.
async fn assert_target_refused(bench: &Bench, target: &str) {
    let encoded: String = url::form_urlencoded::byte_serialize(target.as_bytes()).collect();
    assert_raw_target_refused(bench, &encoded).await;
}

async fn assert_raw_target_refused(bench: &Bench, encoded: &str) {
    for (path, parameter) in TAKERS {
        let separator = if path.contains('?') { '&' } else { '?' };
        let asked = format!("{path}{separator}{parameter}={encoded}");
        for version in Version::BOTH {
            for is_signed_in in [true, false] {
                let ask = if is_signed_in {
                    bench.signed(&asked)
                } else {
                    bench.ask("app", &asked)
                };
                let reply = bench.send(ask.navigation(), version).await;
                assert_stays(bench, &reply, &asked);
                let leads_home =
                    MAY_LEAD_HOME.contains(&encoded) && matches!(reply.status, 200 | 303);
                if parameter == "return_to" && !leads_home {
                    assert_eq!(
                        (reply.status, reply.code()),
                        (400, "SP_2016"),
                        "{asked}: {}",
                        reply.text()
                    );
                }
            }
        }
    }
}

/// Whatever was answered, it leads nowhere else.
fn assert_stays(bench: &Bench, reply: &Reply, what: &str) {
    let own = Url::parse(&bench.app.url).unwrap();
    if let Some(location) = reply.header("location") {
        let to = own.join(location).unwrap();
        let auth = Url::parse(&bench.world.net.url("auth")).unwrap();
        assert!(
            to.origin() == own.origin() || to.origin() == auth.origin(),
            "{what} leads to {to}"
        );
    }
    assert!(
        !reply.text().contains("//evil.tld"),
        "{what}: the page names it"
    );
}

async fn c01_scheme_relative(bench: &Bench) {
    for target in [
        "//evil.tld",
        "///evil.tld",
        "////evil.tld/x",
        "https:evil.tld",
        "https:/evil.tld",
        "https:///evil.tld",
    ] {
        assert_target_refused(bench, target).await;
    }
    // As the request's own path: the login that it begins comes back to the endpoint.
    let reply = bench
        .send(bench.ask("app", "//evil.tld/x").navigation(), Version::H1)
        .await;
    assert_eq!(reply.status, 303);
    let mut lin = bench.world.user("lin");
    let page = lin.visit(&format!("{}//evil.tld/x", bench.app.url)).await;
    assert_eq!(
        page.url.origin(),
        Url::parse(&bench.app.url).unwrap().origin(),
        "{:#?}",
        lin.trail
    );
}

async fn c02_slash_backslash(bench: &Bench) {
    for target in [
        "/\\evil.tld",
        "\\\\evil.tld",
        "/\\/evil.tld",
        "\\/evil.tld",
        "/\t/evil.tld",
        "/\n/evil.tld",
        " //evil.tld",
    ] {
        assert_target_refused(bench, target).await;
    }
}

async fn c03_suffix_match(bench: &Bench) {
    let domain = &bench.world.net.domain;
    let port = bench.world.net.addr.port();
    let app = bench.world.net.host("app");
    for target in [
        format!("https://bad{domain}:{port}/"),
        format!("https://x{app}:{port}/"),
        format!("https://{app}.evil.tld:{port}/"),
        format!("https://evil.tld/{app}"),
        format!("https://open.{domain}:{port}/"),
        format!("https://{domain}:{port}/"),
        format!("https://{app}:{}/", port ^ 1),
        format!("http://{app}:{port}/"),
    ] {
        assert_target_refused(bench, &target).await;
    }
}

async fn c04_userinfo(bench: &Bench) {
    let app = bench.ask("app", "/").authority;
    for target in [
        format!("https://{app}@evil.tld"),
        format!("https://{app}%40evil.tld"),
        format!("https://user@{app}/"),
        format!("https://user:pass@{app}/"),
        format!("https://evil.tld#@{app}/"),
        format!("https://evil.tld?@{app}/"),
    ] {
        assert_target_refused(bench, &target).await;
    }
}

async fn c05_parsers_disagree(bench: &Bench) {
    let app = bench.ask("app", "/").authority;
    for target in [
        format!("https://evil.tld\\@{app}/"),
        format!("https:\\\\evil.tld\\.{app}"),
        format!("https://evil.tld\\.{app}/"),
        "https:\\evil.tld".to_owned(),
        format!("https://evil.tld%23.{app}/"),
        format!("https://evil.tld%2f.{app}/"),
    ] {
        assert_target_refused(bench, &target).await;
    }
}

async fn c06_third_party_login_target(bench: &Bench) {
    let asked = "/.sallyport/login?iss=https%3A%2F%2Fidp.evil.tld&login_hint=x&target_link_uri=https%3A%2F%2Fevil.tld";
    let mut lin = bench.world.user("lin");
    let page = lin.visit(&format!("{}{asked}", bench.app.url)).await;
    assert_eq!(
        page.url.origin(),
        Url::parse(&bench.app.url).unwrap().origin(),
        "{:#?}",
        lin.trail
    );
    let issuer = &bench.world.dev.as_ref().unwrap().issuer;
    let foreign = lin
        .trail
        .iter()
        .filter(|url| !url.contains(&bench.world.net.domain) && !url.starts_with(issuer.as_str()))
        .count();
    assert_eq!(foreign, 0, "{:#?}", lin.trail);
}

async fn c07_hand_over_url(bench: &Bench) {
    let world = &bench.world;
    let second = world.login_agent("second").await;
    // A login that stops in front of its hand-over.
    let is_hand_over = |url: &Url| url.path() == "/.sallyport/callback";
    let stopped = async |person: &str| {
        let mut user = world.user(person);
        let page = user.walk_until(&bench.app.url, is_hand_over).await;
        assert!(is_hand_over(&page.url), "{:#?}", user.trail);
        (user, page.url)
    };
    let asked = |url: &Url| format!("{}?{}", url.path(), url.query().unwrap());
    let refused = |reply: &Reply, what: &str| {
        reply.assert_refused(403, "SP_2017", what);
        assert!(
            reply
                .all("set-cookie")
                .all(|cookie| !cookie.starts_with("__Host-sallyport=")),
            "{what}"
        );
    };

    // Opened in another browser: refused, and spent.
    let (mut victim, url) = stopped("lin").await;
    let mut thief = world.user("thief");
    let page = thief.open(url.as_str()).await;
    refused(&page.reply, "another browser");
    assert!(thief.session(&bench.app.url).is_none());
    refused(&victim.open(url.as_str()).await.reply, "after the theft");
    assert!(victim.session(&bench.app.url).is_none());

    // At another endpoint.
    let (lin, url) = stopped("lin").await;
    let cookies = lin.jar.header(&url, false, true).unwrap();
    let reply = Ask::get(&world.net, &second.label, &asked(&url))
        .cookie(&cookies)
        .navigation()
        .send(&world.net, Version::H1)
        .await;
    refused(&reply, "another endpoint");

    // Twice.
    let (mut lin, url) = stopped("lin").await;
    let cookies = lin.jar.header(&url, false, true).unwrap();
    assert_eq!(lin.open(url.as_str()).await.reply.status, 200);
    for version in Version::BOTH {
        let reply = Ask::get(&world.net, "app", &asked(&url))
            .cookie(&cookies)
            .navigation()
            .send(&world.net, version)
            .await;
        refused(&reply, "replayed");
    }
    // Made up, mangled, missing.
    for query in [
        "code=made-up",
        "code=",
        &format!("code={}", "A".repeat(43)),
        &format!("code={}", "x".repeat(5000)),
    ] {
        let reply = Ask::get(&world.net, "app", &format!("/.sallyport/callback?{query}"))
            .navigation()
            .send(&world.net, Version::H1)
            .await;
        assert!(
            matches!(
                (reply.status, reply.code()),
                (403, "SP_2017") | (400, "SP_2010")
            ),
            "{query}: {}",
            reply.text()
        );
    }
    let reply = Ask::get(&world.net, "app", "/.sallyport/callback")
        .navigation()
        .send(&world.net, Version::H1)
        .await;
    assert_eq!((reply.status, reply.code()), (400, "SP_2010"));
    // No code was written down.
    let code = url
        .query_pairs()
        .find(|(key, _)| key == "code")
        .unwrap()
        .1
        .into_owned();
    assert!(
        !world.edge.log().contains(&code),
        "a hand-over code stands in the log"
    );
}

async fn c08_script_scheme_and_crlf(bench: &Bench) {
    for target in [
        "javascript:alert(1)",
        "JAVASCRIPT:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "java\tscript:alert(1)",
        "file:///etc/passwd",
        "about:blank",
    ] {
        assert_target_refused(bench, target).await;
    }
    for encoded in [
        "%0d%0aSet-Cookie:%20x=1",
        "/%0d%0aSet-Cookie:%20x=1",
        "/x%0aLocation:%20https://evil.tld",
        "/%00",
    ] {
        assert_raw_target_refused(bench, encoded).await;
    }
    // Still encoded when it was decoded once: text of a path, and no header.
    for version in Version::BOTH {
        let reply = bench
            .send(
                bench
                    .signed("/.sallyport/login?return_to=/%250d%250aSet-Cookie:x=1")
                    .navigation(),
                version,
            )
            .await;
        assert_eq!(reply.header("set-cookie"), None);
        assert_stays(bench, &reply, "twice encoded");
    }
}

/// The other side of the rule: what is on the endpoint is reached.
async fn targets_that_are_fine(bench: &Bench) {
    for (target, arrives) in [
        ("/x?y=1#z", "/x?y=1#z"),
        ("x", "/x"),
        ("/a/../b", "/b"),
        ("?q", "/?q"),
        ("", "/"),
        (&format!("{}/deep/er", bench.app.url), "/deep/er"),
    ] {
        let encoded: String = url::form_urlencoded::byte_serialize(target.as_bytes()).collect();
        let reply = bench
            .send(
                bench
                    .signed(&format!("/.sallyport/login?return_to={encoded}"))
                    .navigation(),
                Version::H1,
            )
            .await;
        assert_eq!(reply.status, 303, "{target}: {}", reply.text());
        let to = Url::parse(&bench.app.url)
            .unwrap()
            .join(reply.header("location").unwrap())
            .unwrap();
        assert_eq!(
            to,
            Url::parse(&bench.app.url).unwrap().join(arrives).unwrap(),
            "{target}"
        );
    }
}
