//! Adapter settings with expressions such as `${binding_id}` in their strings: parsed once at load, rendered often.
//!
//! [`Parser`] turns JSON of the catalog file into a [`Template`] and reports what nothing can fill, [`Values`] is what a
//! call fills it with, and a [`Rule`] goes with what can only be checked when it is rendered.

mod parse;
mod random;
mod render;
mod rule;
#[cfg(test)]
mod tests;

pub use parse::{Parser, Scope};
pub use random::Random;
pub use render::{Values, render_list, render_object};
pub use rule::{Complaint, Rule};

use crate::catalog::environment::SecretFile;
use crate::links::Links;

use serde_json::Value;
use std::fmt;

/// A JSON value with expressions in its strings. Deliberately not printable: what is literal in it may be a secret.
pub enum Template {
    /// Null, a boolean, a number, or a string without expressions.
    Literal(Value),
    /// A string that is one expression alone: what is put in keeps its JSON type.
    Expression(Expression),
    /// A string that is rendered as a string, whatever is put in.
    Text(Vec<Piece>),
    Array(Vec<Template>),
    Object(Members),
    Checked(Box<Checked>),
}

/// The members of an object, in the order of the file's keys. Keys hold no expressions.
pub type Members = Vec<(String, Template)>;

pub enum Piece {
    Literal(String),
    Expression(Expression),
    /// `|url`: percent-encoded.
    Url(Expression),
}

/// What a call fills in. `${plan.name}` and its like are not here: the parser knows them, as it does `${env:NAME}`.
pub enum Expression {
    InstanceId,
    BindingId,
    /// The path behind `parameters.`, its segments parted by dots.
    Parameter(String),
    /// The path behind `context.`, its segments parted by dots.
    Context(String),
    /// An index into [`Parser::into_randoms`].
    Random(usize),
    /// Read anew for each call.
    File(SecretFile),
    /// A signed link to the page of the instance.
    Page(Links),
    /// What is absent from the environment of a check without secrets; nothing is rendered then.
    Absent,
}

/// A template whose result must keep to a rule.
pub struct Checked {
    pub template: Template,
    pub rule: &'static Rule,
    /// For messages: the place within the section, as in `volume_mounts[0].mode`.
    pub name: String,
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::InstanceId => f.write_str("instance_id"),
            Expression::BindingId => f.write_str("binding_id"),
            Expression::Parameter(path) => write!(f, "parameters.{path}"),
            Expression::Context(path) => write!(f, "context.{path}"),
            Expression::Random(_) => f.write_str("random"),
            Expression::File(_) => f.write_str("file"),
            Expression::Page(_) => f.write_str("page"),
            Expression::Absent => f.write_str("env"),
        }
    }
}
