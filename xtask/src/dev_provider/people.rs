//! Who can sign in. They have no passwords.

/// Somebody with an account.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Person {
    /// What is typed into the form; also the lasting subject.
    pub(super) username: &'static str,
    pub(super) name: &'static str,
    pub(super) email: &'static str,
    pub(super) email_verified: bool,
}

/// Finds a person by what was typed.
pub(super) fn find(username: &str) -> Option<&'static Person> {
    let username = username.trim();
    PEOPLE
        .iter()
        .find(|person| person.username.eq_ignore_ascii_case(username))
}

/// The usernames as a phrase.
pub(super) fn usernames() -> String {
    let names: Vec<_> = PEOPLE.iter().map(|person| person.username).collect();
    names.join(", ")
}

/// One of the usual domain, one of another, one whose address nobody has checked.
pub(super) const PEOPLE: [Person; 3] = [
    Person {
        username: "ada",
        name: "Ada Example",
        email: "ada@example.test",
        email_verified: true,
    },
    Person {
        username: "lin",
        name: "Lin Elsewhere",
        email: "lin@elsewhere.test",
        email_verified: true,
    },
    Person {
        username: "mal",
        name: "Mal Unproven",
        email: "mal@example.test",
        email_verified: false,
    },
];
