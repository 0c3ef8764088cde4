//! A small OIDC issuer on loopback: discovery, keys, and a token endpoint that knows the codes which
//! a test's browser was given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::{Url, form_urlencoded};

/// An issuer. It ends when dropped.
pub(super) struct Issuer {
    pub(super) url: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    url: String,
    key: Ed25519KeyPair,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    codes: HashMap<String, Grant>,
    token_calls: usize,
}

struct Grant {
    nonce: String,
    person: Value,
    auth_time: i64,
}

impl Issuer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            url: url.clone(),
            key: Ed25519KeyPair::generate().unwrap(),
            state: Mutex::default(),
        });
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(answer(Arc::clone(&shared), stream));
                }
            }
        });
        Self { url, shared, task }
    }

    /// What happens in a browser at the authorize address: the person is known here, and proves
    /// themselves again only when asked to. Gives the callback's address.
    pub(super) fn authorize(&self, url: &Url, person: &str) -> Url {
        let asked: HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["code_challenge_method"], "S256");
        let is_anew = asked.get("prompt").is_some_and(|prompt| prompt == "login");
        let now = crate::clock::Clock.now().as_second();
        let mut state = self.shared.state.lock().unwrap();
        let code = format!("code-{}", state.codes.len());
        let grant = Grant {
            nonce: asked["nonce"].clone(),
            person: claims_of(person),
            auth_time: if is_anew { now } else { now - 3600 },
        };
        state.codes.insert(code.clone(), grant);
        let mut back = Url::parse(&asked["redirect_uri"]).unwrap();
        back.query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", &asked["state"])
            .append_pair("iss", &self.url);
        back
    }

    /// How often a code was redeemed, or tried to.
    pub(super) fn token_calls(&self) -> usize {
        self.shared.state.lock().unwrap().token_calls
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn claims_of(person: &str) -> Value {
    json!({
        "sub": person,
        "email": format!("{person}@example.test"),
        "email_verified": person != "mal",
        "name": person,
    })
}

async fn answer(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut read = Vec::new();
    let (head, body) = loop {
        if let Some(whole) = split(&read) {
            break whole;
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let path = head.split(' ').nth(1).unwrap_or_default();
    let document = shared.document(path, &body).to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{document}",
        document.len(),
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn split(read: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(read).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    let length: usize = length.map_or(0, |value| value.trim().parse().unwrap());
    (body.len() >= length).then(|| (head.to_owned(), body.to_owned()))
}

impl Shared {
    fn document(&self, path: &str, body: &str) -> Value {
        let url = &self.url;
        match path {
            "/.well-known/openid-configuration" => json!({
                "issuer": url,
                "authorization_endpoint": format!("{url}/authorize"),
                "token_endpoint": format!("{url}/token"),
                "jwks_uri": format!("{url}/jwks"),
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["EdDSA"],
                "authorization_response_iss_parameter_supported": true,
            }),
            "/jwks" => json!({"keys": [{
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "k1",
                "x": encode(self.key.public_key().as_ref()),
            }]}),
            "/token" => self.token(body),
            _ => json!({}),
        }
    }

    fn token(&self, body: &str) -> Value {
        let mut state = self.state.lock().unwrap();
        state.token_calls += 1;
        let form: HashMap<_, _> = form_urlencoded::parse(body.as_bytes())
            .into_owned()
            .collect();
        assert!(form.contains_key("code_verifier"), "PKCE");
        let Some(grant) = state.codes.remove(&form["code"]) else {
            return json!({"error": "invalid_grant"});
        };
        let now = crate::clock::Clock.now().as_second();
        let mut claims = grant.person;
        for (name, value) in [
            ("iss", json!(self.url)),
            ("aud", json!("client")),
            ("nonce", json!(grant.nonce)),
            ("auth_time", json!(grant.auth_time)),
            ("iat", json!(now)),
            ("exp", json!(now + 300)),
        ] {
            claims[name] = value;
        }
        let header = json!({"alg": "EdDSA", "kid": "k1", "typ": "JWT"});
        let signed = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let signature = encode(self.key.sign(signed.as_bytes()).as_ref());
        json!({
            "access_token": "access-t0ken",
            "token_type": "Bearer",
            "id_token": format!("{signed}.{signature}"),
        })
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
