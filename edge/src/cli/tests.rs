//! The command line's definition, and commands against a folder without an edge.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::admin::socket;
use crate::admin::tests::World;
use crate::shutdown::Shutdown;

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
    let text = error.next_step().unwrap();
    assert!(
        text.contains("edge serve --data-dir") && text.contains(folder.path().to_str().unwrap()),
        "{text}"
    );
}

/// Every command that asks an edge, over a real socket: what the edge grants is 0, what it refuses 5.
#[tokio::test]
async fn commands_over_the_socket() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let listening = socket::listen(folder.path()).await.unwrap();
    let shutdown = Shutdown::new();
    let serving = tokio::spawn(listening.serve(world.admin.socket(), shutdown.clone()));
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let secret = secret.to_str().unwrap().to_owned();
    let copy = folder.path().join("copy").to_str().unwrap().to_owned();
    let data_dir = folder.path().to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let absent = "app_sess_0ujsswThIGTUYm2K8FjOOfXtY1K";
        let add = [
            "provider",
            "add",
            "google",
            "--client-id",
            "c",
            "--client-secret-file",
            &secret,
        ];
        let mut wrong_add = add;
        wrong_add[4] = "wrong";
        for json in [false, true] {
            for (arguments, code) in [
                (&["status"][..], 0),
                (&["authtoken", "list"], 0),
                (&["authtoken", "create", "--description", "laptop"], 0),
                (&["authtoken", "list"], 0),
                (&["authtoken", "revoke", "cr_nonsense"], 5),
                (&["api-key", "create"], 0),
                (&["api-key", "list"], 0),
                (&["api-key", "revoke", "../status"], 5),
                (&["operator", "link"], 0),
                (&["provider", "list"], 0),
                (&add, 0),
                (&wrong_add, 5),
                (
                    &[
                        "provider",
                        "add",
                        "google",
                        "--client-id",
                        "c",
                        "--client-secret-file",
                        "/no/such/file",
                    ],
                    1,
                ),
                (&["provider", "list"], 0),
                (&["revoke", "all", "--reason", "drill"], 0),
                (&["revoke", "provider", "google"], 0),
                (&["revoke", "session", absent], 5),
                (&["receipt", "rcpt_nonsense"], 5),
                (&["provider", "remove", "google"], 0),
                (&["provider", "remove", "google"], 5),
                (&["backup", &copy], if json { 5 } else { 0 }),
            ] {
                let cli = Cli::try_parse_from(std::iter::once(&"edge").chain(arguments)).unwrap();
                let Command::Ask(ask) = cli.command else {
                    panic!("{arguments:?}")
                };
                let found =
                    act::ask(ask, &data_dir, json).map_or_else(|error| error.exit_code(), |()| 0);
                assert_eq!(found, code, "{arguments:?}");
            }
        }
    });
    asked.await.unwrap();
    shutdown.set_emptied();
    serving.await.unwrap();
}
