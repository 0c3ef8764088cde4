//! Two real browsers: somebody signs in and uses the app; an operator finds them, and throws them out.

use serde_json::Value;
use tests::chrome::{Chrome, screenshot, shown, text};
use tests::process::Process;
use tests::require;
use tests::wait;
use tests::world::World;
use thirtyfour::prelude::*;
use tokio::process::Command;

/// A person signs in at the development provider, sees the app and who they are, and the app's WebSocket
/// runs. An operator opens the dashboard in a second browser, finds the person, opens endpoint and context,
/// presses the trash can and confirms. The first browser's WebSocket closes with 1008; its next page asks
/// for a login, and that login is interactive.
#[tokio::test(flavor = "multi_thread")]
async fn thrown_out() {
    let Some(mut chrome) = Chrome::start("thrown_out").await else {
        return;
    };
    let world = World::with_login().await;
    let app = SampleApp::start(&world).await;
    let agent = world.agent_for("app", &app.address, &["--oauth=dev"]).await;
    let pictures = require::artefacts();

    let person = chrome.browser().await;
    person.goto(&agent.url).await.unwrap();
    let name = shown(&person, "input[name=username]").await;
    screenshot(&person, &pictures, "01-provider.png").await;
    name.send_keys("ada").await.unwrap();
    shown(&person, "button[type=submit]")
        .await
        .click()
        .await
        .unwrap();
    text(&person, "#user-email", |text| text == "ada@example.test").await;
    assert!(
        person
            .current_url()
            .await
            .unwrap()
            .as_str()
            .starts_with(&agent.url)
    );
    shown(&person, "#ws-state[data-state=open]").await;
    text(&person, "#clock", |text| text.contains(':')).await;
    screenshot(&person, &pictures, "02-app.png").await;
    // What the browser keeps is out of the page's reach.
    let cookies = person
        .execute("return document.cookie", Vec::<Value>::new())
        .await
        .unwrap();
    assert_eq!(cookies.json(), "");
    person
        .find(By::Css("#upload"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    text(&person, "#upload-result", |text| text.contains("1048576")).await;

    let link = world.edge.cli(&["operator", "link", "--json"]).await.json();
    let operator = chrome.browser().await;
    operator.goto(link["url"].as_str().unwrap()).await.unwrap();
    let row = shown(&operator, "#users .user-row").await;
    assert!(
        operator.current_url().await.unwrap().fragment().is_none(),
        "the code stays in the address"
    );
    assert!(row.text().await.unwrap().contains("ada@example.test"));
    screenshot(&operator, &pictures, "03-users.png").await;
    row.click().await.unwrap();
    let endpoint = shown(&operator, ".endpoint-row").await;
    assert!(
        endpoint
            .text()
            .await
            .unwrap()
            .contains(&world.net.host("app"))
    );
    screenshot(&operator, &pictures, "04-person.png").await;
    endpoint.click().await.unwrap();
    let context = shown(&operator, "#context").await.text().await.unwrap();
    for wanted in ["Chrome", "Linux", "127.0.0.1"] {
        assert!(context.contains(wanted), "{wanted}: {context}");
    }
    screenshot(&operator, &pictures, "05-context.png").await;
    shown(&operator, "#user button.trash")
        .await
        .click()
        .await
        .unwrap();
    let confirm = shown(&operator, "dialog#confirm button.confirm").await;
    screenshot(&operator, &pictures, "06-confirm.png").await;
    confirm.click().await.unwrap();
    let receipt = shown(&operator, "#receipt").await.text().await.unwrap();
    assert!(receipt.contains("1 of 1"), "{receipt}");
    screenshot(&operator, &pictures, "07-receipt.png").await;
    assert!(
        operator
            .find_all(By::Css(".user-row"))
            .await
            .unwrap()
            .is_empty(),
        "the person is still listed"
    );

    shown(&person, "#ws-state[data-state=closed]").await;
    text(&person, "#ws-close-code", |text| text == "1008").await;
    screenshot(&person, &pictures, "08-closed.png").await;
    person.refresh().await.unwrap();
    let again = shown(&person, "#action").await;
    assert_eq!(again.text().await.unwrap(), "Sign in again");
    screenshot(&person, &pictures, "09-sign-in-again.png").await;
    again.click().await.unwrap();
    // It remembers the name; whoever comes may be somebody else.
    let name = shown(&person, "input[name=username]").await;
    name.clear().await.unwrap();
    name.send_keys("ada").await.unwrap();
    screenshot(&person, &pictures, "10-provider-again.png").await;
    shown(&person, "button[type=submit]")
        .await
        .click()
        .await
        .unwrap();
    text(&person, "#user-email", |text| text == "ada@example.test").await;
    person.quit().await.unwrap();
    operator.quit().await.unwrap();
}

/// A page's own WebSocket through the login, over HTTP/1.1 and as the browser likes: text and binary come
/// back as they were sent, and a revocation closes it with 1008 and a reason that the page can read.
#[tokio::test(flavor = "multi_thread")]
async fn a_pages_websocket() {
    let Some(mut chrome) = Chrome::start("a_pages_websocket").await else {
        return;
    };
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    // The second over HTTP/2, as the edge offers it (RFC 8441).
    for (more, who) in [(&["--disable-http2"][..], "ada"), (&[], "lin")] {
        let browser = chrome.browser_with(more).await;
        browser.goto(&format!("{}/any", agent.url)).await.unwrap();
        let name = shown(&browser, "input[name=username]").await;
        name.send_keys(who).await.unwrap();
        let button = shown(&browser, "button[type=submit]").await;
        button.click().await.unwrap();
        text(&browser, "body", |text| text.contains("\"method\":\"GET\"")).await;
        browser
            .execute(OPEN_AND_ECHO, Vec::<Value>::new())
            .await
            .unwrap();
        let state = async |wanted: &str| {
            wait::until(wanted, || async {
                let script = format!("return window.seen.{wanted}");
                let seen = browser.execute(script, Vec::<Value>::new()).await.ok()?;
                (!seen.json().is_null()).then(|| seen.json().clone())
            })
            .await
        };
        assert_eq!(state("text").await, "gr\u{fc}\u{df}e");
        assert_eq!(state("bytes").await, 100_000);
        assert_eq!(state("is_same").await, true);
        let sessions = world.api.sessions().await;
        let id = sessions[0]["id"].as_str().unwrap();
        world.api.revoke(&format!("/app/sessions/{id}")).await;
        assert_eq!(state("code").await, 1008);
        // Over HTTP/2 the stream is reset after the Close, which a browser calls unclean.
        let is_clean = state("is_clean").await;
        assert!(is_clean == true || more.is_empty(), "{more:?}");
        assert_eq!(state("reason").await, "revoked");
        browser.quit().await.unwrap();
    }
}

/// Opens a WebSocket of the page's own origin, sends a text and 100,000 bytes, and notes what comes.
const OPEN_AND_ECHO: &str = r"
    window.seen = {};
    const sent = new Uint8Array(100000).map((_, at) => at * 7);
    const socket = new WebSocket(location.origin.replace('https', 'wss') + '/ws?every=3600000');
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => { socket.send('grüße'); socket.send(sent); };
    socket.onmessage = ({ data }) => {
        if (typeof data === 'string') {
            if (!data.startsWith('tick')) window.seen.text = data;
            return;
        }
        const got = new Uint8Array(data);
        window.seen.bytes = got.length;
        window.seen.is_same = got.every((byte, at) => byte === sent[at]);
    };
    socket.onclose = ({ code, reason, wasClean }) => {
        window.seen.reason = reason;
        window.seen.is_clean = wasClean;
        window.seen.code = code;
    };
";

/// Three tabs of one browser begin a login before any of them finishes: all arrive. The browser keeps the
/// session's cookie as it was meant: for its host alone, out of scripts' reach.
#[tokio::test(flavor = "multi_thread")]
async fn parallel_tabs() {
    let Some(mut chrome) = Chrome::start("parallel_tabs").await else {
        return;
    };
    let world = World::with_login().await;
    let app = SampleApp::start(&world).await;
    let agent = world.agent_for("app", &app.address, &["--oauth=dev"]).await;
    let browser = chrome.browser().await;
    let mut tabs = vec![browser.window().await.unwrap()];
    for _ in 0..2 {
        tabs.push(browser.new_tab().await.unwrap());
    }
    for tab in &tabs {
        browser.switch_to_window(tab.clone()).await.unwrap();
        browser.goto(&agent.url).await.unwrap();
        shown(&browser, "input[name=username]").await;
    }
    for tab in tabs.iter().rev() {
        browser.switch_to_window(tab.clone()).await.unwrap();
        let name = shown(&browser, "input[name=username]").await;
        name.clear().await.unwrap();
        name.send_keys("ada").await.unwrap();
        let button = shown(&browser, "button[type=submit]").await;
        button.click().await.unwrap();
        text(&browser, "#user-email", |text| text == "ada@example.test").await;
    }
    let cookie = browser.get_named_cookie("__Host-sallyport").await.unwrap();
    assert_eq!(cookie.secure, Some(true), "{cookie:?}");
    assert_eq!(cookie.path.as_deref(), Some("/"));
    assert_eq!(
        cookie.domain.as_deref(),
        Some(world.net.host("app").as_str()),
        "for its host alone"
    );
    let seen = browser
        .execute("return document.cookie", Vec::<Value>::new())
        .await
        .unwrap();
    assert_eq!(seen.json(), "");
    browser.quit().await.unwrap();
}

/// The dashboard is used by keyboard alone: a row, the trash can, the question, whose answer "no" changes
/// nothing and whose answer "yes" leads to the receipt, which has the focus.
#[tokio::test(flavor = "multi_thread")]
async fn by_keyboard() {
    let Some(mut chrome) = Chrome::start("by_keyboard").await else {
        return;
    };
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    world.signed_in("lin", &agent.url).await;
    let link = world.edge.cli(&["operator", "link", "--json"]).await.json();
    let operator = chrome.browser().await;
    operator.goto(link["url"].as_str().unwrap()).await.unwrap();
    shown(&operator, ".user-row").await;
    tab_to(&operator, "user-row").await;
    press(&operator, Key::Enter).await;
    shown(&operator, "#user").await;
    tab_to(&operator, "trash").await;
    press(&operator, Key::Enter).await;
    shown(&operator, "dialog#confirm").await;
    press(&operator, Key::Escape).await;
    wait::until("the question is gone", || async {
        let dialog = operator.find(By::Css("dialog#confirm")).await.ok()?;
        (!dialog.is_displayed().await.ok()?).then_some(())
    })
    .await;
    assert_eq!(world.api.sessions().await.len(), 1, "no is no");
    tab_to(&operator, "trash").await;
    press(&operator, Key::Enter).await;
    shown(&operator, "dialog#confirm").await;
    tab_to(&operator, "confirm").await;
    press(&operator, Key::Enter).await;
    shown(&operator, "#receipt").await;
    let focused = operator.active_element().await.unwrap();
    assert_eq!(focused.id().await.unwrap().as_deref(), Some("receipt"));
    assert!(world.api.sessions().await.is_empty());
    operator.quit().await.unwrap();
}

/// The pages of the way in and out, looked at: denied, offline, unknown, signed out; the back button after
/// a log-out shows nothing of the app.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_way() {
    let Some(mut chrome) = Chrome::start("pages_of_the_way").await else {
        return;
    };
    let world = World::with_login().await;
    let app = SampleApp::start(&world).await;
    let agent = world
        .agent_for(
            "app",
            &app.address,
            &["--oauth=dev", "--oauth-allow-domain=example.test"],
        )
        .await;
    let pictures = require::artefacts();
    let browser = chrome.browser().await;
    for (name, code, picture) in [
        ("lin", "SP_2004", "11-not-allowed.png"),
        ("mal", "SP_2005", "12-unverified.png"),
    ] {
        let own = chrome.browser().await;
        own.goto(&agent.url).await.unwrap();
        shown(&own, "input[name=username]")
            .await
            .send_keys(name)
            .await
            .unwrap();
        shown(&own, "button[type=submit]")
            .await
            .click()
            .await
            .unwrap();
        text(&own, "main", |text| text.contains(code)).await;
        screenshot(&own, &pictures, picture).await;
        own.quit().await.unwrap();
    }
    browser.goto(&world.net.url("nobody")).await.unwrap();
    text(&browser, "main", |text| text.contains("SP_1001")).await;
    screenshot(&browser, &pictures, "13-unknown.png").await;
    browser.goto(&agent.url).await.unwrap();
    shown(&browser, "input[name=username]")
        .await
        .send_keys("ada")
        .await
        .unwrap();
    shown(&browser, "button[type=submit]")
        .await
        .click()
        .await
        .unwrap();
    shown(&browser, "#ws-state[data-state=open]").await;
    browser
        .find(By::Css("form[action='/.sallyport/logout'] button"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    text(&browser, "main", |text| text.contains("signed out")).await;
    screenshot(&browser, &pictures, "14-signed-out.png").await;
    browser.back().await.unwrap();
    wait::until("nothing of the app after going back", || async {
        let state = browser
            .find_all(By::Css("#ws-state[data-state=open]"))
            .await
            .ok()?;
        state.is_empty().then_some(())
    })
    .await;
    let mut open = world.agent("open", &[]).await;
    open.process.terminate().await;
    browser.goto(&open.url).await.unwrap();
    text(&browser, "main", |text| text.contains("SP_3001")).await;
    screenshot(&browser, &pictures, "15-offline.png").await;
    browser.quit().await.unwrap();
}

/// The demo's app.
struct SampleApp {
    address: String,
    _process: Process,
}

impl SampleApp {
    async fn start(world: &World) -> Self {
        let mut command = Command::new(require::binary("xtask"));
        command.args(["sample-app", "--json"]);
        let mut process = Process::start(command, "sample-app", &world.logs());
        let ready = process.event_named("ready").await;
        Self {
            address: format!("127.0.0.1:{}", ready["port"]),
            _process: process,
        }
    }
}

/// Presses Tab until the focus is on an element of this class.
async fn tab_to(driver: &WebDriver, class: &str) {
    for _ in 0..40 {
        press(driver, Key::Tab).await;
        let focused = driver.active_element().await.unwrap();
        let classes = focused.class_name().await.unwrap().unwrap_or_default();
        if classes.split_whitespace().any(|one| one == class) {
            return;
        }
    }
    panic!("Tab never reaches .{class}");
}

async fn press(driver: &WebDriver, key: Key) {
    driver
        .action_chain()
        .send_keys(key)
        .perform()
        .await
        .unwrap();
}
