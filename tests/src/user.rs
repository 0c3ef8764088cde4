//! A browser without a screen: cookies, redirects and forms across hosts, as browsers keep the rules
//! that matter to a login (host-only cookies, SameSite, fetch metadata).

pub mod jar;

use std::collections::HashMap;

use url::Url;

use crate::form::{self, Form};
use crate::http::{Ask, Body, Fault, HTML, Reply, Response, Version};
use crate::http1::Connection;
use crate::net::Net;
use jar::Jar;

/// One browser profile of one person.
#[derive(Debug)]
pub struct User {
    net: Net,
    /// What is typed into a login form.
    pub name: String,
    pub jar: Jar,
    pub user_agent: String,
    /// Connections to be used again, by origin.
    idle: HashMap<String, Connection>,
    /// Every URL that was asked for, in order.
    pub trail: Vec<String>,
    /// How many forms were sent: a silent login sends none.
    pub forms_sent: usize,
    /// How often "Sign in again" was pressed.
    pub buttons_pressed: usize,
}

/// Where a visit ended.
#[derive(Debug)]
pub struct Page {
    pub url: Url,
    pub reply: Reply,
}

/// A navigation under way.
#[derive(Clone, Debug)]
struct Step {
    url: Url,
    form: Option<String>,
    /// How the whole chain counts: `none`, `same-origin`, `same-site`, `cross-site`.
    site: &'static str,
    /// The page that the step came from.
    from: Option<Url>,
}

impl User {
    /// A fresh profile.
    pub fn new(net: &Net, name: &str) -> Self {
        Self {
            net: net.clone(),
            name: name.to_owned(),
            jar: Jar::default(),
            user_agent: CHROME.to_owned(),
            idle: HashMap::new(),
            trail: Vec::new(),
            forms_sent: 0,
            buttons_pressed: 0,
        }
    }

    /// Opens a URL as somebody who types it, follows redirects, fills in what a login asks, and gives the
    /// page where that ends.
    pub async fn visit(&mut self, url: &str) -> Page {
        self.walk(url, true, None).await
    }

    /// As [`User::visit`], without filling in forms: the first page that is shown.
    pub async fn open(&mut self, url: &str) -> Page {
        self.walk(url, false, None).await
    }

    /// As [`User::visit`], and stops in front of the first URL that `stop` names (not asked for).
    pub async fn walk_until(&mut self, url: &str, stop: impl Fn(&Url) -> bool + Sync) -> Page {
        self.walk(url, true, Some(&stop)).await
    }

    /// Signs in at an endpoint and checks that the app was reached.
    #[track_caller]
    pub fn sign_in(&mut self, url: &str) -> impl Future<Output = Reply> {
        let caller = std::panic::Location::caller();
        async move {
            let page = self.visit(url).await;
            assert!(
                page.reply.status == 200
                    && page.url.as_str().starts_with(url.trim_end_matches('/')),
                "{caller}: {} did not get in: {} {} after {:#?}\n{}",
                self.name,
                page.url,
                page.reply.status,
                self.trail,
                page.reply.text()
            );
            page.reply
        }
    }

    /// Signs in and stops where the session cookie is set: the app was not asked yet.
    pub async fn sign_in_only(&mut self, url: &str) {
        let origin = Url::parse(url).unwrap().origin();
        let mut handed_over = false;
        let page = self
            .walk(
                url,
                true,
                Some(&|next: &Url| {
                    next.origin() == origin && !next.path().starts_with("/.sallyport/")
                }),
            )
            .await;
        handed_over |= self.session(url).is_some();
        assert!(
            handed_over,
            "{}: no session after {:#?}: {}",
            self.name,
            self.trail,
            page.reply.text()
        );
    }

    /// The session cookie at an endpoint, as a `Cookie` header.
    pub fn session(&self, url: &str) -> Option<String> {
        let url = Url::parse(url).ok()?;
        self.jar
            .value(url.host_str()?, SESSION_COOKIE)
            .map(|value| format!("{SESSION_COOKIE}={value}"))
    }

    /// The same, which must be there.
    #[track_caller]
    pub fn cookie(&self, url: &str) -> String {
        self.session(url)
            .unwrap_or_else(|| panic!("{} has no session at {url}", self.name))
    }

