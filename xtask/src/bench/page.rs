//! `docs/performance.md`: the text is written by hand, the tables between its marks by a run. What a run did not
//! measure stays as it was.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::bench::report::Report;
use crate::bench::row::Row;
use crate::bench::table;

/// Puts the tables of a run into the document.
pub(super) fn write(root: &Path, report: &Report) -> anyhow::Result<()> {
    let file = root.join(FILE);
    let mut text = fs::read_to_string(&file).with_context(|| format!("cannot read {FILE}"))?;
    let machine = format!("{}\n\n`{}`", report.machine.line(), report.command);
    text = fill(&text, "machine", &machine)?;
    let mut cases: Vec<&str> = report.rows.iter().map(|row| row.case).collect();
    cases.dedup();
    for case in cases {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.case == case).collect();
        text = fill(&text, case, table::markdown(rows).trim_end())?;
    }
    fs::write(&file, text).with_context(|| format!("cannot write {FILE}"))
}

/// Replaces what is between a mark and the next end.
fn fill(text: &str, name: &str, content: &str) -> anyhow::Result<String> {
    let mark = format!("<!-- bench:{name} -->\n");
    let Some((before, rest)) = text.split_once(&mark) else {
        bail!("{FILE} has no place for {name}");
    };
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{FILE}: the place for {name} has no end"))?;
    Ok(format!("{before}{mark}{content}\n{END}{after}"))
}

const FILE: &str = "docs/performance.md";
const END: &str = "<!-- bench:end -->";

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::bench::case::Case;

    #[test]
    fn only_the_place_itself_changes() {
        let text = "a\n<!-- bench:x -->\nold\n<!-- bench:end -->\nb\n<!-- bench:y -->\n<!-- bench:end -->\n";
        let new = fill(text, "x", "new").unwrap();
        assert_eq!(new, text.replace("old", "new"));
        assert_eq!(fill(&new, "x", "new").unwrap(), new);
        let new = fill(&new, "y", "more").unwrap();
        assert!(new.contains("<!-- bench:y -->\nmore\n<!-- bench:end -->"));
        assert!(fill(text, "z", "").is_err());
    }

    #[test]
    fn every_case_has_a_place() {
        let text = include_str!("../../../docs/performance.md");
        for case in Case::value_variants() {
            let value = case.to_possible_value().unwrap();
            let name = value.get_name();
            assert!(text.contains(&format!("<!-- bench:{name} -->\n")), "{name}");
            assert!(
                text.contains(&format!("`cargo xtask bench {name}`")),
                "{name}"
            );
        }
        fill(text, "machine", "").unwrap();
    }
}
