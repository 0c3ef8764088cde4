//! Endpoints and the hosts that they hold.

use proto::id::{AuthtokenId, EndpointId};
use proto::limits::ENDPOINTS_MAX;
use redb::{ReadableTable as _, ReadableTableMetadata as _};

use super::super::{Claimed, Shard, StoreError};
use super::fail::Fail;
use super::table::{AUTHTOKENS, Commit, ENDPOINTS, ENDPOINTS_BY_AUTHTOKEN, HOSTS, View, Writing};
use crate::model::change::Change;
use crate::model::credential::AuthtokenRecord;
use crate::model::endpoint::Endpoint;

pub(super) fn endpoint(view: &impl View, id: EndpointId) -> Result<Option<Endpoint>, Fail> {
    view.record(ENDPOINTS, id.to_bytes())
}

pub(super) fn endpoint_at(view: &impl View, host: &str) -> Result<Option<Endpoint>, Fail> {
    let id = view.table(HOSTS)?.get(host)?.map(|id| *id.value());
    match id {
        Some(id) => view.record(ENDPOINTS, id),
        None => Ok(None),
    }
}

pub(super) fn endpoints(view: &impl View) -> Result<Vec<Endpoint>, Fail> {
    view.records(ENDPOINTS)
}

/// The endpoints of an authtoken, oldest first.
pub(super) fn endpoints_of(
    view: &impl View,
    authtoken: AuthtokenId,
) -> Result<Vec<Endpoint>, Fail> {
    let authtoken = authtoken.to_bytes();
    let mut found = Vec::new();
    for row in view
        .table(ENDPOINTS_BY_AUTHTOKEN)?
        .range((&authtoken, &[0; 20])..=(&authtoken, &[0xff; 20]))?
    {
        let id = EndpointId::from_bytes(*row?.0.value().1);
        found.extend(endpoint(view, id)?);
    }
    Ok(found)
}

/// Claims a host, or updates the claim.
pub(super) fn claim(tx: &mut Writing<'_>, claim: &Endpoint) -> Result<(Claimed, Commit), Fail> {
    let authtoken: Option<AuthtokenRecord> = tx.record(AUTHTOKENS, claim.authtoken.to_bytes())?;
    if authtoken.is_some_and(|authtoken| authtoken.revoked_at.is_some()) {
        return Err(StoreError::RevokedMeanwhile.into());
    }
    let holder = tx
        .table(HOSTS)?
        .get(claim.host.as_str())?
        .map(|id| *id.value());
    let held = match holder {
        Some(id) => tx.record::<Endpoint>(ENDPOINTS, id)?,
        None => None,
    };
    let endpoint = match held {
        Some(held) if held.authtoken != claim.authtoken => {
            return Ok((Claimed::Taken, Commit::Not));
        }
        Some(held) => {
            let endpoint = Endpoint {
                id: held.id,
                created_at: held.created_at,
                ..claim.clone()
            };
            if endpoint == held {
                return Ok((Claimed::Held(held), Commit::Not));
            }
            endpoint
        }
        None => {
            if tx.table(ENDPOINTS)?.len()? >= ENDPOINTS_MAX as u64 {
                return Err(StoreError::Full(None).into());
            }
            claim.clone()
        }
    };
    let id = endpoint.id.to_bytes();
    tx.put(ENDPOINTS, id, &endpoint)?;
    tx.table(HOSTS)?.insert(endpoint.host.as_str(), &id)?;
    tx.table(ENDPOINTS_BY_AUTHTOKEN)?
        .insert((&endpoint.authtoken.to_bytes(), &id), ())?;
    tx.append(
        Shard::Shared,
        &Change::EndpointChanged {
            endpoint: endpoint.id,
        },
    )?;
    Ok((Claimed::Held(endpoint), Commit::Now))
}

/// Removes the endpoints of an authtoken and gives their ids.
pub(super) fn remove_of(
    tx: &mut Writing<'_>,
    authtoken: AuthtokenId,
) -> Result<Vec<EndpointId>, Fail> {
    let authtoken = authtoken.to_bytes();
    let mut ids = Vec::new();
    for row in tx
        .table(ENDPOINTS_BY_AUTHTOKEN)?
        .range((&authtoken, &[0; 20])..=(&authtoken, &[0xff; 20]))?
    {
        ids.push(EndpointId::from_bytes(*row?.0.value().1));
    }
    for id in &ids {
        if let Some(endpoint) = endpoint(tx, *id)? {
            tx.table(HOSTS)?.remove(endpoint.host.as_str())?;
        }
        tx.table(ENDPOINTS)?.remove(&id.to_bytes())?;
        tx.table(ENDPOINTS_BY_AUTHTOKEN)?
            .remove((&authtoken, &id.to_bytes()))?;
        tx.append(Shard::Shared, &Change::EndpointRemoved { endpoint: *id })?;
    }
    Ok(ids)
}
