//! The floors of design §3 as data, and what may stand on them: imports go down only.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::tidy::Finding;
use crate::tidy::paths::{self, From, Named};
use crate::tidy::source::Source;

/// One floor of a crate.
#[derive(Debug)]
pub(super) struct Floor {
    level: u8,
    modules: &'static [&'static str],
    /// Modules that the design names and a later change brings; they may be missing.
    planned: &'static [&'static str],
    /// Whether its modules may know each other: only where the parts are wired.
    is_wiring: bool,
    /// Starts of paths, and names, that do not belong here.
    never: &'static [Never],
}

/// Something that a floor must not name.
#[derive(Debug)]
struct Never {
    path: &'static [&'static str],
    because: &'static str,
}

/// A crate with floors.
#[derive(Debug)]
pub(super) struct House {
    name: &'static str,
    floors: &'static [Floor],
}

impl House {
    fn floor_of(&self, module: &str) -> Option<&'static Floor> {
        self.floors
            .iter()
            .find(|floor| floor.modules.contains(&module) || floor.planned.contains(&module))
    }
}

const fn never(path: &'static [&'static str], because: &'static str) -> Never {
    Never { path, because }
}

const NO_DOORS: &str = "HTTP servers belong to the doors (floor 6)";
const PURE: &str = "decisions are pure: no async, no I/O, no clock";

/// What judgement (floor 5) must not see.
const NEVER_JUDGEMENT: &[Never] = &[
    never(&["hyper"], NO_DOORS),
    never(&["hyper_util"], NO_DOORS),
    never(&["axum"], NO_DOORS),
];

/// What live state (floor 4) must not see.
const NEVER_LIVE: &[Never] = &[
    never(&["axum"], NO_DOORS),
    never(&["askama"], "pages belong to the doors (floor 6)"),
];

/// What pure decisions (floor 2) must not see.
const NEVER_PURE: &[Never] = &[
    never(&["async"], PURE),
    never(&["await"], PURE),
    never(&["tokio"], PURE),
    never(&["Instant"], PURE),
    never(&["SystemTime"], PURE),
    never(&["time", "Instant"], PURE),
    never(&["time", "SystemTime"], PURE),
    never(&["std", "time", "Instant"], PURE),
    never(&["std", "time", "SystemTime"], PURE),
    never(&["std", "fs"], PURE),
    never(&["std", "env"], PURE),
    never(&["std", "process"], PURE),
    never(&["std", "thread"], PURE),
    never(&["TcpStream"], PURE),
    never(&["UdpSocket"], PURE),
];

const fn floor(level: u8, modules: &'static [&'static str]) -> Floor {
    Floor {
        level,
        modules,
        planned: &[],
        is_wiring: false,
        never: &[],
    }
}

/// The edge's floors.
pub(super) const EDGE: House = House {
    name: "edge",
    floors: &[
        Floor {
            is_wiring: true,
            ..floor(
                7,
                &["main", "cli", "server", "config", "follow", "telemetry"],
            )
        },
        Floor {
            planned: &["compat"],
            ..floor(6, &["ingress", "admin"])
        },
        Floor {
            never: NEVER_JUDGEMENT,
            ..floor(5, &["auth"])
        },
        Floor {
            never: NEVER_LIVE,
            ..floor(4, &["route", "session", "tunnel"])
        },
        floor(3, &["store", "idp", "context", "cert"]),
        Floor {
            never: NEVER_PURE,
            ..floor(2, &["policy", "trust"])
        },
        floor(1, &["model", "clock", "metrics", "secret", "shutdown"]),
    ],
};

/// The agent's floors: those of the design, above two leaves that it does not name.
pub(super) const AGENT: House = House {
    name: "agent",
    floors: &[
        Floor {
            planned: &["lib"],
            is_wiring: true,
            ..floor(6, &["main", "cli"])
        },
        Floor {
            planned: &["api", "service"],
            ..floor(5, &[])
        },
        floor(4, &["agent"]),
        Floor {
            planned: &["inspect"],
            ..floor(3, &["link", "control", "forward", "status"])
        },
        floor(2, &["upstream", "backoff", "config", "instance"]),
        floor(1, &["addrs", "private_file"]),
    ],
};

