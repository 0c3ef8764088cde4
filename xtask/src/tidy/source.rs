//! Rust text into tokens and comments: enough to tell code from comments and strings, and no more.
//!
//! It must never mistake the inside of a string for code, nor lose its place after one.

/// A file as tokens, with the comments apart.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) tokens: Vec<Token>,
    pub(super) comments: Vec<Comment>,
}

/// A token and the line (from 1) that it begins on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Identifier or keyword; raw ones without their `r#`.
    Word(String),
    /// One character of punctuation.
    Mark(char),
    /// A string, character or number; what is in it is of no interest.
    Literal,
    Lifetime,
}

/// A comment's text, with its slashes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Comment {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Source {
    pub(super) fn read(text: &str) -> Self {
        let mut reader = Reader {
            rest: text.chars().collect(),
            at: 0,
            line: 1,
            source: Self::default(),
        };
        while reader.step() {}
        reader.source
    }

    /// The word at a place.
    pub(super) fn word(&self, at: usize) -> Option<&str> {
        match &self.tokens.get(at)?.kind {
            Kind::Word(word) => Some(word),
            Kind::Mark(_) | Kind::Literal | Kind::Lifetime => None,
        }
    }

    /// All words.
    pub(super) fn words(&self) -> impl Iterator<Item = String> {
        self.tokens.iter().filter_map(|token| match &token.kind {
            Kind::Word(word) => Some(word.clone()),
            Kind::Mark(_) | Kind::Literal | Kind::Lifetime => None,
        })
    }

    /// Whether a mark is at a place.
    pub(super) fn is_mark(&self, at: usize, mark: char) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| token.kind == Kind::Mark(mark))
    }

    /// Whether `::` is at a place.
    pub(super) fn is_colons(&self, at: usize) -> bool {
        self.is_mark(at, ':') && self.is_mark(at + 1, ':')
    }

    /// The line of a token.
    pub(super) fn line(&self, at: usize) -> usize {
        self.tokens.get(at).map_or(0, |token| token.line)
    }
}

struct Reader {
    rest: Vec<char>,
    at: usize,
    line: usize,
    source: Source,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek(0)?;
        self.at += 1;
        if char == '\n' {
            self.line += 1;
        }
        Some(char)
    }

    /// Takes one token, comment or space; false at the end.
    fn step(&mut self) -> bool {
        let Some(char) = self.peek(0) else {
            return false;
        };
        let line = self.line;
        match char {
            '/' if self.peek(1) == Some('/') => self.line_comment(),
            '/' if self.peek(1) == Some('*') => self.block_comment(),
            '"' => {
                self.next();
                self.quoted('"');
                self.push(Kind::Literal, line);
            }
            '\'' => self.quote(line),
            'r' | 'b' | 'c' if self.is_literal_prefix() => self.prefixed(line),
            'r' if self.peek(1) == Some('#') && self.peek(2).is_some_and(is_word_start) => {
                self.next();
                self.next();
                self.word(line);
            }
            char if is_word_start(char) => self.word(line),
            char if char.is_ascii_digit() => self.number(line),
            char if char.is_whitespace() => {
                self.next();
            }
            mark => {
                self.next();
                self.push(Kind::Mark(mark), line);
            }
        }
        true
    }

    fn push(&mut self, kind: Kind, line: usize) {
        self.source.tokens.push(Token { kind, line });
    }

    fn word(&mut self, line: usize) {
        let mut word = String::new();
        while let Some(char) = self.peek(0).filter(|char| is_word(*char)) {
            word.push(char);
            self.next();
        }
        self.push(Kind::Word(word), line);
    }

    fn number(&mut self, line: usize) {
        while let Some(char) = self.peek(0) {
            let is_point = char == '.' && self.peek(1).is_some_and(|next| next.is_ascii_digit());
            if !is_word(char) && !is_point {
                break;
            }
            self.next();
        }
        self.push(Kind::Literal, line);
    }

    /// A lifetime or a character: `'a` against `'a'`.
    fn quote(&mut self, line: usize) {
        self.next();
        let is_lifetime = self.peek(0).is_some_and(is_word_start) && self.peek(1) != Some('\'');
        if is_lifetime {
            while self.peek(0).is_some_and(is_word) {
                self.next();
            }
            self.push(Kind::Lifetime, line);
        } else {
            self.quoted('\'');
            self.push(Kind::Literal, line);
        }
    }

    /// Whether `r`, `b`, `c`, `br` or `cr` here begins a string or character.
    fn is_literal_prefix(&self) -> bool {
        let mut ahead = 1;
        let mut is_raw = self.peek(0) == Some('r');
        if !is_raw && self.peek(1) == Some('r') {
            is_raw = true;
            ahead = 2;
        }
        if !is_raw {
            return matches!(self.peek(1), Some('"'))
                || (self.peek(0) == Some('b') && self.peek(1) == Some('\''));
        }
        while self.peek(ahead) == Some('#') {
            ahead += 1;
        }
        self.peek(ahead) == Some('"')
    }

    fn prefixed(&mut self, line: usize) {
        let mut is_raw = false;
        let mut hashes = 0;
        while let Some(char) = self.next() {
            match char {
                'r' => is_raw = true,
                '#' => hashes += 1,
                '"' if is_raw => {
                    self.raw(hashes);
                    break;
                }
                '"' | '\'' => {
                    self.quoted(char);
                    break;
                }
                _ => {}
            }
        }
        self.push(Kind::Literal, line);
    }

    /// The rest of a string or character, whose backslashes count.
    fn quoted(&mut self, end: char) {
        while let Some(char) = self.next() {
            if char == '\\' {
                self.next();
            } else if char == end {
                return;
            }
        }
    }

    /// The rest of a raw string.
    fn raw(&mut self, hashes: usize) {
        while let Some(char) = self.next() {
            if char == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.at += hashes;
                return;
            }
        }
    }

    fn line_comment(&mut self) {
        let line = self.line;
        let mut text = String::new();
        while let Some(char) = self.peek(0).filter(|char| *char != '\n') {
            text.push(char);
            self.next();
        }
        self.source.comments.push(Comment { text, line });
    }

    /// A block comment, which may hold others; each of its lines is kept with its own number.
    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        let mut text = String::new();
        let mut line = self.line;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    text.push_str("/*");
                    self.at += 2;
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    text.push_str("*/");
                    self.at += 2;
                    if depth == 0 {
                        break;
                    }
                }
                (Some('\n'), _) => {
                    let text = std::mem::take(&mut text);
                    self.source.comments.push(Comment { text, line });
                    self.next();
                    line = self.line;
                }
                (Some(char), _) => {
                    text.push(char);
                    self.next();
                }
                (None, _) => break,
            }
        }
        self.source.comments.push(Comment { text, line });
    }
}

fn is_word_start(char: char) -> bool {
    char == '_' || char.is_alphabetic()
}

fn is_word(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}
