//! What crates may depend on: `proto` on almost nothing, `agent` and `edge` not on each other, and nobody
//! on a second provider of cryptography. What is listed is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use toml::Table;

use crate::tidy::Finding;
use crate::tidy::source::Source;
use crate::workspace;

/// Checks manifests, `proto`'s root and the whole tree of dependencies. `words` are those in the code of
/// each member.
pub(super) fn in_workspace(
    root: &Path,
    words: &BTreeMap<String, BTreeSet<String>>,
) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut members = Vec::new();
    for (member, words) in words {
        let file = Path::new(member).join("Cargo.toml");
        let text = read(root, &file)?;
        findings.extend(in_manifest(member, &file, &text)?);
        findings.extend(unused(&file, &text, words)?);
        members.push(parse(&file, &text)?);
    }
    findings.extend(unclaimed(&read(root, Path::new("Cargo.toml"))?, &members)?);
    let file = Path::new("proto/src/lib.rs");
    findings.extend(in_proto_root(file, &Source::read(&read(root, file)?)));
    findings.extend(in_dependency_tree(&dependency_tree(root)?));
    Ok(findings)
}

fn read(root: &Path, file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {}", file.display()))
}

/// Checks one member's manifest.
pub(super) fn in_manifest(member: &str, file: &Path, text: &str) -> anyhow::Result<Vec<Finding>> {
    let manifest = parse(file, text)?;
    let shipped = dependencies(&manifest, &["dependencies", "build-dependencies"]);
    let mut findings = Vec::new();
    if member == "proto" {
        for name in shipped
            .iter()
            .filter(|name| !PROTO_MAY.contains(&name.as_str()))
        {
            let what = format!(
                "proto depends on {name}; it may have {}",
                PROTO_MAY.join(", ")
            );
            findings.push(Finding::new(file, 0, what));
        }
    }
    let other = match member {
        "agent" => "edge",
        "edge" => "agent",
        _ => return Ok(findings),
    };
    let all = dependencies(&manifest, &ALL_KINDS);
    for name in all
        .iter()
        .filter(|name| [other, "xtask", "tests"].contains(&name.as_str()))
    {
        findings.push(Finding::new(
            file,
            0,
            format!("{member} must not depend on {name}"),
        ));
    }
    Ok(findings)
}

/// Dependencies that no file of their crate names, and shared ones that no crate takes. Feature switches
/// aside, a crate that is used is named.
pub(super) fn unused(
    file: &Path,
    text: &str,
    words: &BTreeSet<String>,
) -> anyhow::Result<Vec<Finding>> {
    let manifest = parse(file, text)?;
    let unused = keys(&manifest, &ALL_KINDS)
        .into_iter()
        .filter(|name| !words.contains(&name.replace('-', "_")))
        .map(|name| Finding::new(file, 0, format!("nothing here names the dependency {name}")));
    Ok(unused.collect())
}

/// Shared dependencies that no member takes.
pub(super) fn unclaimed(text: &str, members: &[Table]) -> anyhow::Result<Vec<Finding>> {
    let file = Path::new("Cargo.toml");
    let manifest = parse(file, text)?;
    let shared = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies")?.as_table())
        .into_iter()
        .flat_map(Table::keys);
    let unclaimed = shared
        .filter(|name| {
            !members
                .iter()
                .any(|member| keys(member, &ALL_KINDS).contains(*name))
        })
        .map(|name| {
            Finding::new(
                file,
                0,
                format!("no crate takes the shared dependency {name}"),
            )
        });
    Ok(unclaimed.collect())
}

pub(super) fn parse(file: &Path, text: &str) -> anyhow::Result<Table> {
    text.parse()
        .with_context(|| format!("cannot read {}", file.display()))
}

/// The names that dependencies have in code, those for single targets included.
fn keys(manifest: &Table, kinds: &[&str]) -> BTreeSet<String> {
    entries(manifest, kinds)
        .map(|(name, _)| name.clone())
        .collect()
}

/// The names of packages in these tables, those for single targets included.
fn dependencies(manifest: &Table, kinds: &[&str]) -> BTreeSet<String> {
    entries(manifest, kinds)
        .map(|(name, value)| {
            let renamed = value.get("package").and_then(toml::Value::as_str);
            renamed.map_or_else(|| name.clone(), str::to_owned)
        })
        .collect()
}

/// The entries of these tables, those for single targets included.
fn entries<'a>(
    manifest: &'a Table,
    kinds: &'a [&'a str],
) -> impl Iterator<Item = (&'a String, &'a toml::Value)> {
    let targets = manifest
        .get("target")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(Table::values)
        .filter_map(toml::Value::as_table);
    std::iter::once(manifest)
        .chain(targets)
        .flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .flatten()
}

/// `#![no_std]`, and `std` for tests only.
pub(super) fn in_proto_root(file: &Path, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has_no_std = (0..source.tokens.len()).any(|at| {
        source.is_mark(at, '#')
            && source.is_mark(at + 1, '!')
            && source.is_mark(at + 2, '[')
            && source.word(at + 3) == Some("no_std")
            && source.is_mark(at + 4, ']')
    });
    if !has_no_std {
        findings.push(Finding::new(
            file,
            1,
            "proto says #![no_std], so that I/O does not compile",
        ));
    }
    for at in 0..source.tokens.len() {
        let is_std = source.word(at) == Some("extern")
            && source.word(at + 1) == Some("crate")
            && source.word(at + 2) == Some("std");
        // `# [ cfg ( test ) ]` just before.
        let is_for_tests = at >= 7
            && source.word(at - 5) == Some("cfg")
            && source.word(at - 3) == Some("test")
            && source.is_mark(at - 1, ']');
        if is_std && !is_for_tests {
            findings.push(Finding::new(
                file,
                source.line(at),
                "proto has std in tests only",
            ));
        }
    }
    findings
}

/// Every package that anything here is built with, one `name vVERSION …` a line.
fn dependency_tree(root: &Path) -> anyhow::Result<String> {
    let output = workspace::cargo(root)
        .args([
            "tree",
            "--workspace",
            "--locked",
            "--edges",
            "normal,build,dev",
        ])
        .args(["--prefix", "none", "--format", "{p}"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree failed; its messages are above"
    );
    String::from_utf8(output.stdout).context("cargo tree printed no text")
}

/// One provider of cryptography, and no C library found on the machine.
pub(super) fn in_dependency_tree(tree: &str) -> Vec<Finding> {
    let names: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    BANNED
        .iter()
        .filter(|name| names.contains(**name))
        .map(|name| {
            let what = format!(
                "{name} is in the tree (cargo tree --workspace -i {name} says through whom)"
            );
            Finding::new(Path::new("Cargo.lock"), 0, what)
        })
        .collect()
}

/// `base64` carries secrets in text forms; all of them without std.
const PROTO_MAY: [&str; 5] = ["base64", "bytes", "serde", "serde_json", "thiserror"];
const ALL_KINDS: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];
const BANNED: [&str; 5] = ["bindgen", "native-tls", "openssl", "openssl-sys", "ring"];
