//! The provider over HTTP, as a browser and a client meet it; its memory with time as an argument.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;
use tokio::net::TcpListener;
use url::{Url, form_urlencoded};

use crate::dev_provider::client::{Client, Redirects};
use crate::dev_provider::ledger::{
    Access, CODE_SECONDS, ENTRIES_MAX, Grant, Ledger, Login, TOKEN_SECONDS,
};
use crate::dev_provider::{Provider, now, people, router};

const REDIRECT: &str = "https://auth.maple.localhost:4443/callback/dev";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// Of the verifier above (RFC 7636, appendix B).
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A provider and a browser that does not follow redirects.
struct World {
    issuer: String,
    http: HttpClient<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
    cookie: Option<String>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The parameters that the browser is sent back with.
    fn returned(&self) -> HashMap<String, String> {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.body);
        let url = Url::parse(self.headers[LOCATION].to_str().unwrap()).unwrap();
        assert!(url.as_str().starts_with(REDIRECT), "{url}");
        url.query_pairs().into_owned().collect()
    }

    fn error(&self) -> String {
        self.returned()["error"].clone()
    }

    fn is_form(&self) -> bool {
        self.status == StatusCode::OK && self.body.contains("name=\"username\"")
    }
}

impl World {
    async fn new() -> Self {
        Self::with(Redirects::ThisMachine).await
    }

    async fn with(redirects: Redirects) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client {
            id: "the client".to_owned(),
            secret: "a+b:c d".to_owned(),
            redirects,
        };
        let provider = Provider::new(listener.local_addr().unwrap(), client).unwrap();
        let issuer = provider.issuer.clone();
        tokio::spawn(async { axum::serve(listener, router(provider)).await });
        Self {
            issuer,
            http: HttpClient::builder(TokioExecutor::new()).build_http(),
            cookie: None,
        }
    }

    async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Answer {
        if let Some(cookie) = &self.cookie {
            request
                .headers_mut()
                .insert(COOKIE, cookie.parse().unwrap());
        }
        let response = self.http.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        if let Some(cookie) = parts.headers.get(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"));
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&mut self, path: &str) -> Answer {
        let request = Request::get(format!("{}{path}", self.issuer));
        self.send(request.body(Full::default()).unwrap()).await
    }

    /// Asks for a login with the usual parameters, some of them replaced (an empty one is left out).
    async fn authorize(&mut self, changes: &[(&str, &str)]) -> Answer {
        self.get(&authorize_path(changes)).await
    }

    /// Asks for a login and sends the form.
    async fn sign_in(&mut self, username: &str, changes: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("username", username)
            .finish();
        let request = Request::post(format!("{}{}", self.issuer, authorize_path(changes)))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(body.into()).unwrap()).await
    }

    /// Redeems a code with the usual parameters, some of them replaced.
    async fn redeem(&mut self, code: &str, changes: &[(&str, &str)]) -> Answer {
        self.redeem_as(Some("the+client:a%2Bb%3Ac+d"), code, changes)
            .await
    }

    async fn redeem_as(
        &mut self,
        basic: Option<&str>,
        code: &str,
        changes: &[(&str, &str)],
    ) -> Answer {
        let usual = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let mut request = Request::post(format!("{}/token", self.issuer))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(pair) = basic {
            request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)));
        }
        self.send(request.body(encode(&usual, changes).into()).unwrap())
            .await
    }

    /// The claims of an ID token, checked as a client would.
    async fn claims(&mut self, token: &Value) -> Value {
        let keys: JwkSet = serde_json::from_str(&self.get("/jwks.json").await.body).unwrap();
        let token = token["id_token"].as_str().unwrap();
        let header = jsonwebtoken::decode_header(token).unwrap();
        let key = keys.find(&header.kid.unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["the client"]);
        validation.set_issuer(&[&self.issuer]);
        let key = DecodingKey::from_jwk(key).unwrap();
        jsonwebtoken::decode(token, &key, &validation)
            .unwrap()
            .claims
    }
}

