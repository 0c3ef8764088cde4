//! The file: its lock, its mode, its schema and key, and what can be read in it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use redb::Database;

use super::super::log::KEPT_ENTRIES;
use super::super::open::{SCHEMA, VERSION};
use super::super::table::META;
use crate::model::change::{Revision, Scope};
use crate::model::credential::ProviderRecord;
use crate::secret;
use crate::store::embedded::Embedded;
use crate::store::seal::Sealer;
use crate::store::suite::{Lab, Login, claims};
use crate::store::{Loaded, OnceKind, Shard, Store, StoreError};

async fn open(file: &Path, sealer: Sealer) -> Result<Embedded, StoreError> {
    Embedded::open(file, sealer, secret::new_id(0)).await
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

/// Nobody else reads the file or its copy, even when it was opened up meanwhile.
#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let mut lab = Lab::embedded().await;
    assert_eq!(mode(&lab.file()), 0o600);
    let copy = lab.folder().join("copy");
    lab.store().backup(copy.clone()).await.unwrap();
    assert_eq!(mode(&copy), 0o600);
    lab.close();
    std::fs::set_permissions(lab.file(), PermissionsExt::from_mode(0o644)).unwrap();
    lab.reopen().await;
    assert_eq!(mode(&lab.file()), 0o600);
}

/// A second edge on the same file is told so and harms nothing.
#[tokio::test]
async fn one_edge_at_a_time() {
    let mut lab = Lab::embedded().await;
    let refused = open(&lab.file(), Lab::sealer()).await.unwrap_err();
    let StoreError::Unavailable(cause) = refused else {
        panic!("{refused:?}");
    };
    assert!(cause.to_string().ends_with("is in use by another edge"));
    let made = lab.login(Login::of(1, 1)).await;
    assert!(lab.is_live(made.id).await);
    lab.close();
    drop(open(&lab.file(), Lab::sealer()).await.unwrap());
}

/// A wrong cluster key is refused at the door; the right one still opens afterwards, and a new one
/// opens beside the old.
#[tokio::test]
async fn the_cluster_key_is_checked_and_can_change() {
    let mut lab = Lab::embedded().await;
    let made = lab.login(Login::of(1, 1)).await;
    lab.close();
    let wrong = open(&lab.file(), Sealer::new(&[1; 32], None)).await;
    assert!(matches!(wrong, Err(StoreError::Unreadable { .. })));

    let both = Sealer::new(&[1; 32], Some(&[42; 32]));
    let store = Store::Embedded(open(&lab.file(), both).await.unwrap());
    let loaded = store.load_session(made.id).await.unwrap();
    assert!(matches!(loaded, Loaded::Live { session, .. } if session == made));
    // The person is found by the same index under the new key.
    let again = lab.new_session(Login::of(1, 1), made.revision);
    let again = store.create_session(again).await.unwrap();
    assert_eq!(again.user, made.user);
    drop(store);

    let new = Sealer::new(&[1; 32], None);
    let store = Store::Embedded(open(&lab.file(), new).await.unwrap());
    let loaded = store.load_session(again.id).await.unwrap();
    assert!(matches!(loaded, Loaded::Live { .. }));
    let old = store.load_session(made.id).await;
    assert!(matches!(old, Err(StoreError::Unreadable { .. })));
    drop(store);
    let old = open(&lab.file(), Lab::sealer()).await;
    assert!(matches!(old, Err(StoreError::Unreadable { .. })));
}

/// A file that a newer edge wrote is left alone.
#[tokio::test]
async fn a_newer_schema_is_refused() {
    let mut lab = Lab::embedded().await;
    lab.close();
    let database = Database::create(lab.file()).unwrap();
    let txn = database.begin_write().unwrap();
    let newer = (SCHEMA + 1).to_be_bytes();
    let mut meta = txn.open_table(META).unwrap();
    meta.insert(VERSION, &newer[..]).unwrap();
    drop(meta);
    txn.commit().unwrap();
    drop(database);
    let refused = open(&lab.file(), Lab::sealer()).await;
    assert!(matches!(
        refused,
        Err(StoreError::NewerSchema { found, known }) if found == SCHEMA + 1 && known == SCHEMA
    ));
}

