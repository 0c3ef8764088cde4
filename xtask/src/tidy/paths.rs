//! The paths that a file names: in `use` items, groups unfolded, and qualified in code. Paths that lead
//! through `self` and `super` are followed to where they end up.

use crate::tidy::source::Source;

/// A path as meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) from: From,
    /// What follows the start; `*` for everything.
    pub(super) segments: Vec<String>,
}

/// Where a path starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum From {
    /// The crate's root: `crate::`, or `self` and `super` followed up to it.
    Root,
    /// Anything else: another crate, or a name in scope.
    Scope,
}

impl Named {
    /// The first segment.
    pub(super) fn first(&self) -> &str {
        self.segments.first().map_or("", String::as_str)
    }

    /// Whether it starts with these segments, seen from the scope.
    pub(super) fn begins(&self, segments: &[&str]) -> bool {
        self.from == From::Scope
            && self.segments.len() >= segments.len()
            && self.segments.iter().zip(segments).all(|(a, b)| a == b)
    }
}

/// All paths of a file whose own module path is given (empty for the crate's root).
pub(super) fn all(source: &Source, module: &[String]) -> Vec<Named> {
    let mut walk = Walk {
        source,
        module: module.to_vec(),
        inline: Vec::new(),
        depth: 0,
        named: Vec::new(),
    };
    let mut at = 0;
    while at < source.tokens.len() {
        at = walk.step(at);
    }
    walk.named
}

struct Walk<'a> {
    source: &'a Source,
    module: Vec<String>,
    /// The depths of braces at which inline modules began.
    inline: Vec<usize>,
    depth: usize,
    named: Vec<Named>,
}

impl Walk<'_> {
    /// Looks at one place; gives the next one.
    fn step(&mut self, at: usize) -> usize {
        if self.source.is_mark(at, '{') {
            self.depth += 1;
            return at + 1;
        }
        if self.source.is_mark(at, '}') {
            self.depth = self.depth.saturating_sub(1);
            if self.inline.last() == Some(&self.depth) {
                self.inline.pop();
                self.module.pop();
            }
            return at + 1;
        }
        match self.source.word(at) {
            Some("mod") if self.source.is_mark(at + 2, '{') => {
                let name = self.source.word(at + 1).unwrap_or_default();
                self.module.push(name.to_owned());
                self.inline.push(self.depth);
                at + 2
            }
            // `use<'a>` in a type is no import.
            Some("use") if !self.source.is_mark(at + 1, '<') => {
                let start = if self.source.is_colons(at + 1) {
                    at + 3
                } else {
                    at + 1
                };
                self.tree(start, &[])
            }
            Some(_) => self.qualified(at),
            None => at + 1,
        }
    }

    /// One branch of a `use` tree; gives the place after it.
    fn tree(&mut self, mut at: usize, before: &[String]) -> usize {
        let line = self.source.line(at);
        let mut segments = before.to_vec();
        loop {
            if let Some(word) = self.source.word(at) {
                segments.push(word.to_owned());
                at += 1;
            } else if self.source.is_mark(at, '*') {
                segments.push("*".to_owned());
                at += 1;
            } else if self.source.is_mark(at, '{') {
                at += 1;
                while at < self.source.tokens.len() && !self.source.is_mark(at, '}') {
                    if self.source.is_mark(at, ',') {
                        at += 1;
                    } else {
                        at = self.tree(at, &segments).max(at + 1);
                    }
                }
                return at + 1;
            }
            if self.source.is_colons(at) {
                at += 2;
            } else {
                break;
            }
        }
        if segments.last().is_some_and(|last| last == "self") && !before.is_empty() {
            segments.pop();
        }
        self.add(line, segments);
        if self.source.word(at) == Some("as") {
            at += 2;
        }
        at
    }

    /// A path in code; single names are kept as well, because some names alone say enough.
    fn qualified(&mut self, mut at: usize) -> usize {
        let line = self.source.line(at);
        let mut segments = Vec::new();
        while let Some(word) = self.source.word(at) {
            segments.push(word.to_owned());
            at += 1;
            if !self.source.is_colons(at) {
                break;
            }
            at += 2;
        }
        self.add(line, segments);
        at
    }

    /// Follows `crate`, `self` and `super` and keeps the path.
    fn add(&mut self, line: usize, segments: Vec<String>) {
        let is_anchored = |first: Option<&String>| {
            first.is_some_and(|first| matches!(first.as_str(), "crate" | "self" | "super"))
        };
        if !is_anchored(segments.first()) {
            self.named.push(Named {
                line,
                from: From::Scope,
                segments,
            });
            return;
        }
        let mut place = self.module.clone();
        let mut rest = segments.into_iter().peekable();
        while let Some(step) = rest.next_if(|step| is_anchored(Some(step))) {
            match step.as_str() {
                "crate" => place.clear(),
                "super" => {
                    place.pop();
                }
                _ => {}
            }
        }
        // Without more it is a receiver (`self`) or a visibility (`pub(super)`).
        if rest.peek().is_none() {
            return;
        }
        place.extend(rest);
        self.named.push(Named {
            line,
            from: From::Root,
            segments: place,
        });
    }
}
