//! From a `User-Agent` header to browser, system and device. The patterns are tried one after
//! another, so a header is cut short, programs that say what they are go first, and answers are kept.

mod program;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use moka::future::Cache;
use uaparser::{OS, Parser as _, UserAgentParser};

use crate::model::session::UserAgent;

/// Parses `User-Agent` headers, cached and bounded.
pub(crate) struct UserAgents {
    patterns: Arc<Patterns>,
    known: Cache<String, UserAgent>,
}

impl UserAgents {
    /// With the operator's own patterns, or those in the binary. They are compiled at first use.
    pub(crate) fn new(regexes: Option<&Path>) -> Self {
        let patterns = Patterns {
            file: regexes.map(Path::to_owned),
            compiled: OnceLock::new(),
        };
        Self {
            patterns: Arc::new(patterns),
            known: Cache::new(KNOWN_MAX),
        }
    }

    /// Never fails: what is not recognised stays empty.
    pub(crate) async fn parse(&self, raw: &str) -> UserAgent {
        let raw = cut(raw);
        if let Some(program) = program::recognise(&raw) {
            return program;
        }
        let parse = async {
            let (patterns, header) = (Arc::clone(&self.patterns), raw.clone());
            tokio::task::spawn_blocking(move || patterns.parse(&header))
                .await
                .unwrap_or_else(|_| UserAgent {
                    raw: raw.clone(),
                    ..UserAgent::default()
                })
        };
        self.known.get_with_by_ref(&raw, parse).await
    }
}

impl fmt::Debug for UserAgents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserAgents")
            .field("file", &self.patterns.file)
            .finish_non_exhaustive()
    }
}

struct Patterns {
    file: Option<PathBuf>,
    /// `None` inside: nothing could be compiled, which was logged.
    compiled: OnceLock<Option<UserAgentParser>>,
}

impl Patterns {
    /// Blocking; the first time for about a second.
    fn parse(&self, raw: &str) -> UserAgent {
        let Some(parser) = self.compiled.get_or_init(|| self.compile()) else {
            return UserAgent {
                raw: raw.to_owned(),
                ..UserAgent::default()
            };
        };
        let browser = parser.parse_user_agent(raw);
        let os = parser.parse_os(raw);
        let version = match browser.minor.as_deref() {
            // Browsers that count majors only send zeros and build numbers behind them.
            None | Some("0") => browser.major.as_deref().unwrap_or_default().to_owned(),
            Some(_) => version([&browser.major, &browser.minor, &browser.patch]),
        };
        UserAgent {
            device_type: device(raw, &os.family).to_owned(),
            browser_name: cut(browser_name(&browser.family)),
            browser_version: cut(&version),
            os_version: cut(&version_of(&os)),
            os_name: cut(os_name(&os.family)),
            raw: raw.to_owned(),
        }
    }

    fn compile(&self) -> Option<UserAgentParser> {
        let builder = || {
            UserAgentParser::builder()
                .with_unicode_support(false)
                .with_device(false)
        };
        let own = self.file.as_ref().and_then(|file| {
            std::fs::read(file)
                .map_err(|error| error.to_string())
                .and_then(|yaml| {
                    builder()
                        .build_from_bytes(&yaml)
                        .map_err(|error| error.to_string())
                })
                .inspect_err(|error| {
                    tracing::error!(
                        error,
                        file = %file.display(),
                        "user-agent patterns cannot be used, those in the binary are"
                    );
                })
                .ok()
        });
        own.or_else(|| {
            builder()
                .build_from_bytes(BUILT_IN)
                .inspect_err(|error| tracing::error!(%error, "user-agent patterns cannot be used"))
                .ok()
        })
    }
}

/// What people call it: the device is told apart elsewhere.
fn browser_name(family: &str) -> &str {
    match family {
        "Other" => "",
        "Chrome Mobile" | "Chrome Mobile iOS" => "Chrome",
        "Mobile Safari" => "Safari",
        "Firefox Mobile" | "Firefox iOS" => "Firefox",
        "Edge Mobile" => "Edge",
        "Opera Mobile" => "Opera",
        "Chrome Mobile WebView" => "Chrome WebView",
        "Mobile Safari UI/WKWebView" => "Safari WebView",
        family => family,
    }
}

/// As ngrok's API writes it.
fn os_name(family: &str) -> &str {
    match family {
        "Other" => "",
        "Mac OS X" => "MacOS",
        family => family,
    }
}

fn version_of(os: &OS<'_>) -> String {
    version([&os.major, &os.minor, &os.patch])
}

/// Joins what is there, without zeros at the end.
fn version(parts: [&Option<Cow<'_, str>>; 3]) -> String {
    let mut parts: Vec<&str> = parts
        .into_iter()
        .map_while(|part| part.as_deref())
        .collect();
    while parts.len() > 1 && parts.last() == Some(&"0") {
        parts.pop();
    }
    parts.join(".")
}

/// From the system and what mobile browsers say of themselves: the library's own device patterns
/// cost ten times the memory of all others.
fn device(raw: &str, os: &str) -> &'static str {
    let says = |token: &str| raw.contains(token);
    match os {
        _ if says("TV") => "",
        _ if says("iPad") || says("Tablet") || says("Kindle") => "Tablet",
        "Android" if !says("Mobile") => "Tablet",
        "Android" | "iOS" | "Windows Phone" | "BlackBerry OS" | "KaiOS" | "Firefox OS"
        | "HarmonyOS" => "Mobile",
        "Windows" | "Mac OS X" | "Linux" | "Chrome OS" | "Ubuntu" | "Debian" | "Fedora"
        | "Red Hat" | "SUSE" | "Gentoo" | "CentOS" | "Arch Linux" | "Linux Mint" | "Mint"
        | "Kubuntu" | "Mandriva" | "FreeBSD" | "OpenBSD" | "NetBSD" | "Solaris" => "Desktop",
        _ if says("Mobile") => "Mobile",
        _ => "",
    }
}

/// The header within its bound, printable.
fn cut(text: &str) -> String {
    let mut kept = String::with_capacity(text.len().min(HEADER_BYTES_MAX));
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > HEADER_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    kept
}

const BUILT_IN: &[u8] = include_bytes!("../../assets/uap-core/regexes.yaml");
/// Real headers have 100 to 250; a longer one costs every pattern more.
const HEADER_BYTES_MAX: usize = 512;
/// At most about 2 KiB each.
const KNOWN_MAX: u64 = 10_000;