/// Something that is no store is not overwritten; a file whose making was cut short is made anew.
#[tokio::test]
async fn strange_files() {
    let folder = tempfile::tempdir().unwrap();
    let letter = folder.path().join("letter");
    std::fs::write(&letter, "dear edge, ".repeat(1000)).unwrap();
    let refused = open(&letter, Lab::sealer()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    assert!(std::fs::read(&letter).unwrap().starts_with(b"dear edge"));
    for cut_short in [0, 9, 8192] {
        let file = folder.path().join(format!("cut {cut_short}"));
        std::fs::write(&file, vec![0; cut_short]).unwrap();
        drop(open(&file, Lab::sealer()).await.unwrap());
    }
    let nowhere = folder.path().join("no/such/folder");
    let refused = open(&nowhere, Lab::sealer()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
}

/// Who has the file without the key learns neither who is in it nor a secret.
#[tokio::test]
async fn nothing_of_a_person_is_in_the_bytes() {
    let mut lab = Lab::embedded().await;
    let made = lab.login(Login::of(1, 1)).await;
    let provider = ProviderRecord {
        name: "google".to_owned(),
        kind: "google".to_owned(),
        issuer: "https://accounts.example.test".to_owned(),
        client_id: "id".to_owned(),
        client_secret: "hush-hush-hush".to_owned(),
        scopes: Vec::new(),
        created_at: lab.at(0),
    };
    lab.store().put_provider(provider).await.unwrap();
    let value = b"pkce-verifier-and-nonce".to_vec();
    let put = lab
        .store()
        .put_once(OnceKind::Login, [1; 32], value, lab.at(60));
    put.await.unwrap();
    let mut order = lab.order(Scope::User(made.user));
    order.reason = "stolen laptop of person one".to_owned();
    lab.store().revoke(order).await.unwrap();
    lab.login(Login::of(1, 1)).await;
    lab.close();

    let bytes = std::fs::read(lab.file()).unwrap();
    let holds = |text: &str| {
        bytes
            .windows(text.len())
            .any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
    };
    let claims = claims(1);
    assert!(holds("sessions by user"), "the search works");
    for secret in [
        claims.email.as_deref().unwrap(),
        &claims.subject,
        claims.name.as_deref().unwrap(),
        "192.0.2.7",
        "Mozilla",
        "hush-hush",
        "pkce-verifier",
        "stolen laptop",
    ] {
        assert!(!holds(secret), "{secret}");
    }
    // Not even whether somebody is in it can be tried out.
    let guess = [claims.issuer.as_str(), &claims.subject].concat();
    let guess = secret::sha256(guess.as_bytes());
    assert!(!bytes.windows(32).any(|window| window == guess));
}

/// The edge is killed between two writes: what was answered is there, revoked stays revoked.
#[tokio::test]
async fn a_killed_edge_loses_nothing_that_was_answered() {
    let mut lab = Lab::embedded().await;
    let kept = lab.login(Login::of(1, 1)).await;
    let gone = lab.login(Login::of(2, 1)).await;
    for round in 0..5 {
        let extra = lab.login(Login::of(3, round)).await;
        lab.revoke(Scope::Session(extra.id)).await;
        if round == 2 {
            lab.revoke(Scope::Session(gone.id)).await;
        }
        // The file as a killed process leaves it: never closed, its cache lost.
        let image = lab.folder().join(format!("image {round}"));
        std::fs::copy(lab.file(), &image).unwrap();
        let after = Lab::open_other(&image).await;
        let load = async |id| after.load_session(id).await.unwrap();
        assert!(matches!(load(kept.id).await, Loaded::Live { .. }));
        assert!(matches!(load(extra.id).await, Loaded::Ended(_)));
        assert_eq!(matches!(load(gone.id).await, Loaded::Ended(_)), round >= 2);
        let head = after.read_log(Shard::People(0), Revision(u64::MAX), Duration::ZERO);
        assert_eq!(head.await.unwrap().head, lab.head().await);
    }
}

/// Changes without a sync of their own are on disk soon after, without anybody asking.
#[tokio::test]
async fn lazy_changes_are_synced_by_themselves() {
    let mut lab = Lab::embedded().await;
    let made = lab.login(Login::of(1, 1)).await;
    lab.store()
        .touch(vec![(made.id, lab.at(40))])
        .await
        .unwrap();
    let deadline = crate::clock::Clock.monotonic() + Duration::from_secs(20);
    for attempt in 0.. {
        let image = lab.folder().join(format!("image {attempt}"));
        std::fs::copy(lab.file(), &image).unwrap();
        let after = Lab::open_other(&image).await;
        let seen = after.session(made.id, lab.at(41)).await.unwrap().unwrap();
        if seen.last_active == lab.at(40) {
            return;
        }
        assert!(crate::clock::Clock.monotonic() < deadline);
        drop(after);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Entries older than a day go once there are enough newer ones, and who needed them is told.
#[tokio::test]
async fn a_trimmed_log_is_a_gap() {
    let mut lab = Lab::embedded().await;
    for _ in 0..=KEPT_ENTRIES {
        lab.login(Login::of(1, 1)).await;
    }
    let head = lab.head().await;
    assert_eq!(head.0, KEPT_ENTRIES + 1);
    let now = crate::clock::Clock.now();
    let sweep = async |hours| {
        let at = now + jiff::SignedDuration::from_hours(hours);
        lab.store().sweep(at).await.unwrap()
    };
    let read = async |after| {
        let store = lab.store();
        let read = store.read_log(Shard::People(0), Revision(after), Duration::ZERO);
        read.await.unwrap()
    };
    sweep(23).await;
    assert!(!read(0).await.gap);
    sweep(25).await;
    assert!(read(0).await.gap);
    let rest = read(1).await;
    assert!(!rest.gap);
    assert_eq!(rest.entries.len() as u64, KEPT_ENTRIES);
    assert_eq!(rest.head, head);
    // Revisions go on from where they were.
    lab.reopen().await;
    assert_eq!(lab.login(Login::of(1, 1)).await.revision.0, head.0 + 1);
}
