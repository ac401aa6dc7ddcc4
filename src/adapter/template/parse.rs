//! From JSON of the catalog file to templates. Whatever no call could ever fill is found here.

use super::{Expression, Members, Piece, Random, Template};
use crate::adapter::Settings;
use crate::catalog::environment::Outside;
use crate::catalog::expression::{Expression as Found, Token, encode, tokens_of, unencoded};
use crate::catalog::finding::suggestion;
use crate::catalog::{Plan, SchemaUse};
use crate::links::{self, Links};

use serde_json::{Map, Value};

/// Where a template stands, and with that what may be used in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Rendered for an instance: its parameters and context; no `${binding_id}`.
    Instance,
    /// Rendered for a binding: its parameters and context, else those of its instance.
    Binding,
}

impl Scope {
    /// Names that stand for themselves.
    fn names(self) -> &'static [&'static str] {
        match self {
            Scope::Instance => &[
                "instance_id",
                "page",
                "plan.name",
                "plan.id",
                "service.name",
                "service.id",
            ],
            Scope::Binding => &[
                "instance_id",
                "binding_id",
                "page",
                "plan.name",
                "plan.id",
                "service.name",
                "service.id",
            ],
        }
    }

    /// Whether some request can carry a parameter of this name, as far as the schemas of the plan tell.
    fn can_have_parameter(self, plan: &Plan, name: &str) -> bool {
        let decisive = match self {
            Scope::Instance => [SchemaUse::Provision, SchemaUse::Update],
            Scope::Binding => [SchemaUse::Provision, SchemaUse::Bind],
        };
        let accepts = |schema| accepts_property(schema, name);
        decisive
            .into_iter()
            .any(|wanted| plan.schema(wanted).is_none_or(accepts))
            // A binding also sees what an update brought to its instance.
            || plan.schema(SchemaUse::Update).is_some_and(accepts)
    }
}

/// False only if the schema surely refuses every object with this property.
fn accepts_property(schema: &Value, name: &str) -> bool {
    let Some(schema) = schema.as_object() else {
        return true;
    };
    let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
        && !schema.contains_key("patternProperties")
        // Up to draft 7, everything beside `$ref` is ignored.
        && !schema.contains_key("$ref");
    !is_closed || properties(schema).any(|known| known == name)
}

fn properties(schema: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
}

/// Parses the templates of one section of the settings; they share their random values.
pub struct Parser<'s> {
    scope: Scope,
    settings: &'s Settings<'s>,
    randoms: Vec<Random>,
}

