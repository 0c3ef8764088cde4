//! `edge.yml` exactly as it may stand in a file: every key optional, unknown keys refused.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{At, ConfigError};

/// A value with the line that it stands on.
pub(super) type Placed<T> = Option<Spanned<T>>;

/// The file's keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) listen: Placed<String>,
    pub(super) domain: Placed<String>,
    pub(super) public_port: Placed<u16>,
    pub(super) data_dir: Placed<PathBuf>,
    pub(super) workers: Placed<usize>,
    pub(super) certificate: Placed<Certificate>,
    pub(super) advertise: Placed<Vec<String>>,
    pub(super) cluster_key_file: Placed<PathBuf>,
    pub(super) session_life: Placed<String>,
    pub(super) session_idle: Placed<String>,
    pub(super) geoip: Placed<PathBuf>,
    pub(super) user_agent_regexes: Placed<PathBuf>,
    pub(super) header_timeout: Placed<String>,
    pub(super) idle_timeout: Placed<String>,
    pub(super) body_timeout: Placed<String>,
    pub(super) connections_per_address: Placed<u32>,
    pub(super) exchanges_max: Placed<u32>,
    pub(super) congestion: Placed<String>,
    pub(super) unread_mib_per_agent: Placed<u64>,
    pub(super) unread_mib: Placed<u64>,
    pub(super) metrics: Placed<String>,
    pub(super) access_log: Placed<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) cert: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
}

/// A file's keys and where they were read.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) file: Option<PathBuf>,
    pub(super) keys: Keys,
}

impl Source {
    /// Reads and parses a file.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let file = path.to_owned();
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            file: file.clone(),
            source,
        })?;
        Self::parse(file, &text)
    }

    /// Parses a file's text. A file of comments only sets nothing.
    pub(super) fn parse(file: PathBuf, text: &str) -> Result<Self, ConfigError> {
        let empty = text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        });
        if empty {
            return Ok(Self {
                file: Some(file),
                keys: Keys::default(),
            });
        }
        match serde_saphyr::from_str(text) {
            Ok(keys) => Ok(Self {
                file: Some(file),
                keys,
            }),
            Err(error) => Err(ConfigError::Syntax {
                file,
                message: one_line(&error, text),
            }),
        }
    }

    /// Where a key stands.
    pub(super) fn at<T>(&self, key: &'static str, value: &Spanned<T>) -> At {
        At::Line {
            file: self.file.clone().unwrap_or_default(),
            line: value.referenced.line(),
            key,
        }
    }

    /// A path as the file means it: relative ones start at the file's folder.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        self.file
            .as_deref()
            .and_then(Path::parent)
            .map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }
}

/// `line:column: message, in the line itself`.
fn one_line(error: &serde_saphyr::Error, source: &str) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.trim_start_matches("error: ");
    let Some(at) = error.location() else {
        return format!(" {text}");
    };
    let place = format!(" at line {}, column {}", at.line(), at.column());
    let text = text.trim_end_matches(place.as_str());
    let index = usize::try_from(at.line())
        .unwrap_or_default()
        .saturating_sub(1);
    let line = source.lines().nth(index).unwrap_or_default().trim();
    format!(
        "{}:{}: {}, in `{line}`",
        at.line(),
        at.column(),
        plain(text)
    )
}

/// What the parser says, in the words of whoever writes the file.
fn plain(text: &str) -> String {
    if let Some(rest) = text.strip_prefix("unknown field ") {
        let (key, known) = rest.split_once(", expected ").unwrap_or((rest, ""));
        return format!(
            "{key} is not a key; there {}",
            known.replacen("one of", "are", 1)
        );
    }
    if let Some(rest) = text.strip_prefix("duplicate mapping key: ") {
        let key = rest.split(',').next().unwrap_or(rest);
        return format!("the key `{key}` occurs twice");
    }
    if let Some(key) = text.strip_prefix("missing field ") {
        return format!("{key} is missing");
    }
    if ["invalid u", "invalid i"]
        .iter()
        .any(|start| text.starts_with(start))
    {
        return "a whole number is wanted, and not too large a one".to_owned();
    }
    if text.contains("expected mapping") {
        return "keys with values are wanted, such as `domain: tunnel.example.com`".to_owned();
    }
    if text.contains("expected <") || text.contains("did not find") {
        return "this is not readable as YAML: check indentation, colons and quotes".to_owned();
    }
    text.to_owned()
}
