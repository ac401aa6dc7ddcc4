//! Arguments as words and options: `--name`, `--name VALUE` or `--name=VALUE`, in any order; behind `--` all are words.

use std::collections::HashMap;

/// What the arguments of a command say.
pub(super) struct Said<'a> {
    pub words: Vec<&'a str>,
    options: HashMap<&'a str, &'a str>,
}

impl<'a> Said<'a> {
    /// `with_value` names the options that a value follows. The error is a complaint about `command` for the user.
    pub fn parse(
        command: &str,
        arguments: &[&'a str],
        with_value: &[&str],
    ) -> Result<Said<'a>, String> {
        let mut said = Said {
            words: Vec::new(),
            options: HashMap::new(),
        };
        let mut left = arguments.iter();
        let mut are_options = true;
        while let Some(&argument) = left.next() {
            if !are_options || !argument.starts_with("--") {
                said.words.push(argument);
            } else if argument == "--" {
                are_options = false;
            } else {
                let (name, value) = match argument.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (argument, None),
                };
                let has_value = with_value.contains(&name);
                let value = match value {
                    Some(_) if !has_value => {
                        return Err(format!("{command}: {name} takes no value"));
                    }
                    None if has_value => left.next().copied(),
                    value => value.or(Some("")),
                };
                let value = value
                    .ok_or_else(|| format!("{command}: {name}: found nothing, wanted a value"))?;
                if said.options.insert(name, value).is_some() {
                    return Err(format!("{command}: {name}: found twice, wanted once"));
                }
            }
        }
        Ok(said)
    }

    /// An option that is not one of these, if there is one.
    pub fn unknown(&self, known: &[&[&str]]) -> Option<&'a str> {
        let mut options = self.options.keys().copied();
        options.find(|option| !known.iter().any(|known| known.contains(option)))
    }

    pub fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    pub fn text(&self, option: &str) -> Option<String> {
        self.options.get(option).map(|value| (*value).to_owned())
    }
}
