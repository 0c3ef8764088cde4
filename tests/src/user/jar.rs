//! Cookies, kept as browsers keep those without `Domain`.

use url::Url;

use crate::http::Reply;

/// The cookies of one profile.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    cookies: Vec<Cookie>,
}

/// One cookie, with the attributes that it came with.
#[derive(Clone, Debug)]
pub struct Cookie {
    pub host: String,
    pub name: String,
    pub value: String,
    path: String,
    same_site: String,
    /// The whole `Set-Cookie` value.
    pub raw: String,
}

impl Jar {
    /// Takes a reply's cookies.
    pub fn store(&mut self, url: &Url, reply: &Reply) {
        let host = url.host_str().unwrap_or_default();
        for raw in reply.all("set-cookie") {
            let mut parts = raw.split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let attributes: Vec<(String, String)> = parts
                .map(|part| {
                    let (key, value) = part.split_once('=').unwrap_or((part, ""));
                    (key.trim().to_ascii_lowercase(), value.trim().to_owned())
                })
                .collect();
            let find = |name: &str| {
                attributes
                    .iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.clone())
            };
            let path = find("path").unwrap_or_else(|| "/".to_owned());
            self.cookies.retain(|cookie| {
                !(cookie.host == host && cookie.name == name && cookie.path == path)
            });
            let is_over = find("max-age")
                .is_some_and(|age| age.parse::<i64>().is_ok_and(|age| age <= 0))
                || find("expires").is_some_and(|time| time.contains("1970"));
            if !is_over {
                self.cookies.push(Cookie {
                    host: host.to_owned(),
                    name: name.to_owned(),
                    value: value.to_owned(),
                    path,
                    same_site: find("samesite").unwrap_or_else(|| "Lax".to_owned()),
                    raw: raw.to_owned(),
                });
            }
        }
    }

    /// The `Cookie` header for a request; `is_safe`: a navigation by GET.
    pub fn header(&self, url: &Url, is_cross_site: bool, is_safe: bool) -> Option<String> {
        let host = url.host_str()?;
        let sent: Vec<String> = self
            .cookies
            .iter()
            .filter(|cookie| cookie.host == host && path_matches(url.path(), &cookie.path))
            .filter(|cookie| {
                !is_cross_site
                    || cookie.same_site.eq_ignore_ascii_case("none")
                    || (is_safe && cookie.same_site.eq_ignore_ascii_case("lax"))
            })
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        (!sent.is_empty()).then(|| sent.join("; "))
    }

    /// A cookie's value.
    pub fn value(&self, host: &str, name: &str) -> Option<String> {
        self.cookies
            .iter()
            .find(|cookie| cookie.host == host && cookie.name == name)
            .map(|cookie| cookie.value.clone())
    }

    /// All cookies of a host.
    pub fn of(&self, host: &str) -> Vec<Cookie> {
        self.cookies
            .iter()
            .filter(|cookie| cookie.host == host)
            .cloned()
            .collect()
    }

    /// All cookies.
    pub fn all(&self) -> &[Cookie] {
        &self.cookies
    }

    /// Plants a cookie.
    pub fn set(&mut self, host: &str, name: &str, value: &str) {
        self.remove(host, name);
        self.cookies.push(Cookie {
            host: host.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
            path: "/".to_owned(),
            same_site: "Lax".to_owned(),
            raw: String::new(),
        });
    }

    /// Forgets a cookie.
    pub fn remove(&mut self, host: &str, name: &str) {
        self.cookies
            .retain(|cookie| !(cookie.host == host && cookie.name == name));
    }

    /// Forgets all cookies of a host.
    pub fn clear(&mut self, host: &str) {
        self.cookies.retain(|cookie| cookie.host != host);
    }
}

/// RFC 6265 §5.1.4.
fn path_matches(path: &str, cookie: &str) -> bool {
    path == cookie
        || path
            .strip_prefix(cookie)
            .is_some_and(|rest| cookie.ends_with('/') || rest.starts_with('/'))
}
