//! The dashboard as a browser sees it: sign-in, pages, confirm, receipt.

use super::*;

/// A signed-in browser.
struct Browsing<'a> {
    world: &'a World,
    cookie: String,
}

impl World {
    async fn operator(&self) -> Browsing<'_> {
        let link = self
            .socket(Method::POST, "/operator-links", "{}")
            .await
            .json();
        let link = link["url"].as_str().unwrap();
        let (page, code) = link.split_once('#').unwrap();
        assert_eq!(page, "https://dashboard.otter.localhost:8443/sign-in");
        let answer = self.spend(code).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("location")),
            (303, "/")
        );
        let cookie = answer.header("set-cookie");
        for attribute in [
            "; Path=/",
            "; Secure",
            "; HttpOnly",
            "; SameSite=Strict",
            "; Max-Age=43200",
        ] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert!(cookie.starts_with("__Host-sallyport-operator=") && !cookie.contains("Domain"));
        let cookie = cookie.split(';').next().unwrap().to_owned();
        // A link works once.
        assert_eq!(
            self.spend(code).await.refusal(),
            (403, "SP_2102".to_owned())
        );
        Browsing {
            world: self,
            cookie,
        }
    }

    async fn spend(&self, code: &str) -> Answer {
        let request = Request::post("/sign-in")
            .header("sec-fetch-site", "same-origin")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(format!("code={code}")))
            .unwrap();
        ask(self.admin.dashboard(), request).await
    }
}

