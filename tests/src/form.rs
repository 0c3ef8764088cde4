//! HTML forms, read as far as a login needs: action, method, fields and their values.

/// One form of a page.
#[derive(Clone, Debug, Default)]
pub struct Form {
    pub action: String,
    /// Upper case.
    pub method: String,
    pub fields: Vec<Field>,
}

/// One field of a form.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub value: String,
    /// `text`, `hidden`, `password`, `submit` …
    pub kind: String,
}

impl Form {
    /// The forms of a page, in order.
    pub fn all(html: &str) -> Vec<Self> {
        let mut forms: Vec<Self> = Vec::new();
        let mut is_inside = false;
        for tag in tags(html) {
            match tag.name.as_str() {
                "form" => {
                    forms.push(Self {
                        action: tag.attribute("action").unwrap_or_default(),
                        method: tag
                            .attribute("method")
                            .unwrap_or_else(|| "get".to_owned())
                            .to_ascii_uppercase(),
                        fields: Vec::new(),
                    });
                    is_inside = true;
                }
                "/form" => is_inside = false,
                "input" | "button" if is_inside => {
                    let (Some(form), Some(name)) = (forms.last_mut(), tag.attribute("name")) else {
                        continue;
                    };
                    form.fields.push(Field {
                        name,
                        value: tag.attribute("value").unwrap_or_default(),
                        kind: tag.attribute("type").unwrap_or_else(|| {
                            if tag.name == "button" {
                                "submit".to_owned()
                            } else {
                                "text".to_owned()
                            }
                        }),
                    });
                }
                _ => {}
            }
        }
        forms
    }

    /// Sets a field, if the form has it.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let mut found = false;
        for field in self.fields.iter_mut().filter(|field| field.name == name) {
            value.clone_into(&mut field.value);
            found = true;
        }
        found
    }

    /// Whether the form has such a field.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name)
    }

    /// The fields as a browser sends them.
    pub fn encoded(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(self.fields.iter().map(|field| (&field.name, &field.value)))
            .finish()
    }
}

/// The address of the first link whose text is `text`.
pub fn link(html: &str, text: &str) -> Option<String> {
    let mut rest = html;
    while let Some(at) = rest.find("<a ") {
        rest = &rest[at + 1..];
        let end = tag_end(rest)?;
        let after = &rest[end + 1..];
        let label = after.split("</a>").next().unwrap_or_default();
        if label.trim() == text {
            return tag(&rest[..end]).attribute("href");
        }
        rest = after;
    }
    None
}

struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    fn attribute(&self, name: &str) -> Option<String> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }
}

fn tags(html: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let Some(end) = tag_end(rest) else { break };
        tags.push(tag(&rest[..end]));
        rest = &rest[end..];
    }
    tags
}

/// Where a tag ends: the first `>` outside quotes.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), character) if open == character => quote = None,
            _ => {}
        }
    }
    None
}

fn tag(text: &str) -> Tag {
    let name_end = text
        .find(|c: char| c.is_whitespace() || c == '>')
        .unwrap_or(text.len());
    let name = text[..name_end].trim_end_matches('/').to_ascii_lowercase();
    let mut attributes = Vec::new();
    let mut rest = text[name_end..].trim_start();
    while !rest.is_empty() {
        let key_end = rest
            .find(|c: char| c.is_whitespace() || c == '=')
            .unwrap_or(rest.len());
        let key = rest[..key_end].to_ascii_lowercase();
        rest = rest[key_end..].trim_start();
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| *c == '"' || *c == '\'');
            if let Some(quote) = quote {
                let body = &after[1..];
                let end = body.find(quote).unwrap_or(body.len());
                value = decode(&body[..end]);
                rest = body.get(end + 1..).unwrap_or("").trim_start();
            } else {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                value = decode(&after[..end]);
                rest = after[end..].trim_start();
            }
        } else if key.is_empty() {
            break;
        }
        attributes.push((key, value));
    }
    Tag { name, attributes }
}

/// The entities that attribute values carry in practice.
fn decode(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(';').filter(|end| *end < 10);
        let Some(end) = end else {
            out.push('&');
            rest = &rest[1..];
            continue;
        };
        let entity = &rest[1..end];
        let number = entity
            .strip_prefix("#x")
            .or_else(|| entity.strip_prefix("#X"))
            .map_or_else(
                || {
                    entity
                        .strip_prefix('#')
                        .and_then(|digits| digits.parse().ok())
                },
                |hex| u32::from_str_radix(hex, 16).ok(),
            );
        match (entity, number.and_then(char::from_u32)) {
            ("amp", _) => out.push('&'),
            ("lt", _) => out.push('<'),
            ("gt", _) => out.push('>'),
            ("quot", _) => out.push('"'),
            ("apos", _) => out.push('\''),
            (_, Some(character)) => out.push(character),
            _ => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forms are read as a browser would send them.
    #[test]
    fn reads_forms() {
        let forms = Form::all(
            r#"<p>x</p><FORM action="/a?b=1&amp;c=2" method=post><input name="u" type='text'>
               <input type="hidden" name=h value="a &#x22;b&quot;"><button>go</button></FORM><input name=outside>"#,
        );
        assert_eq!(forms.len(), 1);
        let mut form = forms[0].clone();
        assert_eq!(
            (form.action.as_str(), form.method.as_str()),
            ("/a?b=1&c=2", "POST")
        );
        assert!(form.set("u", "ada") && !form.set("outside", "x"));
        assert_eq!(form.encoded(), "u=ada&h=a+%22b%22");
    }
}
