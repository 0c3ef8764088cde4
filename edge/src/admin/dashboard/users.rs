//! App Users: the list, a person with the endpoints they signed in to, and one session's context.
//! One page in up to three panes, each with an address of its own.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use proto::id::{EndpointId, ReceiptId, SessionId, UserId};

use super::act::{self, Confirm, Question};
use super::rendered;
use super::show::{Context, EndpointRow, Person, Shown, UserRow};
use crate::admin::Admin;
use crate::admin::check::Operator;
use crate::admin::error::AdminError;
use crate::model::user::User;
use crate::store::{Page, SessionFilter};

/// The page, with as many panes as are opened.
#[derive(Template)]
#[template(path = "dashboard/users.html")]
pub(super) struct UsersPage {
    csrf: String,
    users: Vec<UserRow>,
    /// Appended to links, so that the list stays where it is.
    keep: String,
    is_first_page: bool,
    older: Option<String>,
    person: Option<Person>,
    endpoints: Vec<EndpointRow>,
    has_more_endpoints: bool,
    context: Option<Context>,
    receipt: Option<Shown>,
    tunnels: u64,
    providers: usize,
    auth_url: String,
    /// What is asked before something is done, where no script shows a dialog.
    pub(super) confirm: Option<Confirm>,
}

impl UsersPage {
    fn delete() -> &'static Question {
        &act::DELETE
    }

    fn end() -> &'static Question {
        &act::END
    }

    fn revoke() -> &'static Question {
        &act::REVOKE
    }
}

/// What a page's query says.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    before: Option<UserId>,
    receipt: Option<ReceiptId>,
}

impl Wanted {
    /// Unusable values are left out: these are links of our own.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let mut wanted = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*key {
                "before" => wanted.before = UserId::parse(&value).ok(),
                "receipt" => wanted.receipt = ReceiptId::parse(&value).ok(),
                _ => {}
            }
        }
        wanted
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    RawQuery(query): RawQuery,
) -> Result<Response, AdminError> {
    rendered(
        &page(
            &admin,
            operator,
            Wanted::parse(query.as_deref()),
            None,
            None,
        )
        .await?,
    )
}

pub(super) async fn person(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Path(user): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, AdminError> {
    let user = user_id(&user)?;
    rendered(
        &page(
            &admin,
            operator,
            Wanted::parse(query.as_deref()),
            Some(user),
            None,
        )
        .await?,
    )
}

pub(super) async fn session(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Path((user, session)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, AdminError> {
    let (user, session) = (user_id(&user)?, session_id(&session)?);
    rendered(
        &page(
            &admin,
            operator,
            Wanted::parse(query.as_deref()),
            Some(user),
            Some(session),
        )
        .await?,
    )
}

pub(super) fn user_id(text: &str) -> Result<UserId, AdminError> {
    UserId::parse(text).map_err(|_| AdminError::not_found())
}

pub(super) fn session_id(text: &str) -> Result<SessionId, AdminError> {
    SessionId::parse(text).map_err(|_| AdminError::not_found())
}

/// Reads what the panes show.
pub(super) async fn page(
    admin: &Arc<Admin>,
    operator: Operator,
    wanted: Wanted,
    user: Option<UserId>,
    session: Option<SessionId>,
) -> Result<UsersPage, AdminError> {
    let (store, now) = (&admin.parts.store, admin.parts.clock.now());
    let presence = admin.presence();
    let mut found = store
        .users(Page {
            before: wanted.before,
            limit: USERS_SHOWN + 1,
        })
        .await?;
    let has_more = found.len() > USERS_SHOWN;
    found.truncate(USERS_SHOWN);
    let older = found
        .last()
        .filter(|_| has_more)
        .map(|last| format!("/?before={}", last.id));
    let mut users = Vec::with_capacity(found.len());
    for row in &found {
        users.push(UserRow::new(
            row,
            session_count(admin, row).await?,
            user == Some(row.id),
            now,
        ));
    }
    let mut page = UsersPage {
        csrf: operator.csrf,
        users,
        keep: wanted
            .before
            .map_or_else(String::new, |before| format!("?before={before}")),
        is_first_page: wanted.before.is_none(),
        older,
        person: None,
        endpoints: Vec::new(),
        has_more_endpoints: false,
        context: None,
        receipt: None,
        tunnels: presence.tunnels,
        providers: store.providers().await?.len(),
        auth_url: admin.parts.site.url(crate::model::site::ReservedHost::Auth),
        confirm: None,
    };
    if let Some(id) = wanted.receipt {
        page.receipt = store
            .receipt(id)
            .await?
            .map(|receipt| Shown::new(&receipt, now));
    }
    let Some(user) = user else { return Ok(page) };
    let person = store.user(user).await?.ok_or(AdminError::not_found())?;
    page.person = Some(Person::new(person, now));
    let filter = SessionFilter {
        user: Some(user),
        endpoint: None,
    };
    let mut sessions = store
        .sessions(
            filter,
            Page {
                before: None,
                limit: SESSIONS_SHOWN + 1,
            },
            now,
        )
        .await?;
    page.has_more_endpoints = sessions.len() > SESSIONS_SHOWN;
    sessions.truncate(SESSIONS_SHOWN);
    let is_online = |id: &EndpointId| presence.online.contains(id);
    for seen in &sessions {
        let id = seen.session.id;
        page.endpoints.push(EndpointRow::new(
            seen,
            is_online(&seen.session.endpoint),
            session == Some(id),
            now,
        ));
    }
    if let Some(session) = session {
        let seen = store
            .session(session, now)
            .await?
            .filter(|seen| seen.session.user == user);
        page.context = Some(Context::new(
            admin,
            seen.ok_or(AdminError::not_found())?,
            now,
        ));
    }
    Ok(page)
}

/// How many sessions a person has, up to what a glance needs.
async fn session_count(admin: &Arc<Admin>, user: &User) -> Result<String, AdminError> {
    let filter = SessionFilter {
        user: Some(user.id),
        endpoint: None,
    };
    let page = Page {
        before: None,
        limit: SESSIONS_COUNTED + 1,
    };
    let count = admin
        .parts
        .store
        .sessions(filter, page, admin.parts.clock.now())
        .await?
        .len();
    Ok(if count > SESSIONS_COUNTED {
        format!("{SESSIONS_COUNTED}+")
    } else {
        count.to_string()
    })
}

const USERS_SHOWN: usize = 25;
const SESSIONS_SHOWN: usize = 100;
const SESSIONS_COUNTED: usize = 9;
