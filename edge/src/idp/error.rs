//! Why a provider could not be used, and what the person is told.

use proto::code::Code;

use super::http::HttpError;

/// Why a provider could not be used, or its answer not accepted. Holds no secret and no token; what a
/// provider could choose of it is printable ASCII and short.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum IdpError {
    /// A registration that cannot work.
    #[error("{0}")]
    Config(String),
    #[error("the identity provider cannot be reached")]
    Unreachable(#[source] HttpError),
    #[error("the identity provider's answer is not acceptable: {0}")]
    Answer(String),
    /// What the other side calls itself, cut short; empty where it said nothing.
    #[error("the answer is not of the issuer that is registered, but of \"{0}\"")]
    Issuer(String),
    #[error("the ID token belongs to another login")]
    Nonce,
    #[error("the identity provider did not ask the person to sign in anew")]
    NotInteractive,
    /// An error code of RFC 6749 §5.2 or of the provider's own.
    #[error("the identity provider refused: {0}")]
    Refused(String),
}

impl IdpError {
    /// What the person is shown.
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Config(_) => Code::ProviderMisconfigured,
            Self::Unreachable(_) => Code::ProviderUnreachable,
            Self::Answer(_) => Code::ProviderAnswerInvalid,
            Self::Issuer(_) => Code::IssuerMismatch,
            Self::Nonce => Code::NonceMismatch,
            Self::NotInteractive => Code::InteractiveNotProven,
            Self::Refused(_) => Code::ProviderRefused,
        }
    }

    pub(super) fn config(text: impl Into<String>) -> Self {
        Self::Config(text.into())
    }

    pub(super) fn issuer(said: &str) -> Self {
        Self::Issuer(
            said.chars()
                .filter(char::is_ascii_graphic)
                .take(QUOTE_CHARS_MAX)
                .collect(),
        )
    }

    pub(super) fn refused(code: &str) -> Self {
        Self::Refused(
            code.chars()
                .filter(char::is_ascii_graphic)
                .take(QUOTE_CHARS_MAX)
                .collect(),
        )
    }

    pub(super) fn answer(text: impl Into<String>) -> Self {
        Self::Answer(text.into())
    }
}

impl From<HttpError> for IdpError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::TooLarge => Self::answer(error.to_string()),
            HttpError::Private | HttpError::Scheme => Self::config(format!(
                "the identity provider may not be spoken to: {error}"
            )),
            HttpError::Status(_) | HttpError::Timeout | HttpError::Transport(_) => {
                Self::Unreachable(error)
            }
        }
    }
}

const QUOTE_CHARS_MAX: usize = 200;
