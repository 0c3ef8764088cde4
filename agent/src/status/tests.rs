//! The exact words of lines and JSON, and what the screen shows.

use serde_json::{Value, json};

use super::*;

fn trouble() -> Trouble {
    Trouble {
        code: Code::AnyoneMaySignIn,
        message: "anyone with an account at google can sign in".to_owned(),
        next_step: "add --oauth-allow-domain your-company.com".to_owned(),
    }
}

fn online() -> Event {
    Event::Status {
        phase: Phase::Online,
        edge: Some("127.0.0.1:4443".to_owned()),
        latency: Some(Duration::from_micros(1234)),
        link: Some("quic"),
        trouble: None,
    }
}

fn forwarding() -> Event {
    Event::Forwarding {
        url: "https://quiet-otter.lumen.localhost:4443".to_owned(),
        upstream: "http://localhost:8080".to_owned(),
        endpoint_id: "ep_1".to_owned(),
        login: Some("google: everybody".to_owned()),
        networks: Networks::default(),
    }
}

fn from_networks(allow: &[&str], deny: &[&str]) -> Event {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    Event::Forwarding {
        url: "tcp://lumen.localhost:20007".to_owned(),
        upstream: "tcp://localhost:5432".to_owned(),
        endpoint_id: "ep_2".to_owned(),
        login: None,
        networks: Networks {
            allow: owned(allow),
            deny: owned(deny),
        },
    }
}

fn down() -> Event {
    Event::UpstreamDown {
        upstream: "http://localhost:8080".to_owned(),
        trouble: Trouble::new(Code::UpstreamUnreachable, "http://localhost:8080 is down"),
    }
}

fn up() -> Event {
    Event::UpstreamUp {
        upstream: "http://localhost:8080".to_owned(),
    }
}

fn json_of(event: &Event) -> Value {
    let mut out = Vec::new();
    json::Reporter::default().event(&mut out, event).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches('\n').count(), 1);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn json_is_as_promised() {
    assert_eq!(
        json_of(&online()),
        json!({"event": "status", "status": "online", "edge": "127.0.0.1:4443",
               "latency_ms": 1.234, "link": "quic", "code": null, "message": null, "next_step": null})
    );
    assert_eq!(
        json_of(&forwarding()),
        json!({"event": "forwarding", "url": "https://quiet-otter.lumen.localhost:4443",
               "proto": "https", "upstream": "http://localhost:8080", "endpoint_id": "ep_1",
               "login": "google: everybody", "cidr_allow": [], "cidr_deny": []})
    );
    let told = json_of(&from_networks(&["192.0.2.0/24"], &["192.0.2.7"]));
    assert_eq!(told["cidr_allow"], json!(["192.0.2.0/24"]));
    assert_eq!(told["cidr_deny"], json!(["192.0.2.7"]));
    let told = json!({"event": "error", "code": "SP_2021",
                      "message": "Anyone with an account at google can sign in.",
                      "next_step": "Add --oauth-allow-domain your-company.com"});
    assert_eq!(json_of(&Event::Error(trouble())), told);
    let mut notice = told;
    notice["event"] = json!("notice");
    notice["upstream"] = Value::Null;
    assert_eq!(json_of(&Event::Notice(trouble())), notice);
    assert_eq!(json_of(&down())["code"], "SP_4001");
    assert_eq!(json_of(&up())["upstream"], "http://localhost:8080");
}

#[test]
fn json_counts_are_told_when_they_change() {
    let mut reporter = json::Reporter::default();
    let mut out = Vec::new();
    let now = Snapshot {
        open: 1,
        total: 12,
        latency: None,
    };
    for _ in 0..3 {
        reporter.tick(&mut out, now).unwrap();
    }
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"event\":\"connections\",\"open\":1,\"total\":12}\n"
    );
}

