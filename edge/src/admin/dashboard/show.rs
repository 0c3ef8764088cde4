//! Values as people read them.

use std::sync::Arc;

use jiff::Timestamp;

use crate::admin::Admin;
use crate::admin::views::{degrees, provider_name, time};
use crate::model::change::Scope;
use crate::model::receipt::Receipt;
use crate::model::session::SessionSeen;
use crate::model::user::User;

/// A moment: exact for machines, relative for people.
pub(super) struct When {
    pub(super) exact: String,
    pub(super) relative: String,
}

/// An endpoint's host, in the parts that a line may be broken between.
pub(super) struct Host {
    pub(super) label: String,
    /// With the dot in front.
    pub(super) domain: String,
}

/// A line of the list of App Users.
pub(super) struct UserRow {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) email: String,
    pub(super) provider: String,
    pub(super) last_active: When,
    pub(super) sessions: String,
    pub(super) initial: String,
    pub(super) is_selected: bool,
}

/// A person, opened.
pub(super) struct Person {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) initial: String,
    pub(super) provider: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) username: String,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) is_email_verified: bool,
    pub(super) created_at: When,
    pub(super) last_login: When,
    pub(super) last_active: When,
}

/// A session among a person's endpoints.
pub(super) struct EndpointRow {
    pub(super) session: String,
    pub(super) host: Host,
    pub(super) browser: String,
    pub(super) last_active: When,
    pub(super) is_online: bool,
    pub(super) is_selected: bool,
}

/// The context of a session, opened.
pub(super) struct Context {
    pub(super) session: String,
    pub(super) url: String,
    pub(super) host: Host,
    pub(super) device: String,
    pub(super) system: String,
    pub(super) browser: String,
    pub(super) raw: String,
    pub(super) address: String,
    pub(super) network: String,
    pub(super) place: String,
    pub(super) coordinates: String,
    pub(super) created_at: When,
    pub(super) last_active: When,
    pub(super) expires_at: When,
}

/// What a revocation reached.
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) what: String,
    pub(super) reason: String,
    pub(super) is_complete: bool,
    pub(super) acknowledged: u32,
    pub(super) total: u32,
    pub(super) missing: Vec<String>,
    pub(super) sessions_ended: u64,
    pub(super) connections_cut: u64,
    pub(super) is_durable: bool,
    pub(super) elapsed_ms: u64,
    pub(super) created_at: When,
}

impl When {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        Self {
            exact: time(at),
            relative: relative(at.as_second() - now.as_second()),
        }
    }
}

