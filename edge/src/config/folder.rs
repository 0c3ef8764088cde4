//! The data folder: made with mode 0700, and what the edge keeps there between runs, each file made
//! at the first start with mode 0600.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{At, ConfigError, ENV_KEY, KeySource, Prepared, Settings, checks};
use crate::secret::{self, ClusterKey};

/// Where data lives unless somebody says otherwise: `$XDG_DATA_HOME/sallyport`, else
/// `~/.local/share/sallyport`; `None` without either variable.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("XDG_DATA_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("sallyport"))
}

/// The flag that leads a command to this folder, with a space in front; empty where a command finds it
/// by itself.
pub(crate) fn data_dir_flag(folder: &Path) -> String {
    if default_data_dir().as_deref() == Some(folder) {
        String::new()
    } else {
        format!(" --data-dir {}", folder.display())
    }
}

pub(super) fn prepare(settings: &Settings) -> Result<Prepared, ConfigError> {
    let folder = &settings.data_dir;
    private_folder(folder)?;
    let domain = match settings.domain() {
        Some(domain) => domain.to_owned(),
        None => kept_domain(folder)?,
    };
    let cluster_key = match &settings.cluster_key {
        KeySource::Given(text) => ClusterKey::parse(text.expose()).ok_or(ConfigError::Key {
            at: At::Environment(ENV_KEY),
        })?,
        KeySource::File(file) => {
            let text = fs::read_to_string(file).map_err(|source| ConfigError::Read {
                file: file.clone(),
                source,
            })?;
            parse_key(file, &text)?
        }
        KeySource::Folder => kept_key(folder)?,
    };
    Ok(Prepared {
        domain,
        cluster_key,
    })
}

/// Makes the folder, or sees to it that nobody else may enter the one that is there. An empty one is
/// tightened; one with content that others may enter is refused: it may be somebody's home.
fn private_folder(folder: &Path) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Folder {
        path: folder.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let mode = fs::metadata(folder).map_err(failed)?.permissions().mode() & 0o7777;
    let others = mode & 0o077;
    if others == 0 {
        return Ok(());
    }
    let ours =
        folder.join(KEY_FILE).exists() || fs::read_dir(folder).map_err(failed)?.next().is_none();
    if !ours {
        return Err(ConfigError::FolderOpen {
            path: folder.to_owned(),
            mode,
        });
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// The domain of this folder. A word of its own: sites under one `localhost` would share cookies'
/// site, and no certificate for `*.localhost` is accepted.
fn kept_domain(folder: &Path) -> Result<String, ConfigError> {
    let path = folder.join(DOMAIN_FILE);
    let failed = |source| ConfigError::Folder {
        path: path.clone(),
        source,
    };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let domain = text.trim().to_owned();
            checks::domain(&domain).map_err(|message| ConfigError::Refused {
                at: At::File(path.clone()),
                message,
            })?;
            Ok(domain)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let [choice, ..] = secret::random::<1>();
            let word = WORDS
                .get(usize::from(choice) % WORDS.len())
                .unwrap_or(&"harbour");
            let domain = format!("{word}.localhost");
            write_new(&path, &domain).map_err(failed)?;
            Ok(domain)
        }
        Err(error) => Err(failed(error)),
    }
}

fn kept_key(folder: &Path) -> Result<ClusterKey, ConfigError> {
    let path = folder.join(KEY_FILE);
    let failed = |source| ConfigError::Folder {
        path: path.clone(),
        source,
    };
    match fs::read_to_string(&path) {
        Ok(text) => parse_key(&path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = ClusterKey::generate();
            write_new(&path, key.to_text().expose()).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

fn parse_key(path: &Path, text: &str) -> Result<ClusterKey, ConfigError> {
    ClusterKey::parse(text).ok_or_else(|| ConfigError::Key {
        at: At::File(path.to_owned()),
    })
}

/// Writes a file of this process's user only, synced, never over another and never half: a start that
/// was killed in between leaves a file under another name.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let half = path.with_extension("new");
    let _ = fs::remove_file(&half);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&half)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    // Of two starts at the same time one wins, and the other reads what it wrote at its next start.
    fs::hard_link(&half, path)?;
    fs::remove_file(&half)
}

const DOMAIN_FILE: &str = "domain";
const KEY_FILE: &str = "cluster.key";
/// Places with a gate.
const WORDS: &[&str] = &[
    "abbey", "arcade", "atrium", "bailey", "barbican", "bastion", "belfry", "bridge", "castle",
    "chapel", "citadel", "cloister", "cottage", "court", "dock", "dune", "farm", "ferry", "ford",
    "fort", "garden", "grange", "grove", "hamlet", "harbour", "haven", "hearth", "hill", "inn",
    "island", "keep", "lagoon", "lodge", "manor", "market", "meadow", "mill", "moat", "orchard",
    "outpost", "palace", "park", "pier", "plaza", "quarry", "quay", "rampart", "ridge", "shire",
    "stable", "station", "temple", "terrace", "tower", "turret", "valley", "vault", "villa",
    "village", "wharf", "windmill", "yard",
];
