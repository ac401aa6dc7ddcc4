//! What stands outside the catalog file: the variables and files that `${env:NAME}` and `${file:PATH}` name.

use super::expression::Expression;

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The longest file that `${file:PATH}` takes: what the environment of a program can hold.
const MAX_FILE: u64 = 128 * 1024;

/// Where the values of `${env:NAME}` and `${file:PATH}` come from.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    variables: &'a dyn Fn(&str) -> Option<String>,
    folder: &'a Path,
    may_be_absent: bool,
}

impl<'a> Environment<'a> {
    /// `folder` is that of the catalog file, where relative paths start from.
    pub fn new(variables: &'a dyn Fn(&str) -> Option<String>, folder: &'a Path) -> Environment<'a> {
        Environment {
            variables,
            folder,
            may_be_absent: false,
        }
    }

    /// The same, where variables and files that are absent are no errors, and nothing that hangs on their values is.
    pub fn without_secrets(self) -> Environment<'a> {
        Environment {
            may_be_absent: true,
            ..self
        }
    }

    /// A variable, if it is set.
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name)
    }

    /// See [`Environment::without_secrets`].
    pub fn may_be_absent(&self) -> bool {
        self.may_be_absent
    }

    pub fn folder(&self) -> &'a Path {
        self.folder
    }

    /// The value of `${env:NAME}` or the file of `${file:PATH}`; `None` if the expression is another one. The error says
    /// what is wrong, not where.
    pub fn find(&self, expression: &Expression<'_>) -> Option<Result<Outside, String>> {
        if let Some(name) = expression.name.strip_prefix("env:") {
            return Some(self.env(name));
        }
        let path = expression.name.strip_prefix("file:")?;
        Some(self.file(path))
    }

    fn env(&self, name: &str) -> Result<Outside, String> {
        if name.is_empty() {
            return Err("${env:} names no environment variable".to_owned());
        }
        match self.variable(name) {
            Some(value) => Ok(Outside::Value(value)),
            None if self.may_be_absent => Ok(Outside::Absent),
            None => Err(format!(
                "${{env:{name}}}: the environment variable {name} is not set"
            )),
        }
    }

    fn file(&self, path: &str) -> Result<Outside, String> {
        if path.is_empty() {
            return Err("${file:} names no file".to_owned());
        }
        let file = SecretFile(self.folder.join(path));
        // Read anew at each use; what is missing now is most probably misspelt.
        match file.read() {
            Err(_) if self.may_be_absent => Ok(Outside::Absent),
            Err(error) => Err(error),
            Ok(_) => Ok(Outside::File(file)),
        }
    }

    /// Fills `${env:NAME}` and `${file:PATH}` in; anything else is kept. What is put in is never looked at again. `refuse`
    /// says what is wrong with an expression in this place. The error says what is wrong, not where.
    pub fn fill<'t>(
        &self,
        text: &'t str,
        refuse: impl Fn(&Expression<'_>) -> Option<String>,
    ) -> Result<Filled<'t>, String> {
        let (mut out, mut rest, mut is_known) = (String::new(), text, true);
        while let Some((before, inner)) = next(rest) {
            if let Some(before) = before.strip_suffix('$') {
                // `$${env:NAME}` is a literal `${env:NAME}`.
                out.push_str(before);
                out.push_str("${");
                rest = inner;
                continue;
            }
            out.push_str(before);
            let Some((inner, after)) = inner.split_once('}') else {
                let start = inner.split_inclusive(':').next().unwrap_or_default();
                return Err(format!("\"${{{start}\" has no closing \"}}\""));
            };
            let expression = Expression::parse(inner)?;
            if let Some(error) = refuse(&expression) {
                return Err(error);
            }
            match self.find(&expression).transpose()? {
                Some(Outside::Value(value)) => out.push_str(&expression.apply(value)),
                Some(Outside::File(file)) => out.push_str(&expression.apply(file.read_text()?)),
                Some(Outside::Absent) | None => is_known = false,
            }
            rest = after;
        }
        let text = if rest.len() == text.len() {
            Cow::Borrowed(text)
        } else {
            out.push_str(rest);
            Cow::Owned(out)
        };
        Ok(Filled { text, is_known })
    }
}

/// What comes before the next `${env:` or `${file:`, and what comes after its `${`.
fn next(text: &str) -> Option<(&str, &str)> {
    let mut starts = text.match_indices("${").map(|(at, _)| text.split_at(at));
    let (before, from) =
        starts.find(|(_, from)| from.starts_with("${env:") || from.starts_with("${file:"))?;
    Some((before, &from["${".len()..]))
}

/// What an expression found outside the catalog file.
pub enum Outside {
    Value(String),
    File(SecretFile),
    /// See [`Environment::without_secrets`].
    Absent,
}

/// A string whose expressions are filled in.
pub struct Filled<'t> {
    pub text: Cow<'t, str>,
    /// False if something was absent, for which nothing was put in.
    pub is_known: bool,
}

/// The file of `${file:PATH}`, read anew at each use.
#[derive(Clone)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// The content without the line end after it. The error names the file, never its content.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        let name = self.0.display();
        let mut content = Vec::new();
        File::open(&self.0)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content))
            .map_err(|error| format!("cannot read the file {name}: {error}"))?;
        if content.len() as u64 > MAX_FILE {
            return Err(format!("the file {name} has more than {MAX_FILE} bytes"));
        }
        if content.contains(&0) {
            return Err(format!(
                "the file {name} holds a zero byte, which no value can"
            ));
        }
        let end = content.strip_suffix(b"\n").unwrap_or(&content);
        let end = end.strip_suffix(b"\r").unwrap_or(end).len();
        content.truncate(end);
        Ok(content)
    }

    /// [`SecretFile::read`], where only text will do.
    pub fn read_text(&self) -> Result<String, String> {
        String::from_utf8(self.read()?)
            .map_err(|_| format!("the file {} is not UTF-8", self.0.display()))
    }
}

#[cfg(test)]
mod tests;