fn authorize_path(changes: &[(&str, &str)]) -> String {
    let usual = [
        ("response_type", "code"),
        ("client_id", "the client"),
        ("redirect_uri", REDIRECT),
        ("scope", "openid email profile"),
        ("state", "the state"),
        ("nonce", "the nonce"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    format!("/authorize?{}", encode(&usual, changes))
}

fn encode(usual: &[(&str, &str)], changes: &[(&str, &str)]) -> String {
    let mut pairs: Vec<(&str, &str)> = usual.to_vec();
    for change in changes {
        pairs.retain(|(name, _)| name != &change.0);
        pairs.push(*change);
    }
    pairs.retain(|(_, value)| !value.is_empty());
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

#[tokio::test]
async fn a_login_from_discovery_to_userinfo() {
    let mut world = World::new().await;
    let discovered = world.get("/.well-known/openid-configuration").await.json();
    assert_eq!(discovered["issuer"], world.issuer);
    assert_eq!(
        discovered["authorization_response_iss_parameter_supported"],
        true
    );

    assert!(world.authorize(&[]).await.is_form());
    let before = now();
    let back = world.sign_in("ada", &[]).await.returned();
    assert_eq!(back["state"], "the state");
    assert_eq!(back["iss"], world.issuer);

    let tokens = world.redeem(&back["code"], &[]).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
    let tokens = tokens.json();
    let claims = world.claims(&tokens).await;
    assert_eq!(claims["sub"], "ada");
    assert_eq!(claims["nonce"], "the nonce");
    assert_eq!(claims["email"], "ada@example.test");
    assert_eq!(claims["email_verified"], true);
    assert!(claims["auth_time"].as_u64().unwrap() >= before);

    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let request = Request::get(format!("{}/userinfo", world.issuer)).header(AUTHORIZATION, bearer);
    let known = world
        .send(request.body(Full::default()).unwrap())
        .await
        .json();
    assert_eq!(known["sub"], "ada");
    assert_eq!(known["name"], "Ada Example");
    assert_eq!(
        world.get("/userinfo").await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn three_people_and_nobody_else() {
    let mut world = World::new().await;
    for (name, email, is_verified) in [
        ("ada", "ada@example.test", true),
        ("lin", "lin@elsewhere.test", true),
        (" Mal ", "mal@example.test", false),
    ] {
        let back = world.sign_in(name, &[]).await.returned();
        let tokens = world.redeem(&back["code"], &[]).await.json();
        let claims = world.claims(&tokens).await;
        assert_eq!(claims["email"], email);
        assert_eq!(claims["email_verified"], is_verified);
    }
    let answer = world.sign_in("<eve>", &[]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body.contains("role=\"alert\"") && answer.body.contains("&lt;eve&gt;"));
    assert!(!answer.body.contains("<eve>") && !answer.body.contains("value="));
}

#[tokio::test]
async fn scopes_decide_which_claims_there_are() {
    let mut world = World::new().await;
    let back = world
        .sign_in("ada", &[("scope", "openid"), ("nonce", "")])
        .await
        .returned();
    let tokens = world.redeem(&back["code"], &[]).await.json();
    let claims = world.claims(&tokens).await;
    assert!(
        claims.get("email").is_none()
            && claims.get("name").is_none()
            && claims.get("nonce").is_none()
    );
}

#[tokio::test]
async fn the_second_login_is_silent_unless_it_must_not_be() {
    let mut world = World::new().await;
    assert_eq!(
        world.authorize(&[("prompt", "none")]).await.error(),
        "login_required"
    );
    world.sign_in("ada", &[]).await;
    assert!(world.authorize(&[]).await.returned().contains_key("code"));
    assert!(
        world
            .authorize(&[("prompt", "none")])
            .await
            .returned()
            .contains_key("code")
    );
    assert!(
        world
            .authorize(&[("max_age", "600")])
            .await
            .returned()
            .contains_key("code")
    );
    let form = world.authorize(&[("prompt", "login")]).await;
    assert!(form.is_form());
    assert!(
        !form.body.contains("value="),
        "nobody's name is in it already"
    );
    assert!(
        world
            .authorize(&[("prompt", "select_account")])
            .await
            .is_form()
    );
    assert!(world.authorize(&[("max_age", "0")]).await.is_form());
    let both = [("prompt", "none"), ("max_age", "0")];
    assert_eq!(world.authorize(&both).await.error(), "login_required");
    // What was asked for with `prompt=login` is there once the form has been sent.
    let back = world
        .sign_in("lin", &[("prompt", "login"), ("max_age", "0")])
        .await
        .returned();
    let tokens = world.redeem(&back["code"], &[]).await.json();
    assert_eq!(world.claims(&tokens).await["sub"], "lin");

    let request = Request::post(format!("{}/sign-out", world.issuer));
    world.send(request.body(Full::default()).unwrap()).await;
    assert!(world.authorize(&[]).await.is_form());
}

#[tokio::test]
async fn a_request_without_a_known_way_back_goes_nowhere() {
    let mut world = World::new().await;
    for changes in [
        [("client_id", "another")],
        [("client_id", "")],
        [("redirect_uri", "")],
        [("redirect_uri", "https://example.com/callback")],
        [("redirect_uri", "https://localhost.example.com/")],
        [("redirect_uri", "https://a@maple.localhost/")],
        [("redirect_uri", "https://maple.localhost/#x")],
        [("redirect_uri", "javascript://maple.localhost/")],
    ] {
        for answer in [
            world.authorize(&changes).await,
            world.sign_in("ada", &changes).await,
        ] {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{changes:?}");
            assert!(!answer.headers.contains_key(LOCATION));
        }
    }
    let twice = format!("{}&state=again", authorize_path(&[]));
    assert_eq!(world.get(&twice).await.status, StatusCode::BAD_REQUEST);

    let mut strict = World::with(Redirects::new(vec![REDIRECT.to_owned()])).await;
    assert!(strict.authorize(&[]).await.is_form());
    let other = [("redirect_uri", "http://127.0.0.1:1/callback")];
    assert_eq!(
        strict.authorize(&other).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn a_wrong_request_goes_back_with_its_error() {
    let mut world = World::new().await;
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("response_type", "", "invalid_request"),
        ("response_mode", "fragment", "invalid_request"),
        ("scope", "email", "invalid_scope"),
        ("code_challenge", "", "invalid_request"),
        ("code_challenge", "short", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("prompt", "none login", "invalid_request"),
        ("max_age", "soon", "invalid_request"),
        ("request", "x.y.z", "request_not_supported"),
        ("request_uri", "https://x.test", "request_uri_not_supported"),
    ] {
        let back = world.authorize(&[(name, value)]).await.returned();
        assert_eq!(back["error"], error, "{name}={value}");
        assert_eq!(back["state"], "the state");
        assert_eq!(back["iss"], world.issuer);
    }
}

#[tokio::test]
async fn a_code_is_for_one_client_one_place_one_verifier_and_one_time() {
    let mut world = World::new().await;
    for (name, value, error) in [
        (
            "redirect_uri",
            "https://other.maple.localhost/",
            "invalid_grant",
        ),
        ("redirect_uri", "", "invalid_grant"),
        ("code_verifier", "another", "invalid_grant"),
        ("code_verifier", "", "invalid_grant"),
        ("code", "another", "invalid_grant"),
        ("code", "", "invalid_request"),
        ("grant_type", "password", "unsupported_grant_type"),
        ("grant_type", "", "invalid_request"),
        ("client_secret", "a+b:c d", "invalid_request"),
    ] {
        let back = world.sign_in("ada", &[]).await.returned();
        let refused = world.redeem(&back["code"], &[(name, value)]).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{name}={value}");
        assert_eq!(refused.json()["error"], error, "{name}={value}");
    }

    let back = world.sign_in("ada", &[]).await.returned();
    let tokens = world.redeem(&back["code"], &[]).await.json();
    let again = world.redeem(&back["code"], &[]).await;
    assert_eq!(again.json()["error"], "invalid_grant");
    // A code that comes twice was stolen by somebody: what it gave is over.
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let request = Request::get(format!("{}/userinfo", world.issuer)).header(AUTHORIZATION, bearer);
    let known = world.send(request.body(Full::default()).unwrap()).await;
    assert_eq!(known.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_client_proves_itself_either_way() {
    let mut world = World::new().await;
    let code = world.sign_in("ada", &[]).await.returned()["code"].clone();
    for (basic, id, secret) in [
        (None, "", ""),
        (None, "the client", "wrong"),
        (None, "another", "a+b:c d"),
        (Some("the+client:wrong"), "", ""),
        (Some("no colon"), "", ""),
    ] {
        let refused = world
            .redeem_as(
                basic,
                &code,
                &[("client_id", id), ("client_secret", secret)],
            )
            .await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert_eq!(refused.json()["error"], "invalid_client");
    }
    // None of them has spent the code.
    let posted = [("client_id", "the client"), ("client_secret", "a+b:c d")];
    assert_eq!(
        world.redeem_as(None, &code, &posted).await.status,
        StatusCode::OK
    );
}

fn grant() -> Grant {
    let login = Login {
        person: people::find("ada").unwrap(),
        auth_time: 1_000,
    };
    Grant {
        login,
        redirect_uri: REDIRECT.to_owned(),
        challenge: CHALLENGE.to_owned(),
        nonce: None,
        scope: "openid".to_owned(),
    }
}

#[test]
fn codes_and_tokens_end_by_themselves() {
    let redeem =
        |ledger: &Ledger, now, code| ledger.redeem(now, code, "token", |_| Ok::<_, ()>(()));
    let ledger = Ledger::default();
    ledger.issue(1_000, "late".to_owned(), grant());
    assert!(redeem(&ledger, 1_000 + CODE_SECONDS, "late").is_none());
    ledger.issue(1_000, "in time".to_owned(), grant());
    assert!(redeem(&ledger, 1_000 + CODE_SECONDS - 1, "in time").is_some());
    let known = |now| {
        ledger
            .access(now, "token")
            .map(|Access { person, .. }| person.username)
    };
    assert_eq!(known(1_000 + CODE_SECONDS), Some("ada"));
    assert_eq!(known(1_000 + CODE_SECONDS + TOKEN_SECONDS), None);
}

#[test]
fn what_it_remembers_is_bounded() {
    let ledger = Ledger::default();
    ledger.issue(999, "oldest".to_owned(), grant());
    for number in 0..ENTRIES_MAX {
        ledger.issue(1_000, number.to_string(), grant());
    }
    let redeem = |code: &str| ledger.redeem(1_001, code, "token", |_| Ok::<_, ()>(()));
    assert!(redeem("oldest").is_none(), "it made room");
    assert!(
        redeem("0").is_some() && redeem("9999").is_some(),
        "nobody else did"
    );
}

#[test]
fn secrets_are_masked() {
    let client = Client {
        id: "id".to_owned(),
        secret: "hush".to_owned(),
        redirects: Redirects::ThisMachine,
    };
    assert!(!format!("{client:?}").contains("hush"));
    assert_eq!(URL_SAFE_NO_PAD.encode([0; 32]).len(), CHALLENGE.len());
}