/// `seconds` from now, or before now, in one unit.
fn relative(seconds: i64) -> String {
    let distance = seconds.unsigned_abs();
    let (count, unit) = match distance {
        0..45 => {
            return if seconds > 0 {
                "in a moment".to_owned()
            } else {
                "just now".to_owned()
            };
        }
        45..5_400 => (distance.div_ceil(60).max(1), "minute"),
        5_400..129_600 => ((distance + 1_800) / 3_600, "hour"),
        _ => ((distance + 43_200) / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if seconds > 0 {
        format!("in {count} {unit}{plural}")
    } else {
        format!("{count} {unit}{plural} ago")
    }
}

/// What a person is called: the first of name, e-mail, user name, subject that is there.
fn title(user: &User) -> String {
    let claims = &user.claims;
    [&claims.name, &claims.email, &claims.username]
        .into_iter()
        .find_map(|text| text.as_deref().filter(|text| !text.trim().is_empty()))
        .unwrap_or(&claims.subject)
        .to_owned()
}

fn initial(title: &str) -> String {
    title
        .chars()
        .find(|c| c.is_alphanumeric())
        .map_or_else(|| "?".to_owned(), |c| c.to_uppercase().collect())
}

impl UserRow {
    pub(super) fn new(user: &User, sessions: String, is_selected: bool, now: Timestamp) -> Self {
        let title = title(user);
        Self {
            id: user.id.to_string(),
            initial: initial(&title),
            title,
            email: user.claims.email.clone().unwrap_or_default(),
            provider: provider_name(&user.provider),
            last_active: When::new(user.last_active, now),
            sessions,
            is_selected,
        }
    }
}

impl Person {
    pub(super) fn new(user: User, now: Timestamp) -> Self {
        let title = title(&user);
        let claims = user.claims;
        Self {
            id: user.id.to_string(),
            initial: initial(&title),
            title,
            provider: provider_name(&user.provider),
            issuer: claims.issuer,
            subject: claims.subject,
            username: claims.username.unwrap_or_default(),
            name: claims.name.unwrap_or_default(),
            email: claims.email.unwrap_or_default(),
            is_email_verified: claims.email_verified,
            created_at: When::new(user.created_at, now),
            last_login: When::new(user.last_login, now),
            last_active: When::new(user.last_active, now),
        }
    }
}

impl EndpointRow {
    pub(super) fn new(
        seen: &SessionSeen,
        is_online: bool,
        is_selected: bool,
        now: Timestamp,
    ) -> Self {
        let session = &seen.session;
        let agent = &session.browser.user_agent;
        Self {
            session: session.id.to_string(),
            host: host(&session.public_url),
            browser: joined(
                &[&agent.browser_name, &agent.os_name],
                " on ",
                "Unknown browser",
            ),
            last_active: When::new(seen.last_active, now),
            is_online,
            is_selected,
        }
    }
}

impl Context {
    pub(super) fn new(admin: &Arc<Admin>, seen: SessionSeen, now: Timestamp) -> Self {
        let SessionSeen {
            session,
            last_active,
        } = seen;
        let agent = session.browser.user_agent;
        let unknown_place = if admin.parts.knows_places {
            "Not known for this address"
        } else {
            "Not known: set geoip in edge.yml to see places"
        };
        let place = session.browser.place.unwrap_or_default();
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let parts = [
            text(&place.city),
            text(&place.subdivision),
            text(&place.country_code),
        ];
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Self {
            session: session.id.to_string(),
            host: host(&session.public_url),
            url: session.public_url,
            device: joined(&[&agent.device_type], "", "Unknown"),
            system: joined(&[&agent.os_name, &agent.os_version], " ", "Unknown"),
            browser: joined(
                &[&agent.browser_name, &agent.browser_version],
                " ",
                "Unknown",
            ),
            raw: agent.raw,
            address: session.browser.address.to_string(),
            network: place.network.clone().unwrap_or_default(),
            place: joined(&parts, ", ", unknown_place),
            coordinates: match (place.latitude_micro, place.longitude_micro) {
                (Some(latitude), Some(longitude)) => {
                    let radius = place
                        .radius_km
                        .map_or_else(String::new, |km| format!(" ± {km} km"));
                    format!(
                        "{:.4}, {:.4}{radius}",
                        degrees(latitude),
                        degrees(longitude)
                    )
                }
                _ => String::new(),
            },
            created_at: When::new(session.created_at, now),
            last_active: When::new(last_active, now),
            expires_at: When::new(session.expires_at, now),
        }
    }
}

impl Shown {
    pub(super) fn new(receipt: &Receipt, now: Timestamp) -> Self {
        Self {
            id: receipt.id.to_string(),
            what: match &receipt.scope {
                Scope::Session(_) => "The session was revoked".to_owned(),
                Scope::User(_) => "All sessions of the person were revoked".to_owned(),
                Scope::Endpoint(_) => "All sessions of the endpoint were revoked".to_owned(),
                Scope::Provider(name) => {
                    format!("All sessions through {} were revoked", provider_name(name))
                }
                Scope::All => "All sessions were revoked".to_owned(),
            },
            reason: receipt.reason.clone(),
            is_complete: receipt.edges_missing.is_empty(),
            acknowledged: receipt.edges_acknowledged,
            total: receipt.edges_total,
            missing: receipt
                .edges_missing
                .iter()
                .map(ToString::to_string)
                .collect(),
            sessions_ended: receipt.sessions_ended,
            connections_cut: receipt.connections_cut,
            is_durable: receipt.durable,
            elapsed_ms: receipt.elapsed_ms,
            created_at: When::new(receipt.created_at, now),
        }
    }
}

fn host(url: &str) -> Host {
    let host = url.trim_start_matches("https://");
    let (label, domain) = host.split_at(host.find('.').unwrap_or(host.len()));
    Host {
        label: label.to_owned(),
        domain: domain.to_owned(),
    }
}

/// The parts that are there, or a word for none.
fn joined(parts: &[&str], with: &str, otherwise: &str) -> String {
    let there: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    if there.is_empty() {
        otherwise.to_owned()
    } else {
        there.join(with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_well() {
        for (seconds, text) in [
            (0, "just now"),
            (-44, "just now"),
            (-60, "1 minute ago"),
            (-61, "2 minutes ago"),
            (-3_600, "60 minutes ago"),
            (-7_200, "2 hours ago"),
            (86_400, "in 24 hours"),
            (-259_200, "3 days ago"),
            (30, "in a moment"),
        ] {
            assert_eq!(relative(seconds), text, "{seconds}");
        }
    }
}
