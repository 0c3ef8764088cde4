//! An operator's browser: signs in with a one-time link and posts the dashboard's forms.

use crate::form::Form;
use crate::http::{Ask, Reply, Version};
use crate::net::Net;
use crate::user::jar::Jar;
use crate::world::World;

/// A browser at the dashboard.
#[derive(Debug)]
pub struct Operator {
    net: Net,
    pub jar: Jar,
}

impl Operator {
    /// Without a sign-in.
    pub fn stranger(net: &Net) -> Self {
        Self {
            net: net.clone(),
            jar: Jar::default(),
        }
    }

    /// Signed in with a fresh link.
    pub async fn sign_in(world: &World) -> Self {
        let mut operator = Self::stranger(&world.net);
        let reply = operator.spend(&link_code(world).await).await;
        assert_eq!(reply.status, 303, "{}", reply.text());
        operator
    }

    /// Posts a code, as the sign-in page does.
    pub async fn spend(&mut self, code: &str) -> Reply {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("code", code)
            .finish();
        self.post("/sign-in", body).await
    }

    pub async fn get(&mut self, target: &str) -> Reply {
        let ask = Ask::get(&self.net, "dashboard", target).navigation();
        self.send(ask).await
    }

    /// Posts a form from the dashboard's own page.
    pub async fn post(&mut self, target: &str, body: String) -> Reply {
        let ask = Ask::get(&self.net, "dashboard", target)
            .method("POST")
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        self.send(ask).await
    }

    /// Sends the form of a page whose action is `action`.
    pub async fn submit(&mut self, page: &Reply, action: &str) -> Reply {
        let form = Form::all(&page.text())
            .into_iter()
            .find(|form| form.action == action && form.method == "POST")
            .unwrap_or_else(|| panic!("no form to {action} in {}", page.text()));
        self.post(action, form.encoded()).await
    }

    /// Sends a request with this browser's cookies.
    pub async fn send(&mut self, ask: Ask) -> Reply {
        let url = url::Url::parse(&format!("{}{}", self.net.url("dashboard"), ask.target))
            .expect("a URL");
        let ask = match self.jar.header(&url, false, true) {
            Some(cookies) => ask.cookie(&cookies),
            None => ask,
        };
        let reply = ask.send(&self.net, Version::H1).await;
        self.jar.store(&url, &reply);
        reply
    }
}

/// The code of a fresh link.
pub async fn link_code(world: &World) -> String {
    let link = world.edge.cli(&["operator", "link", "--json"]).await.json();
    let url = link["url"].as_str().expect("a URL").to_owned();
    let (page, code) = url.split_once('#').expect("the code is in the fragment");
    assert_eq!(page, format!("{}/sign-in", world.net.url("dashboard")));
    code.to_owned()
}
