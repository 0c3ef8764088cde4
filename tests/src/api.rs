//! The operator's side: the REST API, as its clients call it.

use serde_json::{Value, json};

use crate::http::{Ask, Reply, Version};
use crate::net::Net;

/// A client with a key.
#[derive(Clone, Debug)]
pub struct Api {
    net: Net,
    pub key: String,
}

impl Api {
    pub fn new(net: &Net, key: &str) -> Self {
        Self {
            net: net.clone(),
            key: key.to_owned(),
        }
    }

    /// A request with key and version.
    pub fn ask(&self, method: &str, target: &str) -> Ask {
        self.bare(method, target)
            .header("authorization", &format!("Bearer {}", self.key))
            .header("ngrok-version", "2")
    }

    /// A request without either.
    pub fn bare(&self, method: &str, target: &str) -> Ask {
        Ask::get(&self.net, "api", target).method(method)
    }

    pub async fn send(&self, ask: Ask) -> Reply {
        ask.send(&self.net, Version::H1).await
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.send(self.ask("GET", target)).await
    }

    /// GET that must answer 200.
    pub async fn json(&self, target: &str) -> Value {
        let reply = self.get(target).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        reply.json()
    }

    pub async fn delete(&self, target: &str) -> Reply {
        self.send(self.ask("DELETE", target)).await
    }

    /// DELETE that must answer 204; gives the receipt that it names.
    pub async fn revoke(&self, target: &str) -> Value {
        let reply = self.delete(target).await;
        assert_eq!(reply.status, 204, "{target}: {}", reply.text());
        assert!(reply.body.is_empty());
        self.receipt(&reply).await
    }

    /// The receipt that a DELETE's answer names.
    pub async fn receipt(&self, reply: &Reply) -> Value {
        let url = reply
            .header("sallyport-receipt")
            .expect("a DELETE names its receipt")
            .to_owned();
        let base = self.net.url("api");
        let target = url
            .strip_prefix(&base)
            .unwrap_or_else(|| panic!("{url} is not under {base}"));
        self.json(target).await
    }

    /// `POST /app/revocations`.
    pub async fn revocation(&self, scope: &Value, reason: &str) -> Reply {
        let body = json!({ "scope": scope, "reason": reason }).to_string();
        self.send(
            self.ask("POST", "/app/revocations")
                .header("content-type", "application/json")
                .body(body),
        )
        .await
    }

    /// All sessions, over all pages.
    pub async fn sessions(&self) -> Vec<Value> {
        self.all("/app/sessions", "application_sessions").await
    }

    /// All users, over all pages.
    pub async fn users(&self) -> Vec<Value> {
        self.all("/app/users", "application_users").await
    }

    async fn all(&self, path: &str, plural: &str) -> Vec<Value> {
        let base = self.net.url("api");
        let mut rows = Vec::new();
        let mut target = path.to_owned();
        loop {
            let page = self.json(&target).await;
            rows.extend(page[plural].as_array().expect("a list").iter().cloned());
            match page["next_page_uri"].as_str() {
                None => return rows,
                Some(next) => next
                    .strip_prefix(&base)
                    .expect("absolute, on the API's host")
                    .clone_into(&mut target),
            }
        }
    }

    /// The session that a cookie belongs to: the newest of the user with this e-mail.
    pub async fn newest_session_of(&self, email: &str) -> Value {
        let user = self.user(email).await;
        self.sessions()
            .await
            .into_iter()
            .find(|session| session["application_user"]["id"] == user["id"])
            .unwrap_or_else(|| panic!("no session of {email}"))
    }

    /// The user with this e-mail.
    pub async fn user(&self, email: &str) -> Value {
        let users = self.users().await;
        users
            .iter()
            .find(|user| user["email"] == email)
            .cloned()
            .unwrap_or_else(|| panic!("no user {email} in {users:#?}"))
    }
}
