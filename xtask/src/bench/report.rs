//! All rows of a run, and the forms in which they leave it.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::bench::machine::Machine;
use crate::bench::row::{Figure, Link, OURS, Row, Series};
use crate::bench::{table, targets};

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

    /// Takes figures of ours that are compared to nobody's: a series of values for each, or why there is none.
    pub(super) fn push_alone<const N: usize>(
        &mut self,
        figures: [Figure<'_>; N],
        link: Option<Link>,
        values: anyhow::Result<[Vec<f64>; N]>,
    ) {
        match values {
            Ok(all) => {
                for (figure, values) in figures.into_iter().zip(all) {
                    let subject = OURS.to_owned();
                    let series = Series {
                        subject,
                        link,
                        values,
                    };
                    self.push(Row::measured(figure, &series, None));
                }
            }
            Err(error) => {
                for figure in figures {
                    let why = format!("{error:#}");
                    self.push(Row::did_not_run(figure, OURS, link, why));
                }
            }
        }
    }

    /// Adds a row for each target of a case that no row is about.
    pub(super) fn complete(&mut self, case: &'static str, links: &[Link], why: &str) {
        for (name, link) in targets::figures_of(case, links) {
            let is_there = self.rows.iter().any(|row| {
                let is_link = link.is_none() || row.link == link;
                row.case == case && row.figure == name && row.subject == OURS && is_link
            });
            if !is_there {
                let figure = Figure {
                    case,
                    name,
                    unit: "",
                    method: "",
                };
                self.push(Row::did_not_run(figure, OURS, link, why.to_owned()));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_without_a_row_is_missed() {
        let machine = Machine {
            cpu: String::new(),
            cores: 1,
            memory_mb: 1,
            kernel: String::new(),
            versions: Vec::new(),
        };
        let mut report = Report::new(machine, String::new());
        let figure = Figure {
            case: "start",
            name: "edge to first request",
            unit: "ms",
            method: "",
        };
        let series = Series {
            subject: OURS.to_owned(),
            link: None,
            values: vec![100.0],
        };
        report.push(Row::measured(figure, &series, None));
        assert_eq!(report.missed().count(), 0);
        report.complete("start", &[Link::Quic], "it broke");
        let missed: Vec<_> = report.missed().collect();
        assert_eq!(missed.len(), 1);
        assert_eq!(missed[0].figure, "agent to name answering");
        assert_eq!(missed[0].why.as_deref(), Some("it broke"));
        report.complete("start", &[Link::Quic], "it broke");
        assert_eq!(report.rows.len(), 2, "said once");
    }
}
