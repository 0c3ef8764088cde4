//! A bad sample for each rule, and good ones beside it.

use std::path::{Path, PathBuf};

use crate::tidy::source::{Kind, Source};
use crate::tidy::{Finding, floors, manifests, words};

/// Says how many findings of the floors, each of which mentions one of the texts in turn.
fn check_floors(file: &str, text: &str, wanted: &[&str]) {
    compare(
        text,
        floors::in_source(Path::new(file), &Source::read(text)),
        wanted,
    );
}

fn check_words(file: &str, text: &str, wanted: &[&str]) {
    let file = Path::new(file);
    let found = words::in_source(file, text, &Source::read(text));
    compare(text, found, wanted);
}

fn compare(text: &str, found: impl IntoIterator<Item = Finding>, wanted: &[&str]) {
    let found: Vec<String> = found.into_iter().map(|one| one.to_string()).collect();
    assert_eq!(found.len(), wanted.len(), "{text}\n{found:#?}");
    for (one, wanted) in found.iter().zip(wanted) {
        assert!(one.contains(wanted), "{text}\n{one}\nwants: {wanted}");
    }
}

fn words_of(text: &str) -> Vec<String> {
    Source::read(text).words().collect()
}

#[test]
fn strings_and_comments_are_no_code() {
    for text in [
        "a \"x \\\" y\" b",
        "a r\"x\\\" b",
        "a r##\"x \"# y\"## b",
        "a br#\"x \"y\" z\"# b",
        "a c\"x\" b",
        "a b'\\'' b",
        "a '\\'' 'x' '\\u{1f600}' '\"' b",
        "a /* x /* y */ z */ b",
        "a // x\nb",
        "a 1.5e3 0x1f 1_000u64 b",
        "a<'x> 'y: b",
    ] {
        assert_eq!(words_of(text), ["a", "b"], "{text}");
    }
    assert_eq!(words_of("r#use r b c br"), ["use", "r", "b", "c", "br"]);
    assert_eq!(words_of("0..n x.0.y"), ["n", "x", "y"]);
}

#[test]
fn lines_are_counted_through_everything() {
    let text = "\"a\nb\"\n/* c\nd */\nr#\"e\nf\"# last";
    let source = Source::read(text);
    let last = source.tokens.last().unwrap();
    assert_eq!((last.line, &last.kind), (6, &Kind::Word("last".to_owned())));
}

#[test]
fn imports_go_down_only() {
    check_floors("edge/src/auth.rs", "use crate::route::table::Route;", &[]);
    check_floors("edge/src/auth.rs", "use crate::auth::permit::Permit;", &[]);
    check_floors("edge/src/auth.rs", "use proto::code::Code;", &[]);
    check_floors(
        "edge/src/store/embedded.rs",
        "\n\nuse crate::auth::Auth;",
        &["edge/src/store/embedded.rs:3: store (floor 3) imports auth (floor 5)"],
    );
    check_floors(
        "edge/src/route/table.rs",
        "use crate::session::live::Live;",
        &["route (floor 4) imports session (floor 4)"],
    );
    check_floors(
        "edge/src/clock.rs",
        "use crate::model::user::User;",
        &["clock (floor 1)"],
    );
    check_floors(
        "edge/src/ingress.rs",
        "use crate::admin::Admin;",
        &["imports admin (floor 6)"],
    );
    check_floors(
        "edge/src/ingress/handle.rs",
        "use crate::server::X;",
        &["imports server (floor 7)"],
    );
}

#[test]
fn the_top_floor_is_wired_together() {
    check_floors(
        "edge/src/server.rs",
        "use crate::config::Settings; use crate::follow;",
        &[],
    );
    check_floors(
        "edge/src/main.rs",
        "use crate::server::Server; mod x { use super::*; }",
        &[],
    );
    check_floors(
        "agent/src/main.rs",
        "use crate::cli::Cli; use agent::Agent;",
        &[],
    );
}

