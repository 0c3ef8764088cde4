//! From a table of routes to a door: the only way to serve an admin path. The door's check is laid
//! around every route that does not say openly that it needs nobody, unknown paths included.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::HeaderMap;
use proto::code::Code;
use serde::Serialize;

use super::error::{self, AdminError};
use super::{Admin, check, dashboard};

/// Where a request came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Door {
    Api,
    Dashboard,
    Socket,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Needs {
    /// An API key, at the API.
    ApiKey,
    /// A signed-in operator, at the dashboard.
    Operator,
    /// This machine's user, at the socket: its listener has seen to that.
    Owner,
    /// Nobody: what a browser must reach in order to sign in.
    Nobody,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verb {
    Get,
    Post,
    Delete,
}

/// A line of a door's table as `edge docs routes` prints it, so that whoever checks the doors from
/// outside walks what the router was built from.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RouteView {
    door: Door,
    method: Verb,
    path: &'static str,
    needs: Needs,
}

/// Every route of every door.
pub(crate) fn all() -> Vec<RouteView> {
    let doors = [
        (Door::Api, super::api::routes()),
        (Door::Dashboard, dashboard::routes()),
        (Door::Socket, super::socket::routes()),
    ];
    let views = doors.into_iter().flat_map(|(door, routes)| {
        routes.into_iter().map(move |route| RouteView {
            door,
            method: route.verb,
            path: route.path,
            needs: route.needs,
        })
    });
    views.collect()
}

/// One line of a door's table.
pub(super) struct Route {
    pub(super) verb: Verb,
    pub(super) path: &'static str,
    pub(super) needs: Needs,
    handler: MethodRouter<Arc<Admin>>,
}

impl Route {
    pub(super) fn new<H, T>(verb: Verb, path: &'static str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, Arc<Admin>>,
        T: 'static,
    {
        let filter = match verb {
            Verb::Get => MethodFilter::GET,
            Verb::Post => MethodFilter::POST,
            Verb::Delete => MethodFilter::DELETE,
        };
        Self {
            verb,
            path,
            needs,
            handler: on(filter, handler),
        }
    }
}

impl Door {
    /// What a route of this door must need, unless it needs nobody.
    const fn needs(self) -> Needs {
        match self {
            Self::Api => Needs::ApiKey,
            Self::Dashboard => Needs::Operator,
            Self::Socket => Needs::Owner,
        }
    }

    /// Headers of every answer.
    pub(super) fn headers(self, headers: &mut HeaderMap) {
        headers.insert(
            http::header::X_CONTENT_TYPE_OPTIONS,
            http::HeaderValue::from_static("nosniff"),
        );
        if self == Self::Dashboard {
            dashboard::headers(headers);
        }
    }
}

/// Builds a door from its table.
pub(super) fn build(admin: &Arc<Admin>, door: Door, routes: Vec<Route>) -> Router {
    let mut guarded: Router<Arc<Admin>> = Router::new().fallback(unknown_path);
    let mut open: Router<Arc<Admin>> = Router::new();
    for route in routes {
        debug_assert!(route.needs == door.needs() || route.needs == Needs::Nobody);
        if route.needs == Needs::Nobody {
            open = open.route(route.path, route.handler);
        } else {
            guarded = guarded.route(route.path, route.handler);
        }
    }
    let guarded = match door {
        Door::Api => guarded.layer(from_fn_with_state(Arc::clone(admin), check::api_key)),
        Door::Dashboard => guarded.layer(from_fn_with_state(Arc::clone(admin), check::operator)),
        // Its listener accepts this machine's user only.
        Door::Socket => guarded,
    };
    let mut all = guarded.merge(open);
    if door == Door::Dashboard {
        all = all.layer(from_fn_with_state(Arc::clone(admin), check::same_origin));
    }
    all.layer(from_fn_with_state((Arc::clone(admin), door), error::finish))
        .with_state(Arc::clone(admin))
}

async fn unknown_path() -> AdminError {
    AdminError::new(Code::UnknownPath)
}
