//! An OpenID provider in the test's process that can lie: each lie changes one thing, so that a refusal
//! is for the stated reason.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::jwt::{self, SigningKey};
use crate::world::Edge;

/// A running liar.
#[derive(Debug)]
pub struct Liar {
    pub issuer: String,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    addr: SocketAddr,
    key: SigningKey,
    lie: Mutex<Lie>,
    /// Code → nonce of the login that it answers.
    codes: Mutex<HashMap<String, Option<String>>>,
    token_calls: Mutex<usize>,
}

/// What it says. The default is the truth about `sub`.
#[derive(Clone, Debug)]
pub struct Lie {
    /// Merged over the claims; null takes a claim away.
    pub claims: Value,
    /// `iss` of the callback; empty: none is sent.
    pub callback_iss: Option<String>,
    /// Whether discovery promises `iss` on the callback.
    pub promises_iss: bool,
    /// An ID token without a signature.
    pub is_unsigned: bool,
    /// The callback says this error instead of a code.
    pub error: Option<(String, String)>,
    /// The token endpoint answers this status.
    pub token_status: u16,
    /// Signed with a key that is not published.
    pub has_foreign_key: bool,
    /// Everybody who comes is somebody new.
    pub has_fresh_subjects: bool,
}

impl Default for Lie {
    fn default() -> Self {
        Self {
            claims: json!({}),
            callback_iss: None,
            promises_iss: true,
            is_unsigned: false,
            error: None,
            token_status: 200,
            has_foreign_key: false,
            has_fresh_subjects: false,
        }
    }
}

impl Liar {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let key = tokio::task::spawn_blocking(SigningKey::generate)
            .await
            .expect("no panic");
        let state = Arc::new(State {
            addr,
            key,
            lie: Mutex::default(),
            codes: Mutex::default(),
            token_calls: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move { serve(stream, &state).await });
            }
        });
        Self {
            issuer: format!("http://{addr}"),
            state,
            task,
        }
    }

    /// Registers it under a name.
    pub async fn register(&self, edge: &Edge, name: &str) {
        let arguments = [
            "provider",
            "add",
            name,
            "--issuer",
            &self.issuer,
            "--client-id",
            "liar-client",
            "--client-secret-file",
            "-",
            "--json",
        ];
        edge.cli_with(&arguments, SECRET.as_bytes()).await.json();
    }

    /// What it says from now on.
    pub fn lie(&self, lie: Lie) {
        *self.state.lie.lock().unwrap() = lie;
    }

    /// How often a code was redeemed here.
    pub fn token_calls(&self) -> usize {
        *self.state.token_calls.lock().unwrap()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request per connection.
async fn serve(mut stream: TcpStream, state: &State) {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")
                .map(str::to_owned)
        })
        .and_then(|value| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    while bytes.len() < head_end + length {
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let body = String::from_utf8_lossy(&bytes[head_end..head_end + length]).into_owned();
    let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
    let (status, headers, body) = answer(state, &target, &body);
    let text = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // A peer that is gone by now does not want the answer.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn answer(state: &State, target: &str, body: &str) -> (String, String, String) {
    let issuer = format!("http://{}", state.addr);
    let lie = state.lie.lock().unwrap().clone();
    let json = |value: Value| {
        (
            "200 OK".to_owned(),
            "content-type: application/json\r\n".to_owned(),
            value.to_string(),
        )
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/.well-known/openid-configuration" => json(json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "jwks_uri": format!("{issuer}/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "authorization_response_iss_parameter_supported": lie.promises_iss,
        })),
        "/jwks" => json(json!({ "keys": [state.key.jwk(KID)] })),
        "/authorize" => {
            let parameter = |name: &str| {
                url::form_urlencoded::parse(query.as_bytes())
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.into_owned())
            };
            let mut to = url::Url::parse(&parameter("redirect_uri").unwrap_or_default())
                .expect("a redirect URI");
            {
                let mut pairs = to.query_pairs_mut();
                if let Some((error, text)) = &lie.error {
                    pairs
                        .append_pair("error", error)
                        .append_pair("error_description", text);
                } else {
                    let code = format!("code-{}", uniquely());
                    state
                        .codes
                        .lock()
                        .unwrap()
                        .insert(code.clone(), parameter("nonce"));
                    pairs.append_pair("code", &code);
                }
                pairs.append_pair("state", &parameter("state").unwrap_or_default());
                match &lie.callback_iss {
                    None => {
                        pairs.append_pair("iss", &issuer);
                    }
                    Some(iss) if iss.is_empty() => {}
                    Some(iss) => {
                        pairs.append_pair("iss", iss);
                    }
                }
            }
            (
                "302 Found".to_owned(),
                format!("location: {to}\r\n"),
                String::new(),
            )
        }
        "/token" => {
            *state.token_calls.lock().unwrap() += 1;
            if lie.token_status != 200 {
                return (
                    format!("{} Trouble", lie.token_status),
                    String::new(),
                    String::new(),
                );
            }
            let code = url::form_urlencoded::parse(body.as_bytes())
                .find(|(key, _)| key == "code")
                .map(|(_, value)| value.into_owned());
            let Some(nonce) = code.and_then(|code| state.codes.lock().unwrap().remove(&code))
            else {
                return (
                    "400 Bad Request".to_owned(),
                    "content-type: application/json\r\n".to_owned(),
                    json!({ "error": "invalid_grant" }).to_string(),
                );
            };
            let mut claims = claims(&issuer, nonce.as_deref(), &lie.claims);
            if lie.has_fresh_subjects {
                let subject = format!("person-{}", uniquely());
                claims["email"] = json!(format!("{subject}@example.test"));
                claims["sub"] = json!(subject);
            }
            let token = if lie.is_unsigned {
                jwt::unsigned(&claims)
            } else if lie.has_foreign_key {
                SigningKey::generate().sign(KID, &claims)
            } else {
                state.key.sign(KID, &claims)
            };
            json(
                json!({ "access_token": "opaque", "token_type": "Bearer", "expires_in": 3600, "id_token": token }),
            )
        }
        "/userinfo" => json(claims(&issuer, None, &lie.claims)),
        _ => ("404 Not Found".to_owned(), String::new(), String::new()),
    }
}

fn claims(issuer: &str, nonce: Option<&str>, lies: &Value) -> Value {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    let mut claims = json!({
        "iss": issuer, "aud": "liar-client", "sub": "1", "iat": now, "exp": now + 300, "auth_time": now,
        "email": "one@example.test", "email_verified": true, "name": "One",
    });
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    for (key, value) in lies.as_object().into_iter().flatten() {
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(key);
        } else {
            claims[key] = value.clone();
        }
    }
    claims
}

fn uniquely() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

const KID: &str = "liar-1";
/// Searched for in captured logs.
pub const SECRET: &str = "liar-client-secret-d41d8cd98f";