#[test]
fn groups_are_unfolded() {
    check_floors(
        "edge/src/store.rs",
        "use crate::{\n    model::{user::User, session as s},\n    auth::{self, permit::{Permit, Cut}},\n    idp::*,\n};",
        &[
            ":3: store (floor 3) imports auth",
            ":3:",
            ":3:",
            ":4: store (floor 3) imports idp",
        ],
    );
    check_floors(
        "edge/src/store.rs",
        "pub(crate) use crate::model::{user, session::{self}};",
        &[],
    );
}

#[test]
fn qualified_paths_count_as_imports() {
    check_floors(
        "edge/src/policy/evaluate.rs",
        "fn f(x: &crate::store::Store) { crate::model::user::User::new::<u8>() }",
        &["policy (floor 2) imports store (floor 3)"],
    );
    check_floors(
        "edge/src/cert.rs",
        "macro_rules! m { () => { $crate::server::run() } }",
        &["imports server"],
    );
    check_floors(
        "edge/src/cert.rs",
        "// crate::server::run\nconst A: &str = \"crate::server::run\";",
        &[],
    );
}

#[test]
fn nobody_climbs_out_through_super() {
    check_floors(
        "edge/src/store/embedded.rs",
        "use super::super::auth::Auth;",
        &["imports auth"],
    );
    check_floors(
        "edge/src/store/embedded.rs",
        "use super::Store; use self::x::Y;",
        &[],
    );
    check_floors(
        "edge/src/route.rs",
        "pub(super) fn f() { super::server::run() }",
        &["imports server"],
    );
    check_floors(
        "edge/src/route.rs",
        "mod tests { use super::*; fn f() { super::super::server::run(); } } fn g() { super::session::x() }",
        &["imports server", "imports session"],
    );
}

#[test]
fn the_crates_root_is_no_module() {
    check_floors(
        "edge/src/route.rs",
        "use crate::*;",
        &["no module of the floor table"],
    );
    check_floors(
        "edge/src/route.rs",
        "use crate::Edge;",
        &["no module of the floor table"],
    );
    check_floors(
        "edge/src/route.rs",
        "use super::*;",
        &["no module of the floor table"],
    );
    check_floors(
        "edge/src/route.rs",
        "pub(crate) fn f(self) {} pub(in crate::route) fn g() {}",
        &[],
    );
}

#[test]
fn judgement_knows_no_http_server() {
    check_floors("edge/src/auth/cookie.rs", "use http::HeaderMap;", &[]);
    check_floors(
        "edge/src/auth/cookie.rs",
        "use hyper::Request;",
        &["names hyper"],
    );
    check_floors(
        "edge/src/auth/cookie.rs",
        "fn f() -> axum::Router {}",
        &["names axum"],
    );
    check_floors("edge/src/ingress/http.rs", "use hyper::Request;", &[]);
}

#[test]
fn decisions_are_pure() {
    for (text, wanted) in [
        ("async fn f() {}", "names async"),
        ("fn f() { g().await }", "names await"),
        ("use tokio::sync::watch;", "names tokio"),
        (
            "use std::time::{Duration, Instant};",
            "names std::time::Instant",
        ),
        (
            "use std::time; fn f() { time::Instant::now(); }",
            "names time::Instant",
        ),
        (
            "fn f() { std::time::SystemTime::now(); }",
            "names std::time::SystemTime",
        ),
        ("fn f() { std::fs::read(x); }", "names std::fs"),
    ] {
        check_floors("edge/src/trust/lease.rs", text, &[wanted]);
    }
    check_floors(
        "edge/src/trust/lease.rs",
        "use std::time::Duration; // async, tokio",
        &[],
    );
}

#[test]
fn the_agent_has_floors_too() {
    check_floors("agent/src/forward.rs", "use crate::upstream::dial;", &[]);
    check_floors(
        "agent/src/forward.rs",
        "use crate::link::Link;",
        &["forward (floor 3) imports link (floor 3)"],
    );
    check_floors(
        "agent/src/link/quic.rs",
        "use crate::agent::Agent;",
        &["imports agent (floor 4)"],
    );
    check_floors(
        "agent/src/agent.rs",
        "use crate::link::Link; use crate::backoff;",
        &[],
    );
}

