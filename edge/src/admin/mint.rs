//! Makes what people and machines authenticate with: secrets of 256 random bits, of which the store
//! only ever gets a hash. The text with the secret is given once, to whoever asked.

use jiff::{SignedDuration, Timestamp};
use proto::authtoken::{Authtoken, TokenSecret, api_key_text};
use proto::id::OperatorId;

use super::views::{FreshCredential, OperatorLink, time};
use super::{Admin, check};
use crate::model::credential::{ApiKeyRecord, AuthtokenRecord, OperatorRecord};
use crate::model::site::ReservedHost;
use crate::secret::{Secret, new_id, random, sha256};
use crate::store::{OnceKind, StoreError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

impl Admin {
    /// Makes an authtoken for agents.
    pub(super) async fn mint_authtoken(
        &self,
        description: String,
    ) -> Result<FreshCredential, StoreError> {
        let issuer = &self.parts.issuer;
        let token = Authtoken {
            id: new_id(self.parts.clock.unix_ms()),
            secret: TokenSecret::new(random()),
            addrs: issuer.addrs.clone(),
            server_name: issuer.server_name.clone(),
            link_ca_key: issuer.link_ca_key,
        };
        let record = AuthtokenRecord {
            id: token.id,
            secret_hash: sha256(token.secret.expose()),
            description: description.clone(),
            created_at: self.parts.clock.now(),
            revoked_at: None,
        };
        let created_at = time(record.created_at);
        self.parts.store.put_authtoken(record).await?;
        Ok(FreshCredential {
            id: token.id.to_string(),
            token: token.to_text(),
            description,
            created_at,
        })
    }

    /// Makes an API key.
    pub(super) async fn mint_api_key(
        &self,
        description: String,
    ) -> Result<FreshCredential, StoreError> {
        let secret = TokenSecret::new(random());
        let record = ApiKeyRecord {
            id: new_id(self.parts.clock.unix_ms()),
            secret_hash: sha256(secret.expose()),
            description: description.clone(),
            created_at: self.parts.clock.now(),
            revoked_at: None,
        };
        let (id, created_at) = (record.id, time(record.created_at));
        self.parts.store.put_api_key(record).await?;
        Ok(FreshCredential {
            id: id.to_string(),
            token: api_key_text(id, &secret),
            description,
            created_at,
        })
    }

    /// Makes a link that signs one browser in to the dashboard, once. The code stands in the fragment,
    /// so it reaches no server's log; a script of the page spends it by POST.
    pub(super) async fn mint_operator_link(&self) -> Result<OperatorLink, StoreError> {
        let code = URL_SAFE_NO_PAD.encode(random::<32>());
        let expires_at = self.after(LINK_LIFE);
        let key = sha256(code.as_bytes());
        self.parts
            .store
            .put_once(OnceKind::OperatorLink, key, LINK_VALUE.to_vec(), expires_at)
            .await?;
        let dashboard = self.parts.site.url(ReservedHost::Dashboard);
        Ok(OperatorLink {
            url: format!("{dashboard}/sign-in#{code}"),
            expires_at: time(expires_at),
        })
    }

    /// Spends a link's code; gives the cookie's value when it was good.
    pub(super) async fn spend_operator_link(
        &self,
        code: &str,
    ) -> Result<Option<Secret<String>>, StoreError> {
        let now = self.parts.clock.now();
        let spent = self
            .parts
            .store
            .take_once(OnceKind::OperatorLink, sha256(code.as_bytes()), now)
            .await?;
        if spent.is_none() {
            return Ok(None);
        }
        let (id, secret): (OperatorId, [u8; 32]) = (new_id(self.parts.clock.unix_ms()), random());
        let record = OperatorRecord {
            id,
            secret_hash: sha256(&secret),
            created_at: now,
            expires_at: self.after(SIGN_IN_LIFE),
        };
        self.parts.store.put_operator(record).await?;
        Ok(Some(check::cookie_value(id, &secret)))
    }

    fn after(&self, life: SignedDuration) -> Timestamp {
        let now = self.parts.clock.now();
        now.saturating_add(life).unwrap_or(now)
    }
}

/// The code is the proof; the value only has to be there.
const LINK_VALUE: &[u8] = b"operator";
/// Long enough to carry a link from a terminal to a browser.
const LINK_LIFE: SignedDuration = SignedDuration::from_mins(10);
/// A working day.
pub(super) const SIGN_IN_LIFE: SignedDuration = SignedDuration::from_hours(12);