impl<'s> Parser<'s> {
    pub fn new(scope: Scope, settings: &'s Settings<'s>) -> Parser<'s> {
        Parser {
            scope,
            settings,
            randoms: Vec::new(),
        }
    }

    /// The value of `key`. What is wrong in it is reported, and takes a place in the template that is never rendered.
    pub fn template(&mut self, key: &'static str) -> Option<Template> {
        let value = self.settings.value(key)?;
        Some(self.parse(value, key))
    }

    /// The value of `key`, which must be an object in the file itself.
    pub fn object(&mut self, key: &'static str) -> Option<Members> {
        let object = self.settings.object(key)?;
        Some(self.members(object, key))
    }

    /// The value of `key`, which must be an array in the file itself.
    pub fn list(&mut self, key: &'static str) -> Option<Vec<Template>> {
        let items = self.settings.array(key)?;
        Some(self.items(items, key))
    }

    /// The random values that the templates need, in the order of [`Expression::Random`].
    pub fn into_randoms(self) -> Vec<Random> {
        self.randoms
    }

    fn parse(&mut self, value: &Value, name: &str) -> Template {
        match value {
            Value::String(text) => self.text(text, name),
            Value::Array(items) => Template::Array(self.items(items, name)),
            Value::Object(object) => Template::Object(self.members(object, name)),
            other => Template::Literal(other.clone()),
        }
    }

    fn items(&mut self, items: &[Value], name: &str) -> Vec<Template> {
        let items = items.iter().enumerate();
        items
            .map(|(i, item)| self.parse(item, &format!("{name}[{i}]")))
            .collect()
    }

    fn members(&mut self, object: &Map<String, Value>, name: &str) -> Members {
        object
            .iter()
            .map(|(key, value)| (key.clone(), self.parse(value, &format!("{name}.{key}"))))
            .collect()
    }

    fn text(&mut self, text: &str, name: &str) -> Template {
        let (mut pieces, mut tokens, mut is_sound) = (Vec::new(), 0, true);
        for (rest, token) in tokens_of(text) {
            tokens += 1;
            match token.and_then(|token| self.piece(token)) {
                Ok(piece) => push(&mut pieces, piece),
                Err(error) => {
                    is_sound = false;
                    let position = text.chars().count() - rest.chars().count() + 1;
                    self.settings
                        .error(name, format!("at character {position}: {error}"));
                }
            }
        }
        if !is_sound {
            return Template::Text(Vec::new());
        }
        for warning in unencoded(text, |found| self.is_harmless(found.name)) {
            self.settings.warning(name, warning);
        }
        match pieces.pop() {
            None => Template::Literal(Value::String(String::new())),
            Some(Piece::Literal(text)) if pieces.is_empty() => {
                Template::Literal(Value::String(text))
            }
            // `${env:EMPTY}${parameters.x}` leaves one piece too, but is not one expression alone.
            Some(Piece::Expression(expression)) if tokens == 1 => Template::Expression(expression),
            Some(last) => {
                pieces.push(last);
                Template::Text(pieces)
            }
        }
    }

    fn piece(&mut self, token: Token<'_>) -> Result<Piece, String> {
        match token {
            Token::Literal(text) => Ok(Piece::Literal(text.to_owned())),
            Token::Expression(name) => self.expression(name),
        }
    }

    fn expression(&mut self, inner: &str) -> Result<Piece, String> {
        let found = Found::parse(inner)?;
        if let Some(error) = found.refuse_public() {
            return Err(error);
        }
        if let Some(text) = self.catalog_text(found.name) {
            return Ok(Piece::Literal(found.apply(text).into_owned()));
        }
        let expression = match self.settings.environment().find(&found).transpose()? {
            Some(Outside::Value(value)) => {
                return Ok(Piece::Literal(found.apply(value).into_owned()));
            }
            Some(Outside::File(file)) => Expression::File(file),
            Some(Outside::Absent) => Expression::Absent,
            None => self.of_call(found.name)?,
        };
        Ok(if found.is_url {
            Piece::Url(expression)
        } else {
            Piece::Expression(expression)
        })
    }

    /// What the catalog itself knows.
    fn catalog_text(&self, name: &str) -> Option<&'s str> {
        let (service, plan) = (self.settings.service(), self.settings.plan());
        Some(match name {
            "plan.name" => &plan.name,
            "plan.id" => &plan.id,
            "service.name" => &service.name,
            "service.id" => &service.id,
            _ => return None,
        })
    }

    /// Whether the value is the same percent-encoded.
    fn is_harmless(&self, name: &str) -> bool {
        let same = |text: &str| encode(text.as_bytes()) == text;
        name == "page" || name.starts_with("random:") || self.catalog_text(name).is_some_and(same)
    }

    /// What only a call knows.
    fn of_call(&mut self, name: &str) -> Result<Expression, String> {
        match name {
            "instance_id" => return Ok(Expression::InstanceId),
            "page" => return self.page(),
            "binding_id" if self.scope == Scope::Binding => return Ok(Expression::BindingId),
            "binding_id" => {
                return Err(
                    "${binding_id}: an instance has none; use it under \"binding\"".to_owned(),
                );
            }
            _ => {}
        }
        if let Some(path) = name.strip_prefix("parameters.") {
            check_path(name, path)?;
            self.check_parameter(path)?;
            return Ok(Expression::Parameter(path.to_owned()));
        }
        if let Some(path) = name.strip_prefix("context.") {
            check_path(name, path)?;
            return Ok(Expression::Context(path.to_owned()));
        }
        if let Some(asked) = name.strip_prefix("random:") {
            return Ok(Expression::Random(self.random(asked)?));
        }
        Err(self.unknown(name))
    }

    /// Needs variables of the broker's own.
    fn page(&self) -> Result<Expression, String> {
        let environment = self.settings.environment();
        match Links::read(|name| environment.variable(name)) {
            Ok(Some(links)) => Ok(Expression::Page(links)),
            Ok(None) if environment.may_be_absent() => Ok(Expression::Absent),
            Ok(None) => Err(format!(
                "${{page}}: wanted the environment variables {} and {}",
                links::URL,
                links::KEYS
            )),
            Err(errors) => Err(format!("${{page}}: {}", errors.join("; "))),
        }
    }

    fn check_parameter(&self, path: &str) -> Result<(), String> {
        let (plan, property) = (self.settings.plan(), path.split('.').next().unwrap_or(path));
        if self.scope.can_have_parameter(plan, property) {
            return Ok(());
        }
        let schemas = [SchemaUse::Bind, SchemaUse::Provision, SchemaUse::Update];
        let known = schemas
            .into_iter()
            .filter_map(|wanted| plan.schema(wanted)?.as_object())
            .flat_map(properties);
        let hint = suggestion(property, known);
        Err(format!(
            "${{parameters.{path}}}: nothing can fill it, since the schemas of plan {:?} allow no {property:?}{hint}",
            plan.name
        ))
    }

    fn random(&mut self, asked: &str) -> Result<usize, String> {
        let random = Random::parse(asked)?;
        let known = self.randoms.iter().position(|known| *known == random);
        Ok(known.unwrap_or_else(|| {
            self.randoms.push(random);
            self.randoms.len() - 1
        }))
    }

    /// Quotes a name only if it is nearly a known one: anything else may be a password that happens to hold `${`.
    fn unknown(&self, name: &str) -> String {
        let tail = name.split_once(['.', ':']).map_or("", |(_, tail)| tail);
        let or = |default| if tail.is_empty() { default } else { tail };
        let forms = [
            format!("parameters.{}", or("NAME")),
            format!("context.{}", or("NAME")),
            format!("env:{}", or("NAME")),
            format!("file:{}", or("PATH")),
            format!("random:{}", or("32")),
        ];
        let names = self.scope.names().iter().copied();
        let hint = suggestion(name, names.chain(forms.iter().map(String::as_str)));
        if hint.is_empty() {
            let names = self.scope.names().join(", ");
            format!(
                "unknown expression, wanted {names}, parameters.NAME, context.NAME, env:NAME, file:PATH or random:32; \
                 a literal \"${{\" is written \"$${{\""
            )
        } else {
            format!("${{{name}}}: unknown{hint}")
        }
    }
}

fn check_path(name: &str, path: &str) -> Result<(), String> {
    if path.split('.').any(str::is_empty) {
        return Err(format!(
            "${{{name}}}: a name is missing before or after a dot"
        ));
    }
    Ok(())
}

fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    match (pieces.last_mut(), piece) {
        (_, Piece::Literal(text)) if text.is_empty() => {}
        (Some(Piece::Literal(before)), Piece::Literal(text)) => before.push_str(&text),
        (_, piece) => pieces.push(piece),
    }
}
