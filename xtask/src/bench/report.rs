//! All rows of a run, and the forms in which they leave it.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::bench::machine::Machine;
use crate::bench::row::Row;
use crate::bench::table;

/// What a run found out. The fields are an interface.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) command: String,
    pub(super) rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(machine: Machine, command: String) -> Self {
        Self {
            machine,
            command,
            rows: Vec::new(),
        }
    }

    /// Takes a row, and shows it at once: a whole run takes long.
    pub(super) fn push(&mut self, row: Row) {
        eprintln!("{}", table::line(&row));
        self.rows.push(row);
    }

    pub(super) fn markdown(&self) -> String {
        format!(
            "{}\n\n`{}`\n\n{}",
            self.machine.line(),
            self.command,
            table::markdown(&self.rows)
        )
    }

    pub(super) fn write_json(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, format!("{text}\n"))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Rows whose target is missed.
    pub(super) fn missed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.is_missed())
    }
}
