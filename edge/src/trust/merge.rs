//! Merging what is learnt of a session: forward only, so that replays, late loads and reordering do no
//! harm, and marks compared by revision, so that no clock takes part.

use crate::model::change::{Revision, Scope};
use crate::model::session::{Session, SessionState};

/// Merges what was learnt; true when the state moved.
pub(crate) fn merge(state: &mut SessionState, learnt: SessionState) -> bool {
    let forward = match (&*state, &learnt) {
        (SessionState::Loading, SessionState::Active(_) | SessionState::Revoked(_))
        | (SessionState::Active(_), SessionState::Revoked(_)) => true,
        (
            SessionState::Loading | SessionState::Active(_) | SessionState::Revoked(_),
            SessionState::Loading,
        )
        | (SessionState::Active(_), SessionState::Active(_))
        | (SessionState::Revoked(_), SessionState::Active(_) | SessionState::Revoked(_)) => false,
    };
    if forward {
        *state = learnt;
    }
    forward
}

/// Whether a revocation of `scope`, logged at `revision`, ends what is known of a session.
///
/// While the record is being read only the session's own tombstone can say so: marks are compared
/// with the record when it comes ([`ends_record`]).
pub(crate) fn ends(state: &SessionState, scope: &Scope, revision: Revision) -> bool {
    match state {
        SessionState::Loading => matches!(scope, Scope::Session(_)),
        SessionState::Active(session) => ends_record(session, scope, revision),
        SessionState::Revoked(_) => false,
    }
}

/// Whether a revocation of `scope`, logged at `revision`, covers a session: it must be of the scope
/// and not younger than the revocation.
pub(crate) fn ends_record(session: &Session, scope: &Scope, revision: Revision) -> bool {
    let is_of_scope = match scope {
        Scope::Session(id) => session.id == *id,
        Scope::User(id) => session.user == *id,
        Scope::Endpoint(id) => session.endpoint == *id,
        Scope::Provider(name) => session.provider == *name,
        Scope::All => true,
    };
    is_of_scope && session.revision <= revision
}

#[cfg(test)]
mod tests;
