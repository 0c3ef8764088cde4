//! From stored registrations to providers that can be spoken to.

use crate::admin::{ProviderFound, ProviderWanted, VerifyProvider};
use crate::idp::{Http, IdentityProvider, IdpError, Preset, ProviderSettings, Providers};
use crate::model::credential::ProviderRecord;
use crate::secret::Secret;

/// Makes the registry hold exactly these. One that cannot be built is left out, loudly: its logins
/// fail, the others go on.
pub(crate) fn replace_all(providers: &Providers, http: &Http, records: Vec<ProviderRecord>) {
    for name in providers.names() {
        if !records.iter().any(|record| record.name == name) {
            providers.remove(&name);
        }
    }
    for record in records {
        let name = record.name.clone();
        match settings_of(record).and_then(|settings| IdentityProvider::new(settings, http)) {
            Ok(provider) => providers.replace(provider),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    provider = name,
                    "provider cannot be used"
                );
                providers.remove(&name);
            }
        }
    }
}

/// Tries a provider before it is stored: preset, settings, discovery.
pub(crate) fn verifier(http: Http) -> VerifyProvider {
    Box::new(move |wanted| {
        let http = http.clone();
        Box::pin(async move { verify(wanted, &http).await })
    })
}

async fn verify(wanted: ProviderWanted, http: &Http) -> Result<ProviderFound, String> {
    let kind = if wanted.issuer.is_some() && Preset::find(&wanted.name).is_err() {
        "oidc"
    } else {
        wanted.name.as_str()
    };
    let sentence = |error: IdpError| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    };
    let settings = ProviderSettings::resolve(
        &wanted.name,
        kind,
        wanted.issuer.as_deref(),
        &wanted.client_id,
        // Discovery sends no secret.
        Secret::new(String::new()),
        wanted.scopes,
    )
    .map_err(sentence)?;
    let provider = IdentityProvider::discover(settings, http)
        .await
        .map_err(sentence)?;
    Ok(ProviderFound {
        kind: kind.to_owned(),
        issuer: provider.settings().issuer.clone(),
    })
}

/// Whether anybody can get an account at a provider, so that an endpoint without an allow rule lets
/// strangers in.
pub(crate) fn is_public(record: &ProviderRecord) -> bool {
    settings_of(record.clone()).is_ok_and(|settings| settings.is_public())
}

fn settings_of(record: ProviderRecord) -> Result<ProviderSettings, IdpError> {
    ProviderSettings::resolve(
        &record.name,
        &record.kind,
        Some(&record.issuer),
        &record.client_id,
        Secret::new(record.client_secret),
        record.scopes,
    )
}
