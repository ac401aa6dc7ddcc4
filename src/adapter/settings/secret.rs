//! A string of the settings that may change while the broker runs.

use crate::adapter::Failure;
use crate::adapter::protocol::mask::Mask;
use crate::catalog::environment::{Environment, Outside, SecretFile};
use crate::catalog::expression::{Expression, Token, encode, tokens_of};

use std::borrow::Cow;

/// A string with `${env:NAME}` and `${file:PATH}` in it, whose files are read anew at each use. Deliberately not printable.
pub struct Secret(Vec<Piece>);

/// A part of it.
enum Piece {
    /// Stands in the catalog file.
    Literal(String),
    /// Of the broker's environment.
    Variable(String, Encoding),
    File(SecretFile, Encoding),
}

/// Whether an expression says `|url`.
#[derive(Clone, Copy)]
enum Encoding {
    Plain,
    Url,
}

impl Secret {
    /// The error says what is wrong, not where, and quotes nothing that may be a secret.
    pub(in crate::adapter) fn parse(
        text: &str,
        environment: Environment<'_>,
    ) -> Result<Secret, String> {
        let pieces = tokens_of(text).map(|(_, token)| match token? {
            Token::Literal(text) => Ok(Piece::Literal(text.to_owned())),
            Token::Expression(inner) => Piece::find(inner, environment),
        });
        pieces.collect::<Result<_, _>>().map(Secret)
    }

    /// Whether what is known of it by now holds this character.
    pub(in crate::adapter) fn holds(&self, c: char) -> bool {
        self.0.iter().any(|piece| match piece {
            Piece::Literal(text) | Piece::Variable(text, _) => text.contains(c),
            Piece::File(..) => false,
        })
    }

    /// The value now. [`Failure::unavailable`] if a file cannot be read: most probably it is being replaced.
    pub fn read(&self) -> Result<String, Failure> {
        self.bytes(|_| ())
            .and_then(|value| {
                String::from_utf8(value).map_err(|_| "a file of it is not UTF-8".to_owned())
            })
            .map_err(unreadable)
    }

    /// The value now. The mask gets each secret in it, and the whole of what holds one, as a URL with its password. The error
    /// names the file.
    pub(in crate::adapter) fn masked(&self, mask: &mut Mask) -> Result<Vec<u8>, String> {
        let mut is_secret = false;
        let value = self.bytes(|part| {
            mask.add(&String::from_utf8_lossy(part));
            is_secret = true;
        })?;
        if is_secret {
            mask.add(&String::from_utf8_lossy(&value));
        }
        Ok(value)
    }

    /// The value now. `sees` gets what does not stand in the catalog file, before it is encoded. The error names the file.
    pub(in crate::adapter) fn bytes(&self, mut sees: impl FnMut(&[u8])) -> Result<Vec<u8>, String> {
        let mut value = Vec::new();
        for piece in &self.0 {
            let (part, encoding) = match piece {
                Piece::Literal(text) => {
                    value.extend_from_slice(text.as_bytes());
                    continue;
                }
                Piece::Variable(text, encoding) => (Cow::Borrowed(text.as_bytes()), encoding),
                Piece::File(file, encoding) => (Cow::Owned(file.read()?), encoding),
            };
            sees(&part);
            match encoding {
                Encoding::Plain => value.extend_from_slice(&part),
                Encoding::Url => value.extend_from_slice(encode(&part).as_bytes()),
            }
        }
        Ok(value)
    }
}

/// What the user reads when a file cannot be read, and the operator in the log beside it.
pub(in crate::adapter) fn unreadable(error: String) -> Failure {
    Failure::unavailable("a secret of this service cannot be read at the moment").with_detail(error)
}

impl Piece {
    fn find(inner: &str, environment: Environment<'_>) -> Result<Piece, String> {
        let expression = Expression::parse(inner)?;
        if let Some(error) = expression.refuse_public() {
            return Err(error);
        }
        let encoding = if expression.is_url {
            Encoding::Url
        } else {
            Encoding::Plain
        };
        match environment.find(&expression).transpose()? {
            Some(Outside::Value(value)) => Ok(Piece::Variable(value, encoding)),
            Some(Outside::File(file)) => Ok(Piece::File(file, encoding)),
            Some(Outside::Absent) => Ok(Piece::Variable(String::new(), encoding)),
            // Anything else may be a password that happens to hold "${".
            None => Err(
                "unknown expression, wanted ${env:NAME} or ${file:PATH}; a literal \"${\" is written \"$${\""
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
