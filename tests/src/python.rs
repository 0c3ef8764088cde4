//! Python programs of the tests, in the virtual environment that `cargo xtask test` makes from
//! `python/requirements.txt`.

use std::path::PathBuf;

use crate::require;

/// The environment's interpreter, or `None` after saying that `test` is skipped.
pub fn interpreter(test: &str) -> Option<PathBuf> {
    let python = require::package_dir().join("python/venv/bin/python");
    // Written last: an environment without it is half made.
    let is_whole = require::package_dir()
        .join("python/venv/.installed-from")
        .is_file();
    if python.is_file() && is_whole {
        return Some(python);
    }
    require::missing("the Python packages (cargo xtask test installs them)", test);
    None
}
