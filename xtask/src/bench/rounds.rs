//! Interleaved runs: baseline, ours, baseline, ours …, so that what the machine does meanwhile falls on all.

use std::time::Duration;

use crate::bench::load::Plan;
use crate::bench::report::Report;
use crate::bench::row::{Figure, Link, OURS, Row, Series};
use crate::bench::world::{App, Subject, World};

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) is_quick: bool,
    pub(super) rounds: usize,
}

impl Pace {
    pub(super) fn plan(self, clients: usize) -> Plan {
        let (warm_up_ms, duration_ms) = if self.is_quick {
            (300, 1500)
        } else {
            (1000, 5000)
        };
        Plan {
            clients,
            warm_up: Duration::from_millis(warm_up_ms),
            duration: Duration::from_millis(duration_ms),
        }
    }

    /// What a machine in a hurry does less of.
    pub(super) fn choose<T>(self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }
}

/// Who takes part, the baseline first, and who cannot.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) subjects: Vec<Subject>,
    absent: Vec<(Link, String)>,
}

impl Line {
    /// nginx and ours on each link.
    pub(super) async fn up(world: &mut World, links: &[Link], app: App) -> Self {
        let mut line = Self {
            subjects: vec![world.nginx()],
            absent: Vec::new(),
        };
        line.add_ours(world, links, app).await;
        line
    }

    /// Only these.
    pub(super) fn of(subjects: Vec<Subject>, absent: Vec<(Link, String)>) -> Self {
        Self { subjects, absent }
    }

    async fn add_ours(&mut self, world: &mut World, links: &[Link], app: App) {
        for link in links {
            match world.ours(*link, app).await {
                Ok(subject) => self.subjects.push(subject),
                Err(error) => self.absent.push((*link, format!("{error:#}"))),
            }
        }
    }
}

/// What each subject gave: a series for each figure, or nothing where it failed.
pub(super) type Outcome = Vec<(Subject, Option<Vec<Series>>)>;

/// Runs everybody in turn and writes a row for each figure of each subject, compared to the first of the line
/// where `is_compared`. `run` gives a value for each figure.
pub(super) async fn run(
    pace: Pace,
    line: &Line,
    figures: &[Figure<'_>],
    report: &mut Report,
    is_compared: bool,
    mut run: impl AsyncFnMut(&Subject) -> anyhow::Result<Vec<f64>>,
) -> Outcome {
    let mut series: Vec<Result<Vec<Series>, String>> = line
        .subjects
        .iter()
        .map(|subject| Ok(vec![subject.series(); figures.len()]))
        .collect();
    for round in 0..pace.rounds {
        for (subject, mine) in line.subjects.iter().zip(&mut series) {
            let Ok(all) = mine else { continue };
            match run(subject).await {
                Ok(values) => {
                    for (series, value) in all.iter_mut().zip(values) {
                        series.values.push(value);
                    }
                }
                Err(error) => *mine = Err(format!("in round {}: {error:#}", round + 1)),
            }
        }
    }
    let first = series.first().and_then(|series| series.clone().ok());
    for (at, figure) in figures.iter().enumerate() {
        for (number, (subject, mine)) in line.subjects.iter().zip(&series).enumerate() {
            let baseline = first
                .as_ref()
                .and_then(|first| first.get(at))
                .filter(|_| is_compared && number > 0);
            report.push(match mine {
                Ok(all) => match all.get(at) {
                    Some(series) => Row::measured(*figure, series, baseline),
                    None => continue,
                },
                Err(why) => Row::did_not_run(*figure, subject.name, subject.link, why.clone()),
            });
        }
        for (link, why) in &line.absent {
            report.push(Row::did_not_run(*figure, OURS, Some(*link), why.clone()));
        }
    }
    let series = series.into_iter().map(Result::ok);
    line.subjects.iter().cloned().zip(series).collect()
}
