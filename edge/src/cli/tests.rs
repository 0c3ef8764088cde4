//! The command line's definition, and commands against a folder without an edge.

use super::*;

/// clap's own checks of the whole definition.
#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

/// A secret is never an argument.
#[test]
fn no_flag_takes_a_secret() {
    fn walk(command: &clap::Command) {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            assert!(
                !name.contains("secret") || name.ends_with("_file"),
                "{name}"
            );
            assert!(
                !name.contains("token") && !name.contains("password"),
                "{name}"
            );
        }
        command.get_subcommands().for_each(walk);
    }
    walk(&Cli::command());
}

/// Common flags stand anywhere, and lists are given by repeating.
#[test]
fn flags_are_read() {
    let cli = Cli::try_parse_from([
        "edge",
        "provider",
        "add",
        "okta",
        "--issuer",
        "https://id.example",
        "--client-id",
        "c",
        "--client-secret-file",
        "-",
        "--scope",
        "groups",
        "--scope",
        "offline_access",
        "--json",
        "--data-dir",
        "/tmp/x",
    ])
    .unwrap();
    assert!(cli.common.json);
    assert_eq!(
        cli.common.data_dir.as_deref(),
        Some(std::path::Path::new("/tmp/x"))
    );
    let Command::Ask(Ask::Provider(Provider::Add(add))) = cli.command else {
        panic!("{:?}", cli.command)
    };
    assert_eq!(add.scopes, ["groups", "offline_access"]);
    for wrong in [
        &["edge"][..],
        &["edge", "serve", "--listen", "nowhere"],
        &[
            "edge",
            "provider",
            "add",
            "google",
            "--client-id",
            "c",
            "--client-secret",
            "s",
            "--client-secret-file",
            "-",
        ],
        &["edge", "revoke"],
    ] {
        assert_eq!(
            Cli::try_parse_from(wrong).unwrap_err().exit_code(),
            2,
            "{wrong:?}"
        );
    }
}

/// Without a socket the command says what to do, with its own exit code.
#[test]
fn no_edge_is_a_sentence_and_code_4() {
    let folder = tempfile::tempdir().unwrap();
    let error = act::ask(Ask::Status, folder.path(), false).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    let text = error.to_string();
    assert!(
        text.contains("edge serve --data-dir") && text.contains(folder.path().to_str().unwrap()),
        "{text}"
    );
}

/// Every code is in the generated table once.
#[test]
fn the_error_table_is_complete() {
    let table = docs::errors();
    for code in proto::code::Code::ALL {
        assert_eq!(table.matches(&format!("| `{code}` |")).count(), 1, "{code}");
    }
}