#[test]
fn unknown_and_vanished_modules_are_found() {
    let all = |house: &str, modules: &[&str]| -> Vec<PathBuf> {
        modules
            .iter()
            .map(|name| Path::new(house).join("src").join(name))
            .collect()
    };
    let edge = [
        "main.rs",
        "cli.rs",
        "server.rs",
        "config.rs",
        "follow.rs",
        "ingress.rs",
        "ingress/handle.rs",
        "admin.rs",
        "auth.rs",
        "route.rs",
        "session.rs",
        "tunnel.rs",
        "store.rs",
        "idp.rs",
        "context.rs",
        "cert.rs",
        "policy.rs",
        "trust.rs",
        "model.rs",
        "clock.rs",
        "secret.rs",
        "shutdown.rs",
        "telemetry.rs",
        "metrics.rs",
    ];
    let agent = [
        "main.rs",
        "cli.rs",
        "agent.rs",
        "link.rs",
        "control.rs",
        "forward.rs",
        "status.rs",
        "upstream.rs",
        "backoff.rs",
        "config.rs",
        "instance.rs",
        "addrs.rs",
        "private_file.rs",
    ];
    let mut files = all("edge", &edge);
    files.extend(all("agent", &agent));
    compare("a whole tree", floors::in_tree(&files), &[]);

    files.push(PathBuf::from("edge/src/sso/login.rs"));
    files.retain(|file| file != Path::new("edge/src/trust.rs"));
    files.push(PathBuf::from("edge/src/route/mod.rs"));
    compare(
        "a changed tree",
        floors::in_tree(&files),
        &[
            "module sso is on no floor",
            "not mod.rs",
            "lists trust, and there is no such module",
        ],
    );
}

#[test]
fn a_module_opens_with_its_reason() {
    check_words("edge/src/x.rs", "//! Why.\nfn f() {}", &[]);
    check_words("edge/src/x.rs", "// Why.\nfn f() {}", &["opens with //!"]);
    check_words("edge/src/x.rs", "", &["opens with //!"]);
}

#[test]
fn nothing_is_left_over() {
    let with = |text: &str| format!("//! Why.\n{text}");
    for (text, wanted) in [
        ("fn f() { todo!() }", "todo! is left over"),
        (
            "fn f() { unimplemented!(\"x\") }",
            "unimplemented! is left over",
        ),
        ("fn f() { dbg!(x) }", "dbg! is left over"),
        ("// FIXME later", "FIXME is left over"),
        ("/* a\nb XXX: c */", ":3: XXX is left over"),
        ("/// HACK\nfn f() {}", "HACK is left over"),
        ("fn f() {} // TODO(me): x", "TODO is left over"),
        ("#[allow(dead_code)] fn f() {}", "allow without a reason"),
        ("#![allow(dead_code)]", "allow without a reason"),
        ("#[expect(a::b, c)] fn f() {}", "expect without a reason"),
        (
            "#[cfg_attr(test, allow(dead_code))] fn f() {}",
            "allow without a reason",
        ),
        ("mod helpers { }", "nothing is called helpers"),
    ] {
        check_words("edge/src/x.rs", &with(text), &[wanted]);
    }
    for text in [
        "const A: &str = \"FIXME todo!()\";",
        "// methods, XXXL, fixme, a todo!() in prose",
        "fn f(todo: bool) -> bool { todo != true }",
        "#[allow(dead_code, reason = \"joined later\")] fn f() {}",
        "#[cfg_attr(test, expect(dead_code, reason = \"x\"))] fn f() {}",
        "fn f() { x.expect(\"y\"); allow(z); g(a, allow(b)) }",
    ] {
        check_words("edge/src/x.rs", &with(text), &[]);
    }
}

#[test]
fn names_say_what_things_are() {
    for bad in [
        "edge/src/util.rs",
        "edge/src/common/x.rs",
        "tests/src/helpers.rs",
        "agent/src/a/types.rs",
    ] {
        assert!(words::in_name(Path::new(bad)).is_some(), "{bad}");
    }
    for good in [
        "edge/src/store.rs",
        "docs/types.md",
        "agent/src/typesetting.rs",
    ] {
        assert!(words::in_name(Path::new(good)).is_none(), "{good}");
    }
}

