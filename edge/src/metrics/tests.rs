//! What is counted comes out again, and everything that comes out is documented.

use super::*;

fn text(metrics: &Arc<Metrics>, now: Now) -> String {
    metrics.text(now).unwrap()
}

/// What was counted, by any thread, is in the text under its documented name.
#[test]
fn counts() {
    let metrics = Arc::new(Metrics::default());
    std::thread::scope(|scope| {
        for _ in 0..=SHARDS {
            scope.spawn(|| {
                metrics.request(200, None, Duration::from_micros(250));
                metrics.request(404, None, Duration::from_millis(2));
                metrics.request(404, Some(Code::UnknownHost), Duration::from_mins(1));
                metrics.request(42, None, Duration::ZERO);
                metrics.bytes(Direction::Out, 100);
            });
        }
    });
    metrics.bytes(Direction::In, 7);
    metrics.cut(Duration::from_micros(300));
    metrics.activity_dropped(2);
    let now = Now {
        connections: 3,
        links: vec![("quic", 4), ("tls", 5)],
        ..Now::default()
    };
    let text = text(&metrics, now);
    for line in [
        "sallyport_requests_total{code=\"2xx\"} 17",
        "sallyport_requests_total{code=\"4xx\"} 17",
        "sallyport_requests_total{code=\"SP_1001\"} 17",
        "sallyport_requests_total{code=\"other\"} 17",
        "sallyport_request_seconds_bucket{le=\"0.00025\"} 34",
        "sallyport_request_seconds_bucket{le=\"0.0025\"} 51",
        "sallyport_request_seconds_bucket{le=\"10.0\"} 51",
        "sallyport_request_seconds_bucket{le=\"+Inf\"} 68",
        "sallyport_request_seconds_count 68",
        "sallyport_bytes_total{direction=\"in\"} 7",
        "sallyport_bytes_total{direction=\"out\"} 1700",
        "sallyport_revoke_to_cut_seconds_bucket{le=\"0.00025\"} 0",
        "sallyport_revoke_to_cut_seconds_bucket{le=\"0.0005\"} 1",
        "sallyport_activity_dropped_total 2",
        "sallyport_connections 3",
        "sallyport_links{transport=\"quic\"} 4",
        "sallyport_links{transport=\"tls\"} 5",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in:\n{text}"
        );
    }
    assert!(!text.contains("code=\"5xx\""), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

/// Every family that is scraped is documented, and every documented one is scraped.
#[test]
fn the_reference_is_complete() {
    let metrics = Arc::new(Metrics::default());
    let now = Now {
        resident_bytes: Some(1),
        ..Now::default()
    };
    let scraped = text(&metrics, now);
    let scraped: Vec<_> = scraped
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, _) => name.to_owned(),
        })
        .collect();
    let reference = reference();
    let documented: Vec<_> = reference
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|line| line.starts_with(PREFIX))
        .map(|line| line.split('`').next().unwrap())
        .collect();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(
        sorted(scraped),
        sorted(documented.into_iter().map(str::to_owned).collect())
    );
}