impl Browsing<'_> {
    async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path)
            .header(COOKIE, &self.cookie)
            .header("accept", "text/html")
            .body(Body::empty())
            .unwrap();
        ask(self.world.admin.dashboard(), request).await
    }

    async fn post(&self, path: &str, form: &str) -> Answer {
        let request = Request::post(path)
            .header(COOKIE, &self.cookie)
            .header("sec-fetch-site", "same-origin")
            .body(Body::from(form.to_owned()))
            .unwrap();
        ask(self.world.admin.dashboard(), request).await
    }

    async fn csrf(&self) -> String {
        let page = self.get("/").await.text;
        let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

/// The way of the issue: list, person, endpoint with its context, trash can, confirm, receipt.
#[tokio::test]
async fn from_the_list_to_the_receipt() {
    let world = World::new().await;
    let endpoint = world.endpoint("app").await;
    world.online.lock().unwrap().push(endpoint);
    let (user, session) = world.sign_in("<script>alert(1)</script>", endpoint).await;
    let (other, _) = world.sign_in("lin", endpoint).await;
    let browsing = world.operator().await;
    let list = browsing.get("/").await;
    assert_eq!(list.status, 200);
    assert!(
        list.header("content-security-policy")
            .starts_with("default-src 'none'; script-src 'self'")
    );
    assert!(
        list.text.contains(&format!("data-user=\"{user}\""))
            && list.text.contains(&format!("data-user=\"{other}\""))
    );
    assert!(list.text.contains("Google") && list.text.contains("just now"));
    // Whatever a provider says is text.
    assert!(
        !list.text.contains("<script>alert") && list.text.contains("&#60;script&#62;alert"),
        "{}",
        list.text
    );

    let person = browsing.get(&format!("/users/{user}")).await.text;
    for part in [
        "Identity provider",
        "https://accounts.google.com",
        "Basic information",
        "Endpoints accessed",
        "app.otter.localhost:8443",
        "agent connected",
    ] {
        assert!(person.contains(part), "{part}");
    }
    let context = browsing
        .get(&format!("/users/{user}/sessions/{session}"))
        .await
        .text;
    for part in [
        "Desktop",
        "Firefox 140",
        "203.0.113.7",
        "London, GB",
        "51.5000, -0.1200 ± 100 km",
        "Example Net",
        "Mozilla/5.0 &#60;b&#62;",
    ] {
        assert!(context.contains(part), "{part}");
    }
    // Without script the trash can leads to a page that asks.
    let action = format!("/users/{user}/sessions/{session}/revoke");
    let question = browsing.get(&action).await.text;
    assert!(
        question.contains(&format!("action=\"{action}\""))
            && question.contains("id=\"confirm\"")
            && question.contains(" open>")
    );

    let csrf = browsing.csrf().await;
    let done = browsing
        .post(&action, &format!("csrf={csrf}&reason=lost+laptop"))
        .await;
    assert_eq!(done.status, 303, "{}", done.text);
    let location = done.header("location").to_owned();
    assert!(
        location.starts_with(&format!("/users/{user}?receipt=rcpt_")),
        "{location}"
    );
    let receipt = browsing.get(&location).await.text;
    assert!(
        receipt.contains("id=\"receipt\"")
            && receipt.contains("Edges acknowledged")
            && receipt.contains("No live session")
    );
    assert!(!receipt.contains(&format!("data-session=\"{session}\"")));
    assert!(
        world
            .store
            .session(session, Clock.now())
            .await
            .unwrap()
            .is_none()
    );

    // Deleting the person: gone from the list.
    let done = browsing
        .post(&format!("/users/{user}/delete"), &format!("csrf={csrf}"))
        .await;
    assert!(
        done.header("location").starts_with("/?receipt=rcpt_"),
        "{}",
        done.text
    );
    let list = browsing.get(done.header("location")).await.text;
    assert!(list.contains("id=\"receipt\"") && !list.contains(&format!("data-user=\"{user}\"")));
    assert_eq!(browsing.get(&format!("/users/{user}")).await.status, 404);

    // Ending all sessions of the other: still listed.
    let done = browsing
        .post(&format!("/users/{other}/end"), &format!("csrf={csrf}"))
        .await;
    let page = browsing.get(done.header("location")).await.text;
    assert!(page.contains(&format!("data-user=\"{other}\"")) && page.contains("No live session"));
}

/// A form without this sign-in's token does nothing, wherever it came from.
#[tokio::test]
async fn forms_carry_the_sign_ins_token() {
    let world = World::new().await;
    let endpoint = world.endpoint("app").await;
    let (user, session) = world.sign_in("ada", endpoint).await;
    let browsing = world.operator().await;
    let another = world.operator().await.csrf().await;
    assert_ne!(another, browsing.csrf().await);
    for form in [
        "",
        "csrf=",
        "csrf=x",
        &format!("csrf={another}"),
        &format!("reason=csrf&csrf={another}"),
    ] {
        let answer = browsing.post(&format!("/users/{user}/delete"), form).await;
        assert_eq!(answer.refusal(), (403, "SP_2111".to_owned()), "{form}");
    }
    assert!(
        world
            .store
            .session(session, Clock.now())
            .await
            .unwrap()
            .is_some()
    );
    let large = format!(
        "csrf={}&reason={}",
        browsing.csrf().await,
        "x".repeat(70_000)
    );
    assert_eq!(
        browsing
            .post(&format!("/users/{user}/delete"), &large)
            .await
            .refusal()
            .0,
        413
    );
}

/// Signing out ends the sign-in on the edge, not only in the browser.
#[tokio::test]
async fn sign_out() {
    let world = World::new().await;
    let browsing = world.operator().await;
    let csrf = browsing.csrf().await;
    let answer = browsing.post("/sign-out", &format!("csrf={csrf}")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/sign-in")
    );
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    let page = browsing.get("/").await;
    assert_eq!(page.status, 401);
    assert!(page.text.contains("edge operator link") && page.text.contains("SP_2101"));
}

/// An empty edge says what to do next; an edge without places says how to get them.
#[tokio::test]
async fn empty_states_say_what_to_do() {
    let world = World::placed(false).await;
    let browsing = world.operator().await;
    let page = browsing.get("/").await.text;
    assert!(
        page.contains("Nobody is signed in") && page.contains("edge provider add google"),
        "{page}"
    );
    let sign_in = ask(
        world.admin.dashboard(),
        Request::get("/sign-in").body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(sign_in.status, 200);
    assert!(sign_in.text.contains("edge operator link") && sign_in.text.contains("<noscript>"));
    for (path, kind) in [
        ("/assets/dashboard.css", "text/css"),
        ("/assets/dashboard.js", "text/javascript"),
    ] {
        let asset = ask(
            world.admin.dashboard(),
            Request::get(path).body(Body::empty()).unwrap(),
        )
        .await;
        assert!(
            asset.status == 200 && asset.header("content-type").starts_with(kind),
            "{path}"
        );
    }
}

/// Long lists have pages; the list stays where it is while a person is open.
#[tokio::test]
async fn the_list_is_paged() {
    let world = World::new().await;
    let endpoint = world.endpoint("app").await;
    for number in 0..27 {
        world.sign_in(&format!("user{number}"), endpoint).await;
    }
    let browsing = world.operator().await;
    let first = browsing.get("/").await.text;
    assert_eq!(first.matches("class=\"user-row\"").count(), 25);
    let (_, rest) = first.split_once("href=\"/?before=").unwrap();
    let before = rest.split('"').next().unwrap();
    let second = browsing.get(&format!("/?before={before}")).await.text;
    assert_eq!(second.matches("class=\"user-row\"").count(), 2);
    assert!(second.contains(&format!("?before={before}")) && second.contains("Newest"));
    assert_eq!(
        browsing
            .get("/?before=nonsense&receipt=nonsense")
            .await
            .status,
        200
    );
}
