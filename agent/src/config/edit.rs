//! Puts an authtoken into the configuration file and leaves every other byte as it was, comments
//! included.
//!
//! The text is changed by line, then read again: unless it says the same as before, with the new
//! authtoken, the file stays as it is and the person is told what to write.

use std::fs;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::file::{self, FileConfig, Layout};
use super::{ConfigError, Place, SecretText, read_text, wrong_file};
use crate::private_file;

/// Writes the token, atomically and with mode 0600.
pub(super) fn add_authtoken(path: &Path, token: &SecretText) -> Result<(), ConfigError> {
    // A link, as managers of such files make them, stays one.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = match read_text(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Zeroizing::new(String::new()),
        read => read.map_err(|error| ConfigError::unreadable(path, &error))?,
    };
    let config = file::read(&before).map_err(|wrong| wrong_file(path, &wrong))?;
    let after = edited(&before, &config.layout, token.expose().trim());
    if !says_the_same(config, &after, token) {
        return Err(ConfigError::invalid(
            format!(
                "{} is written in a way that cannot be edited safely",
                path.display()
            ),
            "write the line  authtoken: <the token>  under agent: yourself".to_owned(),
        ));
    }
    write(path, &after).map_err(|error| {
        ConfigError::invalid(
            format!("{} cannot be written: {error}", path.display()),
            "check the folder's permissions and the disk's space, or name a file with --config"
                .to_owned(),
        )
    })
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        private_file::create_folder(folder)?;
    }
    private_file::replace(path, text.as_bytes())
}

fn edited(before: &str, layout: &Layout, token: &str) -> Zeroizing<String> {
    let line = format!("authtoken: {token}");
    let mut lines: Vec<&str> = before.lines().collect();
    let indented;
    match layout {
        Layout {
            authtoken: Some(place),
            ..
        } => {
            indented = format!("{}{line}", indent(*place));
            if let Some(old) = lines.get_mut(index(*place)) {
                *old = &indented;
            }
        }
        Layout { is_v2: true, .. } => lines.push(&line),
        Layout {
            agent_first: Some(place),
            ..
        } => {
            indented = format!("{}{line}", indent(*place));
            lines.insert(index(*place).min(lines.len()), &indented);
        }
        Layout {
            agent: Some(place), ..
        } => {
            indented = format!("{}  {line}", indent(*place));
            lines.insert((index(*place) + 1).min(lines.len()), &indented);
        }
        Layout { .. } => {
            indented = format!("  {line}");
            if before.trim().is_empty() {
                lines.push("version: 3");
            }
            lines.extend(["agent:", &indented]);
        }
    }
    let mut text = Zeroizing::new(lines.join("\n"));
    text.push('\n');
    text
}

fn says_the_same(before: FileConfig, after: &str, token: &SecretText) -> bool {
    let Ok(after) = file::read(after) else {
        return false;
    };
    let is_written = after
        .authtoken
        .as_ref()
        .is_some_and(|written| written.expose() == token.expose().trim());
    is_written && without_places(before) == without_places(after)
}

/// Everything but the authtoken and the lines, which move.
fn without_places(mut config: FileConfig) -> FileConfig {
    config.authtoken = None;
    config.layout = Layout {
        is_v2: config.layout.is_v2,
        ..Layout::default()
    };
    for (_, place) in config.connect_urls.iter_mut().chain(&mut config.ca) {
        *place = Place::default();
    }
    for endpoint in &mut config.endpoints {
        endpoint.place = None;
    }
    config
}

fn index(place: Place) -> usize {
    usize::try_from(place.line.saturating_sub(1)).unwrap_or(usize::MAX)
}

fn indent(place: Place) -> String {
    " ".repeat(usize::try_from(place.column.saturating_sub(1)).unwrap_or(0))
}
