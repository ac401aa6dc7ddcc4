//! `${…}` in the strings of a catalog file: where one begins and ends, and what stands behind its `|`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use std::borrow::Cow;
use std::iter;

#[derive(Debug, PartialEq, Eq)]
pub enum Token<'t> {
    Literal(&'t str),
    /// What stands between `${` and `}`.
    Expression(&'t str),
}

/// Cuts a string up at its expressions; `$${` is a literal `${`. Each token comes with the text from its beginning on.
pub fn tokens_of(text: &str) -> impl Iterator<Item = (&str, Result<Token<'_>, String>)> {
    let mut rest = text;
    iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let from = rest;
        let (token, after) = token(rest);
        rest = after;
        Some((from, token))
    })
}

/// The first token of a text that is not empty, and what comes after it.
fn token(text: &str) -> (Result<Token<'_>, String>, &str) {
    let Some((before, after)) = text.split_once("${") else {
        return (Ok(Token::Literal(text)), "");
    };
    match before.strip_suffix('$') {
        Some("") => return (Ok(Token::Literal("${")), after),
        None if before.is_empty() => {}
        literal => {
            let (literal, rest) = text.split_at(literal.unwrap_or(before).len());
            return (Ok(Token::Literal(literal)), rest);
        }
    }
    let escape = "a literal \"${\" is written \"$${\"";
    match after.split_once('}') {
        None => (Err(format!("\"${{\" has no closing \"}}\"; {escape}")), ""),
        // Expressions do not nest, so the one that begins here was not closed.
        Some((name, _)) if name.contains("${") => {
            let error = format!("\"${{\" has no closing \"}}\" before the next \"${{\"; {escape}");
            let skipped = name.split_once("${").map_or(name, |(skipped, _)| skipped);
            (Err(error), after.split_at(skipped.len()).1)
        }
        Some((name, after)) => (Ok(Token::Expression(name)), after),
    }
}

/// What stands between `${` and `}`: a name, and behind a `|` each what is done with the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expression<'t> {
    pub name: &'t str,
    /// `|url`: percent-encoded.
    pub is_url: bool,
    /// `|public`: may be served to everybody who can read the catalog.
    pub is_public: bool,
}

impl<'t> Expression<'t> {
    /// The error quotes nothing: it may be a password that happens to hold `${`.
    pub fn parse(text: &'t str) -> Result<Expression<'t>, String> {
        let mut parts = text.split('|');
        let mut expression = Expression {
            name: parts.next().unwrap_or_default(),
            is_url: false,
            is_public: false,
        };
        for part in parts {
            match part {
                "url" => expression.is_url = true,
                "public" => expression.is_public = true,
                _ => {
                    return Err(
                        "unknown word behind \"|\", wanted \"url\" (or \"public\", in what is served)".to_owned(),
                    );
                }
            }
        }
        Ok(expression)
    }

    /// What is wrong with it where nothing is served.
    pub fn refuse_public(&self) -> Option<String> {
        self.is_public.then(|| {
            "\"|public\" is for what the catalog serves, and nothing under \"adapter\" is"
                .to_owned()
        })
    }

    /// Whether the value stands outside the catalog file.
    pub fn is_outside(&self) -> bool {
        self.name.starts_with("env:") || self.name.starts_with("file:")
    }

    /// The value as it is put in.
    pub fn apply<'v>(&self, value: impl Into<Cow<'v, str>>) -> Cow<'v, str> {
        let value = value.into();
        if self.is_url {
            Cow::Owned(encode(value.as_bytes()))
        } else {
            value
        }
    }
}

/// All but the unreserved characters of RFC 3986, 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Percent-encoded, to stand in any part of a URI.
pub fn encode(value: &[u8]) -> String {
    percent_encode(value, RESERVED).to_string()
}

/// Warns of every expression that stands in the user, password, path or query of a URI without `|url`, unless its value is
/// `harmless` there. A host and a port are left alone.
pub fn unencoded(text: &str, harmless: impl Fn(&Expression<'_>) -> bool) -> Vec<String> {
    // Expressions become marks, so that the parts of the URI can be told apart.
    const RISKY: char = '\u{1}';
    let (mut shape, mut risky) = (String::new(), Vec::new());
    for (rest, token) in tokens_of(text) {
        match token {
            Ok(Token::Literal(literal)) => shape.push_str(&literal.replace(RISKY, " ")),
            Ok(Token::Expression(inner)) => match Expression::parse(inner) {
                Ok(found) if !found.is_url && !harmless(&found) => {
                    shape.push(RISKY);
                    risky.push((text.chars().count() - rest.chars().count() + 1, inner));
                }
                _ => shape.push('x'),
            },
            Err(_) => return Vec::new(),
        }
    }
    let Some((scheme, rest)) = shape.split_once("://") else {
        return Vec::new();
    };
    // `jdbc:postgresql://` is one as well.
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.:".contains(c);
    if scheme.is_empty() || !scheme.chars().all(is_scheme) {
        return Vec::new();
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (path, query) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    let parts = [
        (user, Some("user or password")),
        (host, None),
        (path, Some("path")),
        (query, Some("query")),
    ];
    let parts = parts.into_iter().flat_map(|(text, part)| {
        let marks = text.chars().filter(|c| *c == RISKY);
        marks.map(move |_| part)
    });
    let warnings = risky.into_iter().zip(parts).filter_map(|((position, inner), part)| {
        let part = part?;
        Some(format!(
            "at character {position}: ${{{inner}}} stands in the {part} of a URI, where some characters mean something else; \
             wanted ${{{inner}|url}}, which percent-encodes them"
        ))
    });
    warnings.collect()
}

#[cfg(test)]
mod tests;