    async fn walk(
        &mut self,
        url: &str,
        fills_in: bool,
        stop: Option<&(dyn Fn(&Url) -> bool + Sync)>,
    ) -> Page {
        let mut step = Step {
            url: Url::parse(url).expect("a URL"),
            form: None,
            site: "none",
            from: None,
        };
        for turn in 0..STEPS_MAX {
            let reply = self.take(&step).await;
            if let Some(next) = self.redirected(&step, &reply) {
                if turn > 0 && stop.is_some_and(|stop| stop(&next.url))
                    || stop
                        .is_some_and(|stop| stop(&next.url) && !same_document(&next.url, &step.url))
                {
                    return Page {
                        url: next.url,
                        reply,
                    };
                }
                step = next;
                continue;
            }
            let next = if fills_in {
                self.filled_in(&step, &reply)
            } else {
                None
            };
            match next {
                Some(next) => {
                    if next.url.path().ends_with("/.sallyport/login") {
                        self.buttons_pressed += 1;
                    } else {
                        self.forms_sent += 1;
                    }
                    step = next;
                }
                None => {
                    return Page {
                        url: step.url,
                        reply,
                    };
                }
            }
        }
        panic!("{}: no end of redirects: {:#?}", self.name, self.trail);
    }

    /// One request of a navigation.
    async fn take(&mut self, step: &Step) -> Reply {
        self.trail.push(step.url.to_string());
        let method = if step.form.is_some() { "POST" } else { "GET" };
        let mut ask = self.ask(method, &step.url).header("accept", HTML);
        ask = ask
            .header("sec-fetch-site", step.site)
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("upgrade-insecure-requests", "1");
        if let Some(form) = &step.form {
            // Our pages say `no-referrer`: then a browser sends this even to itself.
            ask = ask
                .header("origin", "null")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.clone());
        }
        let is_safe = step.form.is_none();
        if let Some(cookies) = self
            .jar
            .header(&step.url, step.site == "cross-site", is_safe)
        {
            ask = ask.cookie(&cookies);
        }
        let reply = self.exchange(&step.url, ask).await;
        self.jar.store(&step.url, &reply);
        reply
    }

    /// A request of this browser's, without cookies yet.
    pub fn ask(&self, method: &str, url: &Url) -> Ask {
        let host = url.host_str().expect("a host").to_owned();
        let port = url.port_or_known_default().expect("a port");
        let mut target = url.path().to_owned();
        if let Some(query) = url.query() {
            target = format!("{target}?{query}");
        }
        Ask {
            method: method.to_owned(),
            authority: format!("{host}:{port}"),
            sni: host,
            target,
            headers: vec![("user-agent".to_owned(), self.user_agent.clone())],
            body: Body::None,
        }
    }

    /// A request by a script of the endpoint's own page: same-origin, with cookies.
    pub async fn fetch(&mut self, method: &str, url: &str) -> Reply {
        let url = Url::parse(url).expect("a URL");
        let mut ask = self
            .ask(method, &url)
            .header("accept", "*/*")
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-mode", "cors");
        if let Some(cookies) = self.jar.header(&url, false, true) {
            ask = ask.cookie(&cookies);
        }
        let reply = self.exchange(&url, ask).await;
        self.jar.store(&url, &reply);
        reply
    }

    async fn exchange(&mut self, url: &Url, ask: Ask) -> Reply {
        let origin = url.origin().ascii_serialization();
        if let Some(connection) = self.idle.remove(&origin)
            && let Ok(reply) = self.over(connection, &origin, &ask).await
        {
            return reply;
        }
        let connection = if url.scheme() == "https" {
            Connection::open(&self.net, &ask.sni)
                .await
                .unwrap_or_else(|error| panic!("{url}: {error}"))
        } else {
            Connection::plain(&ask.authority)
                .await
                .unwrap_or_else(|error| panic!("{url}: {error}"))
        };
        self.over(connection, &origin, &ask)
            .await
            .unwrap_or_else(|fault| panic!("{url}: {fault:?}"))
    }

    async fn over(
        &mut self,
        mut connection: Connection,
        origin: &str,
        ask: &Ask,
    ) -> Result<Reply, Fault> {
        connection.send(ask).await?;
        let mut response = connection.response(&ask.method).await?;
        let (status, headers) = (response.status, response.headers.clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        let closes = crate::http::find(&headers, "connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if response.is_reusable() && !closes {
            self.idle.insert(origin.to_owned(), response.connection);
        }
        Ok(Reply {
            status,
            headers,
            body,
            end: Ok(()),
        })
    }

    fn redirected(&self, step: &Step, reply: &Reply) -> Option<Step> {
        if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let url = step
            .url
            .join(reply.header("location")?)
            .expect("a usable Location");
        // A chain that was ever on another site stays cross-site.
        let site = widest(step.site, self.relation(&step.url, &url));
        let form = if matches!(reply.status, 307 | 308) {
            step.form.clone()
        } else {
            None
        };
        Some(Step {
            url,
            form,
            site,
            from: step.from.clone(),
        })
    }

    /// What a person does with a page of a login: types the name, presses the button.
    fn filled_in(&self, step: &Step, reply: &Reply) -> Option<Step> {
        if !reply
            .header("content-type")
            .is_some_and(|kind| kind.contains("text/html"))
        {
            return None;
        }
        if let Some(again) = form::link(&reply.text(), SIGN_IN_AGAIN) {
            let url = step.url.join(&again).ok()?;
            let site = self.relation(&step.url, &url);
            return Some(Step {
                url,
                form: None,
                site,
                from: Some(step.url.clone()),
            });
        }
        if reply.status != 200 {
            return None;
        }
        let is_app = self.net.domain.as_str() != ""
            && step.url.host_str().is_some_and(|host| {
                host.ends_with(&self.net.domain) && host != self.net.host("auth")
            })
            && !step.url.path().starts_with("/.sallyport/");
        if is_app {
            return None;
        }
        let mut forms = Form::all(&reply.text())
            .into_iter()
            .filter(|form| !form.action.contains("logout"));
        let mut form = forms.next()?;
        for field in ["username", "login"] {
            form.set(field, &self.name);
        }
        form.set("password", "anything");
        let target = if form.action.is_empty() {
            step.url.clone()
        } else {
            step.url.join(&form.action).ok()?
        };
        let site = self.relation(&step.url, &target);
        let (url, body) = if form.method == "POST" {
            (target, Some(form.encoded()))
        } else {
            let mut url = target;
            url.set_query(Some(&form.encoded()));
            (url, None)
        };
        Some(Step {
            url,
            form: body,
            site,
            from: Some(step.url.clone()),
        })
    }

    /// How browsers relate two URLs. The last two labels are a site here: `<word>.localhost`.
    fn relation(&self, from: &Url, to: &Url) -> &'static str {
        if from.origin() == to.origin() {
            return "same-origin";
        }
        let site = |url: &Url| {
            let host = url.host_str().unwrap_or_default().to_owned();
            let is_ours = host.ends_with(&self.net.domain);
            (
                url.scheme().to_owned(),
                if is_ours {
                    self.net.domain.clone()
                } else {
                    host
                },
            )
        };
        if site(from) == site(to) {
            "same-site"
        } else {
            "cross-site"
        }
    }

    /// Opens a response with this browser's cookies and does not read its body.
    pub async fn stream(&self, version: Version, url: &str) -> Result<Response, Fault> {
        let url = Url::parse(url).expect("a URL");
        let mut ask = self
            .ask("GET", &url)
            .header("sec-fetch-site", "same-origin");
        if let Some(cookies) = self.jar.header(&url, false, true) {
            ask = ask.cookie(&cookies);
        }
        ask.open(&self.net, version).await
    }
}

fn same_document(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin() && a.path() == b.path()
}

fn widest(a: &'static str, b: &'static str) -> &'static str {
    let rank = |site| match site {
        "none" => 0,
        "same-origin" => 1,
        "same-site" => 2,
        _ => 3,
    };
    if a == "none" {
        // What somebody typed stays typed until another site takes part.
        return if rank(b) > 2 { b } else { a };
    }
    if rank(a) >= rank(b) { a } else { b }
}

/// The session's cookie.
pub const SESSION_COOKIE: &str = "__Host-sallyport";
/// The button in front of an interactive login.
pub const SIGN_IN_AGAIN: &str = "Sign in again";
const STEPS_MAX: usize = 30;
const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
