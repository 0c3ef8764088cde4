//! Documentation that the binary prints: completions and manual pages.

use std::path::Path;

use super::{CliError, print};

pub(super) fn completion(command: &mut clap::Command, shell: clap_complete::Shell) {
    let mut out = Vec::new();
    clap_complete::generate(shell, command, "edge", &mut out);
    print::text(&String::from_utf8_lossy(&out));
}

pub(super) fn man(command: clap::Command, dir: Option<&Path>) -> Result<(), CliError> {
    if let Some(dir) = dir {
        return std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(command, dir))
            .map_err(|error| {
                CliError::Failed(format!(
                    "the manual cannot be written to {}: {error}",
                    dir.display()
                ))
            });
    }
    let failed =
        |error: std::io::Error| CliError::Failed(format!("the manual cannot be made: {error}"));
    let mut out = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut out)
        .map_err(failed)?;
    print::text(&String::from_utf8_lossy(&out));
    Ok(())
}
