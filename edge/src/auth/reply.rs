//! What auth answers a browser or a program, as values: `ingress::respond` makes HTTP of them.

use http::header::HeaderValue;
use proto::code::Code;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) content: Content,
    /// `Set-Cookie` values, marked sensitive.
    pub(crate) cookies: Vec<HeaderValue>,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Content {
    /// 303 to an absolute address, in the form that `url` wrote.
    Redirect(String),
    Failure(Failure),
    /// The page with the button that signs out.
    SignOut {
        /// Where the form is posted: a path on this host.
        action: String,
        /// Who is signed in, as far as a page needs to say.
        person: Option<String>,
    },
    /// Signed out, with a way on.
    SignedOut {
        onward: Link,
    },
    /// A JSON document.
    Json {
        body: String,
        /// Public keys may be kept for a while; everything else never.
        is_public: bool,
    },
}

/// Why something was refused, and what can be done.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// For programs: where a person can log in.
    pub(crate) login_url: Option<String>,
    /// For people: a button.
    pub(crate) action: Option<Link>,
    /// The `Allow` header of a 405.
    pub(crate) allow: Option<&'static str>,
}

/// A link that looks like a button. A form would do as well, but a policy on where forms lead is
/// applied to every redirect that follows, and a login ends at the provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Link {
    pub(crate) label: &'static str,
    pub(crate) url: String,
}

impl Reply {
    pub(super) const fn redirect(location: String, cookies: Vec<HeaderValue>) -> Self {
        Self {
            content: Content::Redirect(location),
            cookies,
        }
    }

    pub(super) const fn json(body: String) -> Self {
        Self {
            content: Content::Json {
                body,
                is_public: false,
            },
            cookies: Vec::new(),
        }
    }
}

impl Failure {
    pub(super) fn offering(self, label: &'static str, url: String) -> Self {
        Self {
            action: Some(Link { label, url }),
            ..self
        }
    }

    pub(super) fn with_login_url(self, url: String) -> Self {
        Self {
            login_url: Some(url),
            ..self
        }
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::from(Code::MethodNotAllowed)
        }
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self {
            code,
            login_url: None,
            action: None,
            allow: None,
        }
    }
}

impl From<Content> for Reply {
    fn from(content: Content) -> Self {
        Self {
            content,
            cookies: Vec::new(),
        }
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Content::Failure(failure).into()
    }
}

impl From<Code> for Reply {
    fn from(code: Code) -> Self {
        Failure::from(code).into()
    }
}
