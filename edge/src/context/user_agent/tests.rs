//! What browsers, bots and tools say of themselves, and what is read out of it.

use super::*;

const CHROME: &str = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0";

async fn check(agents: &UserAgents, raw: &str, expected: [&str; 5]) {
    let seen = agents.parse(raw).await;
    let seen_fields = [
        seen.browser_name.as_str(),
        seen.browser_version.as_str(),
        seen.device_type.as_str(),
        seen.os_name.as_str(),
        seen.os_version.as_str(),
    ];
    assert_eq!(seen_fields, expected, "{raw}");
    assert_eq!(seen.raw, raw);
}

/// Browsers that people use, on the systems that they use them on.
#[tokio::test]
async fn browsers_are_recognised() {
    let agents = UserAgents::new(None);
    for (raw, expected) in [
        (format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36"), ["Chrome", "124", "Desktop", "Windows", "10"]),
        (format!("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {CHROME} Safari/537.36"), ["Chrome", "124", "Desktop", "MacOS", "10.15.7"]),
        (format!("Mozilla/5.0 (X11; Linux x86_64) {CHROME} Safari/537.36"), ["Chrome", "124", "Desktop", "Linux", ""]),
        (format!("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME} Safari/537.36"), ["Chrome", "124", "Desktop", "Chrome OS", "14541"]),
        (format!("Mozilla/5.0 (Linux; Android 10; K) {CHROME} Mobile Safari/537.36"), ["Chrome", "124", "Mobile", "Android", "10"]),
        (format!("Mozilla/5.0 (Linux; Android 13; SM-X710) {CHROME} Safari/537.36"), ["Chrome", "124", "Tablet", "Android", "13"]),
        (format!("Mozilla/5.0 (Linux; Android 9; CUBOT_X19) {CHROME} Mobile Safari/537.36"), ["Chrome", "124", "Mobile", "Android", "9"]),
        (format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 Edg/124.0.2478.51"), ["Edge", "124", "Desktop", "Windows", "10"]),
        (format!("Mozilla/5.0 (Linux; Android 10; HD1913) {CHROME} Mobile Safari/537.36 EdgA/124.0.2478.50"), ["Edge", "124", "Mobile", "Android", "10"]),
        (format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 OPR/109.0.0.0"), ["Opera", "109", "Desktop", "Windows", "10"]),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/124.0.6367.68 Mobile/15E148 Safari/604.1".to_owned(), ["Chrome", "124", "Mobile", "iOS", "17.4.1"]),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4.1 Mobile/15E148 Safari/604.1".to_owned(), ["Safari", "17.4.1", "Mobile", "iOS", "17.4.1"]),
        ("Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1".to_owned(), ["Safari", "16.6", "Tablet", "iOS", "16.6"]),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15".to_owned(), ["Safari", "17.4", "Desktop", "MacOS", "10.15.7"]),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:125.0) Gecko/20100101 Firefox/125.0".to_owned(), ["Firefox", "125", "Desktop", "Windows", "10"]),
        ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0".to_owned(), ["Firefox", "125", "Desktop", "Ubuntu", ""]),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:125.0) Gecko/20100101 Firefox/125.0".to_owned(), ["Firefox", "125", "Desktop", "MacOS", "10.15"]),
        ("Mozilla/5.0 (Android 14; Mobile; rv:125.0) Gecko/125.0 Firefox/125.0".to_owned(), ["Firefox", "125", "Mobile", "Android", "14"]),
        ("Mozilla/5.0 (Android 14; Tablet; rv:125.0) Gecko/125.0 Firefox/125.0".to_owned(), ["Firefox", "125", "Tablet", "Android", "14"]),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/125.0 Mobile/15E148 Safari/605.1.15".to_owned(), ["Firefox", "125", "Mobile", "iOS", "17.4"]),
        (format!("Mozilla/5.0 (Linux; Android 11; BRAVIA 4K VH2; Android TV) {CHROME} Safari/537.36"), ["Chrome", "124", "", "Android", "11"]),
        ("something else".to_owned(), ["", "", "", "", ""]),
    ] {
        check(&agents, &raw, expected).await;
    }
}

/// Programs that say what they are need no pattern: none is compiled for them.
#[tokio::test]
async fn programs_are_recognised_by_their_beginning() {
    let agents = UserAgents::new(None);
    let googlebot = format!(
        "Mozilla/5.0 {CHROME}; compatible; Googlebot/2.1; +http://www.google.com/bot.html) Safari/537.36"
    );
    for (raw, expected) in [
        ("", ["", "", "", "", ""]),
        ("curl/8.5.0", ["curl", "8.5.0", "", "", ""]),
        ("Wget/1.21.4", ["Wget", "1.21.4", "", "", ""]),
        (
            "python-requests/2.31.0",
            ["python-requests", "2.31.0", "", "", ""],
        ),
        ("Go-http-client/2.0", ["Go-http-client", "2.0", "", "", ""]),
        (
            "PostmanRuntime/7.37.3",
            ["PostmanRuntime", "7.37.3", "", "", ""],
        ),
        ("node", ["node", "", "", "", ""]),
        (
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            ["Googlebot", "2.1", "Bot", "", ""],
        ),
        (googlebot.as_str(), ["Googlebot", "2.1", "Bot", "", ""]),
        (
            "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
            ["bingbot", "2.0", "Bot", "", ""],
        ),
        (
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            ["Slackbot-LinkExpanding", "", "Bot", "", ""],
        ),
        (
            "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
            ["facebookexternalhit", "1.1", "Bot", "", ""],
        ),
        ("Twitterbot/1.0", ["Twitterbot", "1.0", "Bot", "", ""]),
    ] {
        check(&agents, raw, expected).await;
    }
    assert!(agents.patterns.compiled.get().is_none());
}

/// A header costs at most its bound, and a repeated one nothing.
#[tokio::test]
async fn headers_are_bounded_and_kept() {
    let agents = UserAgents::new(None);
    let long = agents
        .parse(&format!("Mozilla/5.0 (é{}", "é".repeat(5000)))
        .await;
    assert!(long.raw.len() <= HEADER_BYTES_MAX && long.raw.len() > HEADER_BYTES_MAX - 2);
    assert_eq!(agents.parse("cu\u{0}rl/8\r\n").await.raw, "curl/8");
    for _ in 0..3 {
        agents.parse("Mozilla/5.0 (X11)").await;
    }
    agents.known.run_pending_tasks().await;
    assert_eq!(agents.known.entry_count(), 2);
}

/// The operator's patterns are used, and where they cannot be, ours are.
#[tokio::test]
async fn operators_may_bring_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("regexes.yaml");
    let own =
        "user_agent_parsers:\n- regex: '(Harbour)/(\\d+)'\nos_parsers: []\ndevice_parsers: []\n";
    std::fs::write(&file, own).unwrap();
    let seen = UserAgents::new(Some(&file))
        .parse("Harbour/7 Chrome/124.0")
        .await;
    assert_eq!(
        (seen.browser_name.as_str(), seen.browser_version.as_str()),
        ("Harbour", "7")
    );
    std::fs::write(&file, "user_agent_parsers: [}").unwrap();
    for file in [file.as_path(), Path::new("/nowhere")] {
        let seen = UserAgents::new(Some(file))
            .parse("Harbour/7 Chrome/124.0.0.0")
            .await;
        assert_eq!(seen.browser_name, "Chrome");
    }
}
