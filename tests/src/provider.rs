//! Identity providers as separate programs: the development provider, and two that nobody here wrote.

use std::path::Path;

use tokio::process::Command;

use crate::process::Process;
use crate::require;

/// A running provider, and the client that is registered with it.
#[derive(Debug)]
pub struct Provider {
    pub process: Process,
    pub issuer: String,
    pub client_id: String,
    pub client_secret: String,
}

impl Provider {
    /// The development provider of the demo.
    pub async fn dev(logs: &Path, name: &str) -> Self {
        let mut command = Command::new(require::binary("xtask"));
        command.args(["dev-provider", "--json"]);
        Self::ready(Process::start(command, name, logs)).await
    }

    /// One of the node programs in `tests/providers`; `None` after saying why it is skipped.
    /// `arguments` are passed on.
    pub async fn node(file: &str, arguments: &[&str], logs: &Path, test: &str) -> Option<Self> {
        let node = require::program("node", test)?;
        let folder = require::package_dir().join("providers");
        if !install(&folder, test).await {
            return None;
        }
        let mut command = Command::new(node);
        command
            .arg(folder.join(file))
            .args(arguments)
            .current_dir(&folder);
        Some(Self::ready(Process::start(command, file, logs)).await)
    }

    async fn ready(mut process: Process) -> Self {
        let ready = process.event_named("ready").await;
        let text = |key: &str| {
            ready[key]
                .as_str()
                .unwrap_or_else(|| panic!("{key} in {ready}"))
                .to_owned()
        };
        Self {
            issuer: text("issuer"),
            client_id: text("client_id"),
            client_secret: text("client_secret"),
            process,
        }
    }
}

/// Installs what the lock file names, once, when it is not there yet.
async fn install(folder: &Path, test: &str) -> bool {
    let is_there = || {
        folder.join("node_modules/oidc-provider").is_dir()
            && folder.join("node_modules/oauth2-mock-server").is_dir()
    };
    if is_there() {
        return true;
    }
    let Some(npm) = require::program("npm", test) else {
        return false;
    };
    // Tests run in parallel, and so do test processes: the first one installs, the others wait for it.
    let lock = std::fs::File::create(folder.join(".install.lock")).expect("lock file");
    let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .expect("no panic")
        .expect("locked");
    if !is_there() {
        let output = Command::new(npm)
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(folder)
            .output()
            .await
            .expect("npm runs");
        if !output.status.success() {
            require::missing(
                &format!(
                    "the packages of tests/providers ({})",
                    String::from_utf8_lossy(&output.stderr)
                ),
                test,
            );
            return false;
        }
    }
    true
}
