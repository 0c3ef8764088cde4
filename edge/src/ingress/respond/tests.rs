//! Errors and answers as HTTP: both forms of each, and nothing from outside that is not text.

use http_body_util::BodyExt;

use super::*;

fn asker(method: &str, pairs: &[(&str, &str)]) -> Asker {
    let mut request = Request::builder().method(method);
    for (name, value) in pairs {
        request = request.header(*name, *value);
    }
    Asker::of(
        RequestId::new(1_795_000_000_000, [1; 14]),
        &request.body(()).unwrap(),
    )
}

async fn body(response: Response<ResponseBody>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

const HTML_ACCEPT: (&str, &str) = ("accept", "text/html,*/*;q=0.8");

/// Every code has a page and a document, each with code, sentence, next step and request id.
#[tokio::test]
async fn every_code_in_both_forms() {
    for code in Code::ALL {
        for asker in [asker("GET", &[HTML_ACCEPT]), asker("GET", &[])] {
            let response = failure(*code, &asker);
            let headers = response.headers();
            assert_eq!(response.status().as_u16(), code.status());
            assert_eq!(headers["sallyport-error"], code.to_string());
            let request_id = asker.request_id.to_string();
            assert_eq!(headers["sallyport-request-id"], request_id);
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(headers["referrer-policy"], "no-referrer");
            let waits = matches!(code.status(), 429 | 503);
            assert_eq!(headers.contains_key("retry-after"), waits);
            assert_eq!(headers.contains_key("allow"), code.status() == 405);
            // A browser asks for a password at Basic, Digest, NTLM and Negotiate.
            let challenge = headers.get("www-authenticate").map(HeaderValue::as_bytes);
            let is_ours = challenge.is_some_and(|text| text.starts_with(b"Sallyport "));
            assert_eq!(is_ours, code.status() == 401);
            assert_eq!(
                headers.contains_key("content-security-policy"),
                asker.wants_page
            );
            let length = headers["content-length"].to_str().unwrap().to_owned();
            let text = body(response).await;
            assert_eq!(text.len().to_string(), length);
            assert!(text.contains(&code.to_string()) && text.contains(&request_id));
            if !asker.wants_page {
                let document: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(document["msg"], code.meaning());
                assert_eq!(document["next_step"], code.next_step());
                assert_eq!(document["status_code"], code.status());
                assert_eq!(document["details"]["operation_id"], request_id);
                assert!(document.get("login_url").is_none());
            }
        }
    }
}

/// The style sheet is in the page byte for byte as its hash in the policy says.
#[tokio::test]
async fn style_matches_its_hash() {
    let response = failure(Code::EndpointOffline, &asker("GET", &[HTML_ACCEPT]));
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    let page = body(response).await;
    let (_, rest) = page.split_once("<style>").unwrap();
    let (style, _) = rest.split_once("</style>").unwrap();
    let hash = STANDARD.encode(secret::sha256(style.as_bytes()));
    assert!(policy.contains(&format!("'sha256-{hash}'")), "{policy}");
    assert!(page.contains("http-equiv=\"refresh\""));
}

/// What comes from outside stays text; a HEAD gets the head alone; only a GET asks again by itself.
#[tokio::test]
async fn escapes_and_forms() {
    let evil = "\"><script>alert(1)</script>";
    let content = Content::SignOut {
        action: evil.to_owned(),
        person: Some(evil.to_owned()),
    };
    let page = body(reply(content.into(), &asker("GET", &[HTML_ACCEPT]))).await;
    assert!(!page.contains("<script"), "{page}");
    let post = asker("POST", &[HTML_ACCEPT]);
    assert!(
        !body(failure(Code::EndpointOffline, &post))
            .await
            .contains("refresh\"")
    );
    let head = failure(Code::EndpointOffline, &asker("HEAD", &[HTML_ACCEPT]));
    assert_ne!(head.headers()["content-length"], "0");
    assert_eq!(body(head).await, "");
}

/// Cookies travel with whatever is answered; a location that is no header is an error, not a split.
#[tokio::test]
async fn redirects_and_cookies() {
    let cookies = vec![
        HeaderValue::from_static("a=1"),
        HeaderValue::from_static("b=2"),
    ];
    let answer = |to: &str| Reply {
        content: Content::Redirect(to.to_owned()),
        cookies: cookies.clone(),
    };
    let response = reply(answer("https://app.example.com/x"), &asker("GET", &[]));
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers()["location"], "https://app.example.com/x");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
    let response = reply(answer("https://x/\r\nSet-Cookie: c=3"), &asker("GET", &[]));
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!response.headers().contains_key("location"));
}
