//! What the dashboard's forms do: ask, revoke, and lead to the receipt.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use proto::id::{SessionId, UserId};

use super::rendered;
use super::users::{self, Wanted, session_id, user_id};
use crate::admin::Admin;
use crate::admin::check::{CheckedForm, Operator};
use crate::admin::error::AdminError;
use crate::admin::params::REASON_CHARS_MAX;
use crate::model::change::Scope;

/// A question before something is done.
pub(super) struct Question {
    pub(super) title: &'static str,
    pub(super) text: &'static str,
    pub(super) button: &'static str,
}

/// A question that is being asked, on a page of its own.
pub(super) struct Confirm {
    pub(super) question: &'static Question,
    pub(super) action: String,
    pub(super) back: String,
}

pub(super) static DELETE: Question = Question {
    title: "Delete this person?",
    text: "All their sessions end now, on every edge, and what they have open is cut. They may sign in again: this is not a block.",
    button: "Delete and sign out",
};
pub(super) static END: Question = Question {
    title: "End all sessions?",
    text: "The person is signed out everywhere, and what they have open is cut. They stay in the list and may sign in again.",
    button: "End all sessions",
};
pub(super) static REVOKE: Question = Question {
    title: "Revoke this session?",
    text: "This browser is signed out of this endpoint now, and what it has open is cut. The person may sign in again.",
    button: "Revoke",
};

pub(super) async fn confirm_delete(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Path(user): Path<String>,
) -> Result<Response, AdminError> {
    let user = user_id(&user)?;
    ask(
        &admin,
        operator,
        user,
        None,
        &DELETE,
        format!("/users/{user}/delete"),
    )
    .await
}

pub(super) async fn confirm_end(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Path(user): Path<String>,
) -> Result<Response, AdminError> {
    let user = user_id(&user)?;
    ask(
        &admin,
        operator,
        user,
        None,
        &END,
        format!("/users/{user}/end"),
    )
    .await
}

pub(super) async fn confirm_revoke(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Path((user, session)): Path<(String, String)>,
) -> Result<Response, AdminError> {
    let (user, session) = (user_id(&user)?, session_id(&session)?);
    let action = format!("/users/{user}/sessions/{session}/revoke");
    ask(&admin, operator, user, Some(session), &REVOKE, action).await
}

async fn ask(
    admin: &Arc<Admin>,
    operator: Operator,
    user: UserId,
    session: Option<SessionId>,
    question: &'static Question,
    action: String,
) -> Result<Response, AdminError> {
    let mut page = users::page(admin, operator, Wanted::default(), Some(user), session).await?;
    page.confirm = Some(Confirm {
        question,
        action,
        back: format!("/users/{user}"),
    });
    rendered(&page)
}

/// The person goes from the list, with all sessions.
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Path(user): Path<String>,
    Extension(form): Extension<CheckedForm>,
) -> Result<Response, AdminError> {
    act(&admin, Scope::User(user_id(&user)?), &form, true, "/").await
}

/// All sessions of a person end; the person stays in the list.
pub(super) async fn end(
    State(admin): State<Arc<Admin>>,
    Path(user): Path<String>,
    Extension(form): Extension<CheckedForm>,
) -> Result<Response, AdminError> {
    let user = user_id(&user)?;
    act(
        &admin,
        Scope::User(user),
        &form,
        false,
        &format!("/users/{user}"),
    )
    .await
}

pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    Path((user, session)): Path<(String, String)>,
    Extension(form): Extension<CheckedForm>,
) -> Result<Response, AdminError> {
    let (user, session) = (user_id(&user)?, session_id(&session)?);
    act(
        &admin,
        Scope::Session(session),
        &form,
        false,
        &format!("/users/{user}"),
    )
    .await
}

async fn act(
    admin: &Arc<Admin>,
    scope: Scope,
    form: &CheckedForm,
    delete_user: bool,
    then: &str,
) -> Result<Response, AdminError> {
    let reason: String = form
        .value("reason")
        .unwrap_or_default()
        .chars()
        .take(REASON_CHARS_MAX)
        .collect();
    let receipt = admin
        .revoke(scope, reason, delete_user)
        .await?
        .ok_or(AdminError::not_found())?;
    Ok(Redirect::to(&format!("{then}?receipt={}", receipt.id)).into_response())
}
