//! The operator's socket: a Unix socket in the data folder that only this machine's user may use, so
//! that nothing else opens the embedded store. HTTP/1.1 and JSON.

mod credentials;
mod drain;
mod listen;
mod providers;
mod status;

pub(crate) use listen::{Listening, listen, path};

use super::api::revocations;
use super::routes::{Needs, Route, Verb};

/// Every route of the socket.
pub(super) fn routes() -> Vec<Route> {
    use Verb::{Delete, Get, Post};
    vec![
        Route::new(Get, "/status", Needs::Owner, status::status),
        Route::new(Post, "/drain", Needs::Owner, drain::drain),
        Route::new(Post, "/backups", Needs::Owner, status::backup),
        Route::new(Get, "/authtokens", Needs::Owner, credentials::authtokens),
        Route::new(
            Post,
            "/authtokens",
            Needs::Owner,
            credentials::create_authtoken,
        ),
        Route::new(
            Delete,
            "/authtokens/{id}",
            Needs::Owner,
            credentials::revoke_authtoken,
        ),
        Route::new(Get, "/api-keys", Needs::Owner, credentials::api_keys),
        Route::new(Post, "/api-keys", Needs::Owner, credentials::create_api_key),
        Route::new(
            Delete,
            "/api-keys/{id}",
            Needs::Owner,
            credentials::revoke_api_key,
        ),
        Route::new(
            Post,
            "/operator-links",
            Needs::Owner,
            credentials::create_operator_link,
        ),
        Route::new(Get, "/providers", Needs::Owner, providers::list),
        Route::new(Post, "/providers", Needs::Owner, providers::add),
        Route::new(Delete, "/providers/{name}", Needs::Owner, providers::remove),
        Route::new(Post, "/revocations", Needs::Owner, revocations::create),
        Route::new(Get, "/receipts/{id}", Needs::Owner, revocations::receipt),
    ]
}