#[test]
fn lines_are_logfmt() {
    let now = "2026-11-24T10:00:00.123456Z".parse().unwrap();
    let table = [
        (
            online(),
            "lvl=info msg=\"tunnel established\" edge=127.0.0.1:4443 latency=1.2ms link=quic",
        ),
        (
            forwarding(),
            "lvl=info msg=\"started tunnel\" url=https://quiet-otter.lumen.localhost:4443 \
             addr=http://localhost:8080 endpoint=ep_1 login=\"google: everybody\"",
        ),
        (
            Event::Notice(trouble()),
            "lvl=warn msg=\"Anyone with an account at google can sign in.\" code=SP_2021 \
             next_step=\"Add --oauth-allow-domain your-company.com\"",
        ),
        (
            up(),
            "lvl=info msg=\"http://localhost:8080 accepts connections again\" \
             addr=http://localhost:8080",
        ),
    ];
    for (event, expected) in table {
        let mut out = Vec::new();
        lines::event(&mut out, &event, now).unwrap();
        let expected = format!("t=2026-11-24T10:00:00.123Z {expected}\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

/// An endpoint with address rules is not called open to everybody.
#[test]
fn networks_are_shown() {
    for (allow, deny, words) in [
        (&["192.0.2.0/24"][..], &[][..], "only 192.0.2.0/24"),
        (&[], &["192.0.2.7", "::1"], "all but 192.0.2.7, ::1"),
        (
            &["192.0.2.0/24"],
            &["192.0.2.7"],
            "only 192.0.2.0/24, but not 192.0.2.7",
        ),
    ] {
        let shown = screen(&[online(), from_networks(allow, deny)]);
        assert!(shown.contains(words), "{shown}");
        assert!(!shown.contains("everybody"), "{shown}");
    }
    let shown = screen(&[online(), from_networks(&[], &[])]);
    assert!(shown.contains("none: open to everybody"), "{shown}");
}

/// The screen after some events, without colours and cursor moves of the last drawing.
fn screen(events: &[Event]) -> String {
    let mut screen = terminal::Screen::new();
    let mut last = Vec::new();
    for event in events {
        last.clear();
        screen.event(&mut last, event, Snapshot::default()).unwrap();
    }
    let text = String::from_utf8(last).unwrap();
    let (_, text) = text.split_once("\x1b[J").unwrap();
    let mut plain = String::new();
    let mut parts = text.split("\x1b[");
    plain.push_str(parts.next().unwrap());
    for part in parts {
        plain.push_str(part.split_once('m').unwrap().1);
    }
    plain
}

#[test]
fn the_screen_shows_everything() {
    let text = screen(&[online(), forwarding(), Event::Notice(trouble()), down()]);
    for part in [
        "Status        online",
        "Edge          127.0.0.1:4443",
        "Latency       1.2 ms",
        "Forwarding    https://quiet-otter.lumen.localhost:4443 -> http://localhost:8080",
        "Login         google: everybody",
        "Connections   0 open, 0 in all",
        "!             Anyone with an account at google can sign in.",
        "              Add --oauth-allow-domain your-company.com",
        "!             http://localhost:8080 is down",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

/// In a small window nothing is lost: what is long goes on in the next line.
#[test]
fn long_rows_are_wrapped() {
    let long = Event::Notice(Trouble {
        code: Code::Internal,
        message: "word ".repeat(40).trim_end().to_owned(),
        next_step: "x".repeat(200),
    });
    let text = screen(&[long]);
    assert_eq!(text.to_lowercase().matches("word").count(), 40, "{text}");
    assert_eq!(text.to_lowercase().matches('x').count(), 200, "{text}");
    assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
}

#[test]
fn sentences_keep_what_is_pasted() {
    let table = [
        ("the edge fell silent", "The edge fell silent."),
        ("Already one.", "Already one."),
        ("run: edge status", "Run: edge status"),
        (
            "add --oauth-allow-domain a.test",
            "Add --oauth-allow-domain a.test",
        ),
        ("http://localhost:1 is down", "http://localhost:1 is down"),
        ("app.a.test is taken", "app.a.test is taken."),
        ("/etc/agent.yml:3:1: no", "/etc/agent.yml:3:1: no"),
        ("agent.yml:3:1: no", "agent.yml:3:1: no"),
        ("run: edge", "Run: edge"),
        ("", ""),
    ];
    for (text, expected) in table {
        assert_eq!(sentence(text), expected);
    }
}

#[test]
fn a_recovered_upstream_leaves_the_screen() {
    let text = screen(&[online(), down(), up()]);
    assert!(!text.contains("is down"), "{text}");
}

#[test]
fn an_edge_cannot_command_the_terminal() {
    let evil = Event::Notice(Trouble {
        code: Code::Internal,
        message: "x\x1b]0;owned\x07\r\nlvl=info".to_owned(),
        next_step: "\x1b[2J".to_owned(),
    });
    assert!(screen(std::slice::from_ref(&evil)).contains("x ]0;owned"));
    let mut out = Vec::new();
    lines::event(&mut out, &evil, jiff::Timestamp::UNIX_EPOCH).unwrap();
    let line = String::from_utf8(out).unwrap();
    assert!(!line.contains('\x1b') && line.ends_with('\n') && line.lines().count() == 1);
}

#[test]
fn saying_never_waits_and_counts_balance() {
    let (events, _unread) = sync_channel(1);
    let status = Status {
        events,
        counts: Arc::default(),
    };
    for _ in 0..1000 {
        status.say(online());
    }
    let stream = status.count();
    assert_eq!(status.counts.snapshot().open, 1);
    drop(stream);
    let now = status.counts.snapshot();
    assert_eq!((now.open, now.total), (0, 1));
    status.finish();
}
