//! Headers of programs that say what they are: command-line tools, libraries, bots. Recognised by how
//! they begin, without any pattern.

use super::UserAgent;

/// The program that a header names, where it is one that says so.
pub(super) fn recognise(raw: &str) -> Option<UserAgent> {
    if raw.is_empty() {
        return Some(UserAgent::default());
    }
    let (name, version) = product(raw);
    if TOOLS.iter().any(|tool| tool.eq_ignore_ascii_case(name)) {
        return Some(program(raw, name, version, ""));
    }
    // Crawlers stand first, or behind this word, also inside a browser's header. Nowhere else:
    // there are telephones named Cubot.
    let behind = raw.split("compatible; ").skip(1).map(product);
    std::iter::once((name, version))
        .chain(behind)
        .find(|(name, _)| is_bot(name))
        .map(|(name, version)| program(raw, name, version, "Bot"))
}

fn program(raw: &str, name: &str, version: &str, device_type: &str) -> UserAgent {
    UserAgent {
        raw: raw.to_owned(),
        browser_name: name.to_owned(),
        browser_version: version.to_owned(),
        device_type: device_type.to_owned(),
        ..UserAgent::default()
    }
}

/// `name/version` at the beginning (RFC 9110 §10.1.5); the version may be missing.
fn product(text: &str) -> (&str, &str) {
    let token = text
        .split([' ', ';', '(', ')', ',', '+'])
        .next()
        .unwrap_or_default();
    token.split_once('/').unwrap_or((token, ""))
}

fn is_bot(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    BOT_WORDS.iter().any(|word| name.contains(word))
}

const TOOLS: [&str; 34] = [
    "curl",
    "Wget",
    "HTTPie",
    "xh",
    "PostmanRuntime",
    "insomnia",
    "python-requests",
    "python-httpx",
    "Python-urllib",
    "Python",
    "aiohttp",
    "Go-http-client",
    "okhttp",
    "axios",
    "node-fetch",
    "node",
    "undici",
    "Deno",
    "Bun",
    "Java",
    "Apache-HttpClient",
    "Java-http-client",
    "libwww-perl",
    "Ruby",
    "GuzzleHttp",
    "git",
    "grpc-go",
    "k6",
    "ApacheBench",
    "hey",
    "oha",
    "websocat",
    "reqwest",
    "PowerShell",
];

const BOT_WORDS: [&str; 8] = [
    "bot",
    "crawl",
    "spider",
    "slurp",
    "externalhit",
    "mediapartners",
    "linkexpanding",
    "whatsapp",
];
