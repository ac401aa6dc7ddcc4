//! The section `instance`.

use crate::adapter::shape;
use crate::adapter::template::{Members, Parser, Random, Scope, Template, Values, render_object};
use crate::adapter::{Failure, InstanceCall, Provisioned, Settings, read_state};

use serde_json::{Map, Value};

/// What an instance shows.
#[derive(Default)]
pub struct Instance {
    dashboard_url: Option<Template>,
    metadata: Option<Members>,
    randoms: Vec<Random>,
}

impl Instance {
    pub fn read(settings: &Settings<'_>) -> Instance {
        let mut parser = Parser::new(Scope::Instance, settings);
        let mut dashboard_url = parser.template("dashboard_url");
        if let Some(url) = &mut dashboard_url {
            shape::fit_value(shape::DASHBOARD_URL, url, "dashboard_url", settings);
        }
        let mut metadata = parser.object("metadata");
        if let Some(members) = &mut metadata {
            shape::fit_members(shape::INSTANCE_METADATA, members, "metadata", settings);
        }
        Instance {
            dashboard_url,
            metadata,
            randoms: parser.into_randoms(),
        }
    }

    pub fn render(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
        let drawn = self.randoms(call)?;
        let values = Values::of_instance(call, drawn.values);
        Ok(Provisioned {
            dashboard_url: self
                .dashboard_url
                .as_ref()
                .map(|url| url.render_string(&values))
                .transpose()?,
            metadata: self
                .metadata
                .as_ref()
                .map(|m| render_object(m, &values))
                .transpose()?,
            state: drawn.state,
        })
    }

    /// The random values that the templates need, and the state that keeps them for the next time. What an earlier plan
    /// kept stays in it: who changes the plan back gets the old values back.
    fn randoms(&self, call: &InstanceCall<'_>) -> Result<Drawn, Failure> {
        if self.randoms.is_empty() {
            return Ok(Drawn::default());
        }
        // Going on without the state would change passwords that are in use.
        let mut state = read_state(call.state, "instance")?;
        let mut kept = match state.remove("random") {
            Some(Value::Object(kept)) => kept,
            _ => Map::new(),
        };
        let mut values = Vec::with_capacity(self.randoms.len());
        for random in &self.randoms {
            let value = random.take_or_draw(Some(&kept))?;
            kept.insert(random.key().to_owned(), Value::String(value.clone()));
            values.push(value);
        }
        state.insert("random".to_owned(), Value::Object(kept));
        Ok(Drawn {
            values,
            state: Some(state),
        })
    }
}

#[derive(Default)]
struct Drawn {
    values: Vec<String>,
    state: Option<Map<String, Value>>,
}
