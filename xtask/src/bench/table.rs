//! The table as Markdown, for people and for the document.

use std::fmt::Write as _;

use crate::bench::row::Row;

/// A table of these rows.
pub(super) fn markdown<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let mut text = String::from(HEAD);
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line(row));
    }
    text
}

/// One row.
pub(super) fn line(row: &Row) -> String {
    let link = row.link.map(|link| link.to_string());
    let subject = match link {
        Some(link) => format!("{}, {link}", row.subject),
        None => row.subject.clone(),
    };
    let value = match (row.value, &row.why) {
        (Some(value), _) => format!("{} {}", number(value), row.unit),
        (None, why) => format!(
            "did not run: {}",
            why.as_deref().unwrap_or("no reason given")
        ),
    };
    let baseline = match (row.baseline, &row.baseline_subject) {
        (Some(value), Some(name)) => format!("{} ({name})", number(value)),
        (Some(value), None) => number(value),
        (None, _) => String::new(),
    };
    let optional = |value: Option<String>| value.unwrap_or_default();
    let cells = [
        row.case.to_owned(),
        row.figure.clone(),
        subject,
        value,
        baseline,
        optional(row.ratio.map(|ratio| format!("{ratio:.2}"))),
        optional(row.spread.map(|spread| format!("{:.0} %", spread * 100.0))),
        optional(row.target.clone()),
        match row.met {
            Some(true) => "yes".to_owned(),
            Some(false) => "**no**".to_owned(),
            None => String::new(),
        },
    ];
    let cells = cells.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
    format!("| {} |", cells.join(" | "))
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

const HEAD: &str = "\
| Case | Figure | Subject | Median | Baseline | Ratio | Spread | Target | Met |
|---|---|---|---|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::{Figure, Link, OURS, Series};

    const FIGURE: Figure<'static> = Figure {
        case: "bulk",
        name: "down, 1 stream",
        unit: "MB/s",
        method: "",
    };

    #[test]
    fn a_row_reads_well() {
        let ours = Series {
            subject: OURS.to_owned(),
            link: Some(Link::Tls),
            values: vec![500.0, 510.0, 520.0],
        };
        let nginx = Series {
            subject: "nginx".to_owned(),
            link: None,
            values: vec![400.0],
        };
        let rows = [
            Row::measured(FIGURE, &ours, Some(&nginx)),
            Row::did_not_run(FIGURE, OURS, Some(Link::Quic), "a | b".to_owned()),
        ];
        let text = markdown(&rows);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| bulk | down, 1 stream | sallyport, tls | 510 MB/s | 400 (nginx) | 1.27 | 4 % | ratio ≥ 1.2 | yes |",
                "| bulk | down, 1 stream | sallyport, quic | did not run: a \\| b |  |  |  | ratio ≥ 1 | **no** |",
            ]
        );
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.1234, 1.234, 12.34, 1234.5].map(number);
        assert_eq!(shown, ["0", "0.123", "1.23", "12.3", "1234"]);
    }
}
