//! One figure of one subject, with what it is compared to, and whether that is enough.

use std::fmt;

use serde::Serialize;

use crate::bench::stats;
use crate::bench::targets::{self, Bound};

/// What carries the tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Link {
    Quic,
    Tls,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Tls => "tls",
        })
    }
}

/// Names a figure. The same figure of several subjects can be compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure<'a> {
    pub(super) case: &'static str,
    pub(super) name: &'a str,
    pub(super) unit: &'static str,
    /// The command that prints it, beyond `cargo xtask bench`.
    pub(super) method: &'a str,
}

/// The runs of one subject.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) subject: String,
    pub(super) link: Option<Link>,
    pub(super) values: Vec<f64>,
}

/// A row of the table. The fields are an interface.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) case: &'static str,
    pub(super) figure: String,
    pub(super) subject: String,
    pub(super) link: Option<Link>,
    pub(super) ran: bool,
    /// Why it did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// The median.
    pub(super) value: Option<f64>,
    pub(super) unit: &'static str,
    /// The median of what it is compared to.
    pub(super) baseline: Option<f64>,
    pub(super) baseline_subject: Option<String>,
    pub(super) ratio: Option<f64>,
    pub(super) target: Option<String>,
    /// Nothing where there is no target.
    pub(super) met: Option<bool>,
    /// From the smallest to the largest run, as a part of the median.
    pub(super) spread: Option<f64>,
    pub(super) runs: Vec<f64>,
    pub(super) command: String,
    pub(super) method: String,
}

impl Row {
    /// A row from runs, compared to others' where there are any.
    pub(super) fn measured(figure: Figure<'_>, series: &Series, baseline: Option<&Series>) -> Self {
        let value = stats::median(&series.values);
        let base = baseline.and_then(|series| stats::median(&series.values));
        let ratio = value
            .zip(base)
            .filter(|(_, base)| *base > 0.0)
            .map(|(value, base)| value / base);
        let target = target_of(figure, &series.subject, series.link);
        Self {
            ran: value.is_some(),
            why: value.is_none().then(|| "it gave no value".to_owned()),
            value,
            baseline: base,
            baseline_subject: baseline.map(|series| series.subject.clone()),
            ratio,
            met: target.map(|bound| bound.is_met(value, ratio)),
            spread: stats::spread(&series.values),
            runs: series.values.clone(),
            ..Self::empty(figure, &series.subject, series.link)
        }
    }

    /// A row that says why there is none. Never met.
    pub(super) fn did_not_run(
        figure: Figure<'_>,
        subject: &str,
        link: Option<Link>,
        why: String,
    ) -> Self {
        Self {
            why: Some(why),
            ..Self::empty(figure, subject, link)
        }
    }

    fn empty(figure: Figure<'_>, subject: &str, link: Option<Link>) -> Self {
        let target = target_of(figure, subject, link);
        Self {
            case: figure.case,
            figure: figure.name.to_owned(),
            subject: subject.to_owned(),
            link,
            ran: false,
            why: None,
            value: None,
            unit: figure.unit,
            baseline: None,
            baseline_subject: None,
            ratio: None,
            target: target.map(|bound| bound.to_string()),
            met: target.map(|_| false),
            spread: None,
            runs: Vec::new(),
            command: format!("cargo xtask bench {}", figure.case),
            method: figure.method.to_owned(),
        }
    }

    /// Whether a target is there and was missed.
    pub(super) fn is_missed(&self) -> bool {
        self.met == Some(false)
    }
}

/// Targets are for our own rows.
fn target_of(figure: Figure<'_>, subject: &str, link: Option<Link>) -> Option<Bound> {
    (subject == OURS)
        .then(|| targets::find(figure.case, figure.name, link))
        .flatten()
}

/// What our own rows are called.
pub(super) const OURS: &str = "sallyport";

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURE: Figure<'static> = Figure {
        case: "keepalive",
        name: "c=64 requests",
        unit: "requests/s",
        method: "",
    };

    fn series(subject: &str, values: &[f64]) -> Series {
        Series {
            subject: subject.to_owned(),
            link: Some(Link::Quic),
            values: values.to_vec(),
        }
    }

    fn check(values: &[f64], baseline: Option<&[f64]>, ratio: Option<f64>, met: bool) {
        let baseline = baseline.map(|values| series("nginx", values));
        let row = Row::measured(FIGURE, &series(OURS, values), baseline.as_ref());
        assert_eq!(row.ratio, ratio);
        assert_eq!(row.met, Some(met), "{row:?}");
        assert_eq!(row.is_missed(), !met);
    }

    #[test]
    fn met_only_with_both_medians() {
        check(&[13.0, 12.0, 14.0], Some(&[10.0, 10.0]), Some(1.3), true);
        check(&[11.0, 11.0, 90.0], Some(&[10.0, 10.0]), Some(1.1), false);
        check(&[13.0], None, None, false);
        check(&[13.0], Some(&[]), None, false);
        check(&[], Some(&[10.0]), None, false);
    }

    #[test]
    fn what_did_not_run_is_never_met() {
        let why = "no nginx".to_owned();
        let row = Row::did_not_run(FIGURE, OURS, Some(Link::Tls), why);
        assert_eq!((row.ran, row.met), (false, Some(false)));
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["ran"], false);
        assert_eq!(json["why"], "no nginx");
        assert_eq!(json["link"], "tls");
    }

    #[test]
    fn others_have_no_targets() {
        let row = Row::measured(FIGURE, &series("nginx", &[1.0]), None);
        assert_eq!((row.met, row.target), (None, None));
    }
}
