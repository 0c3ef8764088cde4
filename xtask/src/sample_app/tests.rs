//! The sample app over HTTP and WebSocket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::sample_app::router;

type Body = BoxBody<Bytes, Infallible>;

struct World {
    addr: SocketAddr,
    http: Client<HttpConnector, Body>,
}

impl World {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router()).await });
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { addr, http }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    async fn send(&self, request: Request<Body>) -> Response<Incoming> {
        timeout(WITHIN, self.http.request(request))
            .await
            .unwrap()
            .unwrap()
    }

    async fn get(&self, path: &str) -> Response<Incoming> {
        self.send(
            Request::get(self.url(path))
                .body(Empty::new().boxed())
                .unwrap(),
        )
        .await
    }
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Reads until so many bytes have come.
async fn first_bytes(response: Response<Incoming>, count: usize) -> String {
    let mut body = response.into_body().into_data_stream();
    let mut all = Vec::new();
    let read = async {
        while all.len() < count {
            all.extend_from_slice(&body.next().await.unwrap().unwrap());
        }
    };
    timeout(WITHIN, read).await.unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn the_page_says_who_you_are_and_is_not_fooled_by_names() {
    let world = World::new().await;
    let page = text(world.get("/").await).await;
    assert!(page.contains("Nobody vouches for you"));

    let request = Request::get(world.url("/"))
        .header("sallyport-user-id", "usr_1")
        .header("sallyport-user-email", "ada@example.test")
        .header("sallyport-user-name", "<b>Ada</b>");
    let page = text(
        world
            .send(request.body(Empty::new().boxed()).unwrap())
            .await,
    )
    .await;
    assert!(page.contains("Sallyport vouches for you"));
    assert!(page.contains("ada@example.test") && page.contains("usr_1"));
    assert!(page.contains("&lt;b&gt;Ada&lt;/b&gt;") && !page.contains("<b>Ada"));
    assert_eq!(world.get("/app.js").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_upload_is_counted() {
    let world = World::new().await;
    let chunks =
        futures_util::stream::iter((0..5).map(|_| Ok(Frame::data(Bytes::from_static(&[7; 1000])))));
    let body = BodyExt::boxed(StreamBody::new(chunks));
    let answer = world
        .send(Request::put(world.url("/upload")).body(body).unwrap())
        .await;
    let answer: Value = serde_json::from_str(&text(answer).await).unwrap();
    assert_eq!(answer["bytes"], 5000);
    assert_eq!(answer["complete"], true);

    let body = Full::new(Bytes::from(vec![0; 3 << 20])).boxed();
    let answer = world
        .send(Request::post(world.url("/upload")).body(body).unwrap())
        .await;
    let answer: Value = serde_json::from_str(&text(answer).await).unwrap();
    assert_eq!(answer["bytes"], 3 << 20, "no limit of a framework applies");
}

#[tokio::test]
async fn headers_come_back_with_their_repeats() {
    let world = World::new().await;
    let request = Request::get(world.url("/headers?x=1"))
        .header("x-one", "1")
        .header("x-one", "2");
    let answer = text(
        world
            .send(request.body(Empty::new().boxed()).unwrap())
            .await,
    )
    .await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["headers"]["x-one"], serde_json::json!(["1", "2"]));
    assert_eq!(answer["target"], "/headers?x=1");
    assert_eq!(answer["method"], "GET");
}

#[tokio::test]
async fn streams_tick_and_never_end() {
    let world = World::new().await;
    let events = world.get("/events").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let events = first_bytes(events, 150).await;
    assert!(events.starts_with("id: 0\ndata: {\"tick\":0,"), "{events}");
    assert!(events.contains("\n\nid: 1\ndata: {\"tick\":1,"), "{events}");

    let slow = world.get("/slow").await;
    assert!(slow.headers().get("content-length").is_none());
    first_bytes(slow, 40_000).await;
}

#[tokio::test]
async fn the_websocket_ticks_and_closes_when_asked() {
    let world = World::new().await;
    let url = format!("ws://{}/ws", world.addr);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for wanted in 0..3 {
        let message = timeout(WITHIN, socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let tick: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(tick["tick"], wanted);
    }
    socket.close(None).await.unwrap();
    let closed = async {
        while let Some(Ok(message)) = socket.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
    };
    timeout(WITHIN, closed).await.unwrap();
}

#[tokio::test]
async fn a_plain_request_to_the_websocket_is_told_so() {
    let world = World::new().await;
    let answer = world.get("/ws").await;
    assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(answer.headers()["upgrade"], "websocket");
}

const WITHIN: Duration = Duration::from_secs(10);