const HOUSES: [&House; 2] = [&EDGE, &AGENT];

/// Checks the paths that one file names.
pub(super) fn in_source(file: &Path, source: &Source) -> Vec<Finding> {
    let Some((house, module)) = place(file) else {
        return Vec::new();
    };
    let top = module.first().map_or("main", String::as_str);
    // An unknown module is reported with the tree.
    let Some(floor) = house.floor_of(top) else {
        return Vec::new();
    };
    paths::all(source, &module)
        .iter()
        .filter_map(|named| {
            let what = match named.from {
                From::Root => upward(house, floor, top, named),
                From::Scope => forbidden(floor, named),
            };
            Some(Finding::new(file, named.line, what?))
        })
        .collect()
}

/// Why a path within the crate is wrong, if it is.
fn upward(house: &House, floor: &Floor, top: &str, named: &Named) -> Option<String> {
    let target = named.first();
    if target == top || (floor.is_wiring && house.floor_of(target).is_none()) {
        return None;
    }
    let Some(below) = house.floor_of(target) else {
        let name = named.segments.join("::");
        return Some(format!(
            "{top} names crate::{name}, which is in no module of the floor table"
        ));
    };
    let is_down = below.level < floor.level;
    let is_wired = floor.is_wiring && below.level == floor.level;
    (!is_down && !is_wired).then(|| {
        format!(
            "{top} (floor {}) imports {target} (floor {}): imports go down only",
            floor.level, below.level
        )
    })
}

/// Why a path out of the crate is wrong on this floor, if it is.
fn forbidden(floor: &Floor, named: &Named) -> Option<String> {
    floor
        .never
        .iter()
        .find(|never| named.begins(never.path))
        .map(|never| {
            format!(
                "floor {} names {}: {}",
                floor.level,
                never.path.join("::"),
                never.because
            )
        })
}

/// Compares the modules that exist with those of the table.
pub(super) fn in_tree(files: &[PathBuf]) -> Vec<Finding> {
    HOUSES
        .iter()
        .flat_map(|house| modules_of(house, files))
        .collect()
}

fn modules_of(house: &House, files: &[PathBuf]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files {
        let Some((owner, module)) = place(file) else {
            continue;
        };
        if owner.name != house.name {
            continue;
        }
        if file.file_name().is_some_and(|name| name == "mod.rs") {
            findings.push(Finding::new(
                file,
                0,
                "module files are x.rs beside x/, not mod.rs",
            ));
        }
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        let top = module
            .first()
            .map(String::as_str)
            .or(stem)
            .unwrap_or("main");
        if seen.insert(top.to_owned()) && house.floor_of(top).is_none() {
            let what = format!(
                "the module {top} is on no floor of {} (design §3)",
                house.name
            );
            findings.push(Finding::new(file, 0, what));
        }
    }
    for floor in house.floors {
        for module in floor.modules.iter().filter(|name| !seen.contains(**name)) {
            let file = Path::new(house.name)
                .join("src")
                .join(format!("{module}.rs"));
            let what = format!("the floor table lists {module}, and there is no such module");
            findings.push(Finding::new(&file, 0, what));
        }
    }
    findings
}

/// The house that a file belongs to, and its module path; empty for the crate's roots.
fn place(file: &Path) -> Option<(&'static House, Vec<String>)> {
    let mut parts = file.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    });
    let member = parts.next()?;
    let house = HOUSES.into_iter().find(|house| house.name == member)?;
    if parts.next()? != "src" {
        return None;
    }
    let mut module: Vec<String> = parts.map(str::to_owned).collect();
    let name = module.pop()?;
    let stem = name.strip_suffix(".rs")?;
    let is_root = module.is_empty() && matches!(stem, "main" | "lib");
    if !is_root && stem != "mod" {
        module.push(stem.to_owned());
    }
    Some((house, module))
}