#[test]
fn other_text_is_read_too() {
    let check = |file: &str, text: &str, wanted: &[&str]| {
        compare(text, words::in_text(Path::new(file), text), wanted);
    };
    check("docs/guide.md", "a\nb FIXME\n", &["docs/guide.md:2: FIXME"]);
    check(".ci/run", "# HACK\n", &["HACK"]);
    check("docs/picture.bin", "FIXME", &[]);
    let lock = "tests/providers/package-lock.json";
    check(
        lock,
        "{\n\"resolved\": \"x\",\n\"resolved\": \"y\"}",
        &[":2: a lock file"],
    );
    check(lock, "{\"integrity\": \"sha512-XXX\"}", &[]);
}

#[test]
fn manifests_keep_the_crates_apart() {
    let check = |member: &str, text: &str, wanted: &[&str]| {
        let found = manifests::in_manifest(member, Path::new("Cargo.toml"), text).unwrap();
        compare(text, found, wanted);
    };
    check(
        "agent",
        "[dependencies]\nproto.workspace = true\ntokio = \"1\"",
        &[],
    );
    check(
        "agent",
        "[dev-dependencies]\nedge = { path = \"../edge\" }",
        &["must not depend on edge"],
    );
    check(
        "edge",
        "[target.'cfg(unix)'.dependencies]\nagent = \"1\"",
        &["must not depend on agent"],
    );
    check(
        "edge",
        "[dependencies]\nother = { package = \"xtask\", version = \"1\" }",
        &["depend on xtask"],
    );
    check(
        "proto",
        "[dependencies]\nserde = \"1\"\n[dev-dependencies]\nproptest = \"1\"",
        &[],
    );
    check(
        "proto",
        "[dependencies]\nserde = \"1\"\ntokio = \"1\"",
        &["proto depends on tokio"],
    );
}

#[test]
fn what_is_listed_is_used() {
    let words = ["tokio", "tokio_util"].map(str::to_owned).into();
    let check = |text: &str, wanted: &[&str]| {
        let found = manifests::unused(Path::new("edge/Cargo.toml"), text, &words).unwrap();
        compare(text, found, wanted);
    };
    check(
        "[dependencies]\ntokio.workspace = true\ntokio-util = \"1\"",
        &[],
    );
    check(
        "[dependencies]\nbytes = \"1\"",
        &["names the dependency bytes"],
    );
    check(
        "[dev-dependencies]\ntempfile = \"3\"",
        &["names the dependency tempfile"],
    );

    let members =
        [manifests::parse(Path::new("x"), "[dependencies]\nbytes.workspace = true").unwrap()];
    let shared = "[workspace.dependencies]\nbytes = \"1\"\ntoml = \"1\"";
    let found = manifests::unclaimed(shared, &members).unwrap();
    compare(
        shared,
        found,
        &["no crate takes the shared dependency toml"],
    );
}

#[test]
fn proto_has_no_std() {
    let check = |text: &str, wanted: &[&str]| {
        compare(
            text,
            manifests::in_proto_root(Path::new("lib.rs"), &Source::read(text)),
            wanted,
        );
    };
    check("//! X\n#![no_std]\nextern crate alloc;", &[]);
    check("#![no_std]\n#[cfg(test)]\nextern crate std;", &[]);
    check("//! #![no_std]\nextern crate alloc;", &["#![no_std]"]);
    check(
        "#![no_std]\nextern crate std;",
        &[":2: proto has std in tests only"],
    );
}

#[test]
fn one_provider_of_cryptography() {
    let check =
        |tree: &str, wanted: &[&str]| compare(tree, manifests::in_dependency_tree(tree), wanted);
    check(
        "aws-lc-rs v1.19.0\nspring v1.0.0\nproto v0.1.0 (proto)",
        &[],
    );
    check(
        "ring v0.17.0\nring v0.17.0\nnative-tls v0.2.0 (*)",
        &["native-tls", "ring"],
    );
}
