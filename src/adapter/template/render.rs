//! From templates to values.

use super::{Checked, Complaint, Expression, Members, Piece, Template};
use crate::adapter::settings::unreadable;
use crate::adapter::{BindingCall, Failure, InstanceCall};
use crate::catalog::expression::encode;
use crate::json::{self, Object};

use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::OnceCell;

/// What one call fills templates with. Parameters and context are only read if a template asks for them.
pub struct Values<'a> {
    instance_id: &'a str,
    binding_id: Option<&'a str>,
    plan: &'a str,
    parameters: Layers<'a>,
    context: Layers<'a>,
    random: Vec<String>,
}

/// What an expression stands for.
enum Found<'v> {
    Text(Cow<'v, str>),
    Value(&'v Value),
}

impl<'a> Values<'a> {
    /// For [`super::Scope::Instance`]. `random` in the order of [`super::Parser::into_randoms`].
    pub fn of_instance(call: &InstanceCall<'a>, random: Vec<String>) -> Values<'a> {
        Values {
            instance_id: call.instance_id,
            binding_id: None,
            plan: &call.plan.name,
            parameters: Layers::new("parameters", call.parameters, Object::default()),
            context: Layers::new("context", call.context, Object::default()),
            random,
        }
    }

    /// For [`super::Scope::Binding`]. `random` in the order of [`super::Parser::into_randoms`].
    pub fn of_binding(call: &BindingCall<'a>, random: Vec<String>) -> Values<'a> {
        let instance = &call.instance;
        Values {
            binding_id: Some(call.binding_id),
            parameters: Layers::new("parameters", call.parameters, instance.parameters),
            context: Layers::new("context", call.context, instance.context),
            ..Values::of_instance(instance, random)
        }
    }

    fn find(&self, expression: &Expression) -> Result<Found<'_>, Failure> {
        let (layers, path) = match expression {
            Expression::InstanceId => return Ok(Found::Text(self.instance_id.into())),
            Expression::BindingId => return self.known(self.binding_id, expression),
            Expression::Random(slot) => {
                return self.known(self.random.get(*slot).map(String::as_str), expression);
            }
            Expression::File(file) => {
                let content = file.read_text().map_err(unreadable)?;
                return Ok(Found::Text(content.into()));
            }
            Expression::Page(links) => {
                let link = links.to(self.instance_id).map_err(|error| {
                    Failure::unavailable(
                        "The address of the page cannot be made right now. Try again later.",
                    )
                    .with_detail(error.to_string())
                })?;
                return Ok(Found::Text(link.into()));
            }
            Expression::Absent => return self.known(None, expression),
            Expression::Parameter(path) => (&self.parameters, path),
            Expression::Context(path) => (&self.context, path),
        };
        let found = layers.find(path)?.ok_or_else(|| {
            Failure::invalid(format!(
                "{expression}: missing; plan {:?} needs it",
                self.plan
            ))
        })?;
        Ok(Found::Value(found))
    }

    /// The parser admits only what the scope has, so `None` means templates and values of different scopes.
    fn known<'v>(&self, text: Option<&'v str>, what: &Expression) -> Result<Found<'v>, Failure> {
        let missing = || {
            Failure::failed(format!(
                "${{{what}}} of plan {:?} is not known here",
                self.plan
            ))
        };
        text.map(|text| Found::Text(text.into()))
            .ok_or_else(missing)
    }
}

/// An object that hides another one: that of the binding before that of its instance.
struct Layers<'a> {
    name: &'static str,
    layers: [Layer<'a>; 2],
}

struct Layer<'a> {
    object: Object<'a>,
    /// `None` inside if the object cannot be read.
    read: OnceCell<Option<Map<String, Value>>>,
}

