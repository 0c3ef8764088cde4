//! Authtokens, API keys, operators' sign-ins and identity providers.

use jiff::Timestamp;
use proto::id::{ApiKeyId, AuthtokenId, OperatorId};
use redb::{ReadableTable as _, TableHandle as _};

use super::super::{RevokeOrder, Shard};
use super::expiry::Expiring;
use super::fail::Fail;
use super::table::{API_KEYS, AUTHTOKENS, Commit, OPERATORS, PROVIDERS, View, Writing, micros};
use super::{endpoints, revoke};
use crate::clock::Clock;
use crate::model::change::{Change, Scope};
use crate::model::credential::{ApiKeyRecord, AuthtokenRecord, OperatorRecord, ProviderRecord};
use crate::model::session::CutReason;
use crate::secret;

pub(super) fn put_authtoken(
    tx: &Writing<'_>,
    record: &AuthtokenRecord,
) -> Result<((), Commit), Fail> {
    tx.put(AUTHTOKENS, record.id.to_bytes(), record)?;
    Ok(((), Commit::Now))
}

/// Revokes an authtoken with everything that it holds. Repeating it changes nothing.
pub(super) fn revoke_authtoken(
    tx: &mut Writing<'_>,
    id: AuthtokenId,
    at: Timestamp,
) -> Result<(bool, Commit), Fail> {
    let Some(record) = tx.record::<AuthtokenRecord>(AUTHTOKENS, id.to_bytes())? else {
        return Ok((false, Commit::Not));
    };
    if record.revoked_at.is_some() {
        return Ok((true, Commit::Not));
    }
    let revoked = AuthtokenRecord {
        revoked_at: Some(at),
        ..record
    };
    tx.put(AUTHTOKENS, id.to_bytes(), &revoked)?;
    tx.append(Shard::Shared, &Change::AuthtokenRevoked { authtoken: id })?;
    for endpoint in endpoints::remove_of(tx, id)? {
        let scope = Scope::Endpoint(endpoint);
        end(
            tx,
            scope,
            CutReason::AuthtokenRevoked,
            "authtoken revoked",
            at,
        )?;
    }
    Ok((true, Commit::Now))
}

pub(super) fn put_api_key(tx: &Writing<'_>, record: &ApiKeyRecord) -> Result<((), Commit), Fail> {
    tx.put(API_KEYS, record.id.to_bytes(), record)?;
    Ok(((), Commit::Now))
}

pub(super) fn revoke_api_key(
    tx: &mut Writing<'_>,
    id: ApiKeyId,
    at: Timestamp,
) -> Result<(bool, Commit), Fail> {
    let Some(record) = tx.record::<ApiKeyRecord>(API_KEYS, id.to_bytes())? else {
        return Ok((false, Commit::Not));
    };
    if record.revoked_at.is_some() {
        return Ok((true, Commit::Not));
    }
    let revoked = ApiKeyRecord {
        revoked_at: Some(at),
        ..record
    };
    tx.put(API_KEYS, id.to_bytes(), &revoked)?;
    tx.append(Shard::Shared, &Change::ApiKeyRevoked { api_key: id })?;
    Ok((true, Commit::Now))
}

/// Adds or replaces.
pub(super) fn put_provider(
    tx: &mut Writing<'_>,
    record: &ProviderRecord,
) -> Result<((), Commit), Fail> {
    let name = record.name.as_str();
    let sealed = tx.keys.seal(PROVIDERS.name(), name.as_bytes(), record)?;
    tx.table(PROVIDERS)?.insert(name, sealed.as_slice())?;
    let name = name.to_owned();
    tx.append(Shard::Shared, &Change::ProviderChanged { name })?;
    Ok(((), Commit::Now))
}

/// Every provider, by name.
pub(super) fn providers(view: &impl View) -> Result<Vec<ProviderRecord>, Fail> {
    let mut all = Vec::new();
    for row in view.table(PROVIDERS)?.iter()? {
        let (name, sealed) = row?;
        let name = name.value().as_bytes();
        all.push(view.keys().open(PROVIDERS.name(), name, sealed.value())?);
    }
    Ok(all)
}

/// Removes a provider and ends what it let in.
pub(super) fn remove_provider(tx: &mut Writing<'_>, name: String) -> Result<(bool, Commit), Fail> {
    if tx.table(PROVIDERS)?.remove(name.as_str())?.is_none() {
        return Ok((false, Commit::Not));
    }
    let scope = Scope::Provider(name.clone());
    tx.append(Shard::Shared, &Change::ProviderRemoved { name })?;
    let reason = "identity provider removed";
    end(tx, scope, CutReason::PolicyChanged, reason, Clock.now())?;
    Ok((true, Commit::Now))
}

pub(super) fn put_operator(
    tx: &Writing<'_>,
    record: &OperatorRecord,
) -> Result<((), Commit), Fail> {
    let id = record.id.to_bytes();
    tx.put(OPERATORS, id, record)?;
    tx.expires(micros(record.expires_at), &Expiring::Operator(id))?;
    Ok(((), Commit::Now))
}

pub(super) fn operator(
    view: &impl View,
    id: OperatorId,
    now: Timestamp,
) -> Result<Option<OperatorRecord>, Fail> {
    let found: Option<OperatorRecord> = view.record(OPERATORS, id.to_bytes())?;
    Ok(found.filter(|operator| operator.expires_at > now))
}

pub(super) fn remove_operator(tx: &Writing<'_>, id: OperatorId) -> Result<((), Commit), Fail> {
    let Some(record) = tx.record::<OperatorRecord>(OPERATORS, id.to_bytes())? else {
        return Ok(((), Commit::Not));
    };
    tx.table(OPERATORS)?.remove(&id.to_bytes())?;
    tx.expires_no_more(
        micros(record.expires_at),
        &Expiring::Operator(id.to_bytes()),
    )?;
    Ok(((), Commit::Now))
}

fn end(
    tx: &mut Writing<'_>,
    scope: Scope,
    cause: CutReason,
    reason: &str,
    at: Timestamp,
) -> Result<(), Fail> {
    let order = RevokeOrder {
        receipt: secret::new_id(Clock.unix_ms()),
        scope,
        cause,
        reason: reason.to_owned(),
        at,
        delete_user: false,
    };
    revoke::end_all(tx, &order)
}
