//! Authtokens and API keys as text.
//!
//! An authtoken is all that a machine needs: it names itself, carries its secret, says where the edges
//! are and pins the CA that signs their link certificates. `sp_at_<ksuid>_<secret>.<JSON>`, the last
//! two in unpadded base64url. Only the secret travels, and only after the edge proved itself. An API
//! key is `sp_ak_<ksuid>_<secret>`: the prefixes tell them apart, so each mix-up has its own sentence.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv6Addr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::code::Code;
use crate::id::{ApiKeyId, AuthtokenId, Id, Kind};
use crate::limits;

/// What an agent authenticates with, as the edge printed it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authtoken {
    /// Its lasting name. No secret.
    pub id: AuthtokenId,
    /// What proves it.
    pub secret: TokenSecret,
    /// Where the edges are, as `host:port`.
    pub addrs: Vec<String>,
    /// The name in the edges' link certificates.
    pub server_name: String,
    /// The link CA's Ed25519 public key, raw.
    pub link_ca_key: [u8; 32],
}

/// 32 random bytes that prove an authtoken or an API key. Never printed by `Debug`.
#[derive(Clone)]
pub struct TokenSecret([u8; 32]);

/// What follows the dot. Unknown fields are ignored, so that later edges may add some.
#[derive(Deserialize, Serialize)]
struct Pinned {
    addrs: Vec<String>,
    name: String,
    ca: String,
}

impl Authtoken {
    /// Parses the text, white space around it ignored.
    ///
    /// # Errors
    /// [`Code::AuthtokenIsApiKey`] for an API key, else [`Code::AuthtokenMalformed`].
    pub fn parse(text: &str) -> Result<Self, Code> {
        let text = text.trim();
        if is_api_key(text) {
            return Err(Code::AuthtokenIsApiKey);
        }
        Self::parse_text(text).ok_or(Code::AuthtokenMalformed)
    }

    fn parse_text(text: &str) -> Option<Self> {
        if text.len() > limits::AUTHTOKEN_BYTES_MAX {
            return None;
        }
        let (token, pinned) = text.strip_prefix(AUTHTOKEN_PREFIX)?.split_once('.')?;
        let (id, secret) = parse_token(token)?;
        let pinned = URL_SAFE_NO_PAD.decode(pinned).ok()?;
        let pinned: Pinned = serde_json::from_slice(&pinned).ok()?;
        let usable = (1..=limits::AUTHTOKEN_ADDRS_MAX).contains(&pinned.addrs.len())
            && pinned.addrs.iter().all(|addr| is_addr(addr))
            && is_host(&pinned.name);
        if !usable {
            return None;
        }
        Some(Self {
            id,
            secret,
            addrs: pinned.addrs,
            server_name: pinned.name,
            link_ca_key: decode_32(&pinned.ca)?,
        })
    }

    /// The text, secret included: shown once, written to a file of mode 0600, never logged.
    pub fn to_text(&self) -> String {
        let pinned = Pinned {
            addrs: self.addrs.clone(),
            name: self.server_name.clone(),
            ca: URL_SAFE_NO_PAD.encode(self.link_ca_key),
        };
        // Strings and a list always serialise.
        let pinned = serde_json::to_vec(&pinned).unwrap_or_default();
        let pinned = URL_SAFE_NO_PAD.encode(pinned);
        format!(
            "{AUTHTOKEN_PREFIX}{}_{}.{pinned}",
            self.id.ksuid(),
            self.secret.to_text()
        )
    }
}

impl TokenSecret {
    /// Takes 32 bytes from a good source of randomness.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Parses the text form: 43 characters of unpadded base64url.
    pub fn parse(text: &str) -> Option<Self> {
        decode_32(text).map(Self)
    }

    /// The bytes: the caller must not log them, and stores only their hash.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text form, as secret as the bytes.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

impl PartialEq for TokenSecret {
    /// Looks at every byte, wherever the first difference is.
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}
impl Eq for TokenSecret {}

impl Serialize for TokenSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for TokenSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a secret"))
    }
}

/// Parses an API key's text, white space around it ignored.
///
/// # Errors
/// [`Code::ApiKeyIsAuthtoken`] for an authtoken, else [`Code::ApiKeyInvalid`].
pub fn parse_api_key(text: &str) -> Result<(ApiKeyId, TokenSecret), Code> {
    let text = text.trim();
    if text.starts_with(AUTHTOKEN_PREFIX) {
        return Err(Code::ApiKeyIsAuthtoken);
    }
    let token = text.strip_prefix(API_KEY_PREFIX);
    token.and_then(parse_token).ok_or(Code::ApiKeyInvalid)
}

/// An API key's text, secret included: shown once, never logged.
pub fn api_key_text(id: ApiKeyId, secret: &TokenSecret) -> String {
    format!("{API_KEY_PREFIX}{}_{}", id.ksuid(), secret.to_text())
}

/// Whether a text was meant as an API key: its prefix, or an API key's id.
fn is_api_key(text: &str) -> bool {
    text.starts_with(API_KEY_PREFIX) || ApiKeyId::parse(text).is_ok()
}

/// `<ksuid>_<secret>`. Base62 has no underscore, base64url has one: the first separates.
fn parse_token<K: Kind>(token: &str) -> Option<(Id<K>, TokenSecret)> {
    let (ksuid, secret) = token.split_once('_')?;
    let id = Id::parse(&[K::PREFIX, ksuid].concat()).ok()?;
    Some((id, TokenSecret::parse(secret)?))
}

fn decode_32(text: &str) -> Option<[u8; 32]> {
    if text.len() != 43 {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Whether a text is `host:port`, the host a name, an IPv4 address or an IPv6 address in brackets.
pub fn is_addr(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_host = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_host(host),
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && is_port && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= limits::HOST_BYTES_MAX && name.split('.').all(is_label)
}

/// What an authtoken's text begins with.
pub const AUTHTOKEN_PREFIX: &str = "sp_at_";
/// What an API key's text begins with.
pub const API_KEY_PREFIX: &str = "sp_ak_";