impl<'a> Layers<'a> {
    fn new(name: &'static str, first: Object<'a>, second: Object<'a>) -> Layers<'a> {
        Layers {
            name,
            layers: [first, second].map(|object| Layer {
                object,
                read: OnceCell::new(),
            }),
        }
    }

    fn find(&self, path: &str) -> Result<Option<&Value>, Failure> {
        for layer in &self.layers {
            let Some(map) = layer.read.get_or_init(|| layer.object.read().ok()) else {
                // serde_json's own message can quote a value.
                return Err(Failure::invalid(format!(
                    "{}: holds a string that is not Unicode",
                    self.name
                )));
            };
            if let Some(value) = dig(map, path) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

fn dig<'m>(map: &'m Map<String, Value>, path: &str) -> Option<&'m Value> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let value = map.get(first)?;
    match rest {
        Some(rest) => dig(value.as_object()?, rest),
        None => Some(value),
    }
}

impl Template {
    /// The value. [`Failure::invalid`] where a parameter or a property of the context is missing, or is not of a kind
    /// that can be put in.
    pub fn render(&self, values: &Values<'_>) -> Result<Value, Failure> {
        Ok(match self {
            Template::Literal(value) => value.clone(),
            Template::Expression(expression) => match values.find(expression)? {
                Found::Text(text) => Value::String(text.into_owned()),
                Found::Value(value) => value.clone(),
            },
            Template::Text(pieces) => Value::String(text(pieces, values)?),
            Template::Array(items) => Value::Array(render_list(items, values)?),
            Template::Object(members) => Value::Object(render_object(members, values)?),
            Template::Checked(checked) => checked.render(values)?,
        })
    }

    /// Whether the value hangs on what the user or the platform gave.
    fn is_of_request(&self) -> bool {
        let is_given = |expression: &Expression| {
            !matches!(expression, Expression::File(_) | Expression::Random(_))
        };
        match self {
            Template::Literal(_) => false,
            Template::Expression(expression) => is_given(expression),
            Template::Text(pieces) => pieces.iter().any(|piece| match piece {
                Piece::Literal(_) => false,
                Piece::Expression(expression) | Piece::Url(expression) => is_given(expression),
            }),
            Template::Array(items) => items.iter().any(Template::is_of_request),
            Template::Object(members) => members.iter().any(|(_, item)| item.is_of_request()),
            Template::Checked(checked) => checked.template.is_of_request(),
        }
    }

    /// The value of a template that gives a string: see [`super::Rule::Text`].
    pub fn render_string(&self, values: &Values<'_>) -> Result<String, Failure> {
        match self.render(values)? {
            Value::String(text) => Ok(text),
            other => Err(Failure::failed(format!(
                "plan {:?}: found {}, wanted a string",
                values.plan,
                json::kind(&other)
            ))),
        }
    }
}

impl Checked {
    fn render(&self, values: &Values<'_>) -> Result<Value, Failure> {
        let value = self.template.render(values)?;
        let describe = |text| format!("{}: {text} (plan {:?})", self.name, values.plan);
        self.rule
            .check(&value)
            .map_err(|complaint| match complaint {
                Complaint::Wrong(text) if self.template.is_of_request() => {
                    Failure::invalid(describe(text))
                }
                Complaint::Wrong(text) | Complaint::TooLong(text) => {
                    Failure::failed(describe(text))
                }
            })?;
        Ok(value)
    }
}

pub fn render_object(
    members: &Members,
    values: &Values<'_>,
) -> Result<Map<String, Value>, Failure> {
    members
        .iter()
        .map(|(key, template)| Ok((key.clone(), template.render(values)?)))
        .collect()
}

pub fn render_list(items: &[Template], values: &Values<'_>) -> Result<Vec<Value>, Failure> {
    items.iter().map(|item| item.render(values)).collect()
}

fn text(pieces: &[Piece], values: &Values<'_>) -> Result<String, Failure> {
    let literal = |piece: &Piece| match piece {
        Piece::Literal(text) => text.len(),
        Piece::Expression(_) | Piece::Url(_) => 0,
    };
    // 36 is the length of the ids that platforms send.
    let mut out =
        String::with_capacity(pieces.iter().map(literal).sum::<usize>() + 36 * pieces.len());
    for piece in pieces {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Expression(expression) => out.push_str(&as_text(expression, values)?),
            Piece::Url(expression) => {
                out.push_str(&encode(as_text(expression, values)?.as_bytes()));
            }
        }
    }
    Ok(out)
}

fn as_text<'v>(expression: &Expression, values: &'v Values<'_>) -> Result<Cow<'v, str>, Failure> {
    match values.find(expression)? {
        Found::Text(text) => Ok(text),
        Found::Value(Value::String(text)) => Ok(text.into()),
        Found::Value(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string().into()),
        Found::Value(value) => Err(Failure::invalid(format!(
            "{expression}: found {}, but plan {:?} puts it into text and needs a string, a number or a boolean",
            json::kind(value),
            values.plan
        ))),
    }
}
