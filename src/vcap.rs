//! The services that Cloud Foundry has bound to this app: `VCAP_SERVICES`.

use serde_json::Value;

/// A service that is bound.
pub struct Bound {
    pub name: String,
    tags: Vec<String>,
    /// By which it can be named: that of the instance, that of the binding.
    names: Vec<String>,
    credentials: Value,
}

/// Reads `VCAP_SERVICES`. The error shows nothing of the text: it holds passwords.
pub fn services(text: &str) -> Result<Vec<Bound>, String> {
    let labels: Value = serde_json::from_str(text).map_err(|error| {
        format!(
            "VCAP_SERVICES: found no JSON at line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    let labels = labels.as_object().into_iter().flat_map(|map| map.values());
    let services = labels.filter_map(Value::as_array).flatten();
    Ok(services.map(Bound::read).collect())
}

impl Bound {
    fn read(service: &Value) -> Bound {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let names = ["name", "instance_name", "binding_name"];
        let tags = service["tags"].as_array().into_iter().flatten();
        Bound {
            name: text(&service["name"]).unwrap_or_else(|| "the bound service".to_owned()),
            tags: tags.filter_map(text).collect(),
            names: names
                .iter()
                .filter_map(|name| text(&service[*name]))
                .collect(),
            credentials: service["credentials"].clone(),
        }
    }

    pub fn is_named(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    pub fn is_postgres(&self) -> bool {
        let mut tags = self.tags.iter();
        tags.any(|tag| matches!(tag.as_str(), "postgresql" | "postgres"))
    }

    /// The connection string of a PostgreSQL database. Brokers call it `uri`, or give the parts.
    pub fn connection_string(&self) -> Result<String, String> {
        connection_string(&self.credentials).ok_or_else(|| {
            format!(
                "VCAP_SERVICES: the credentials of {} have no uri, and no host and username",
                self.name
            )
        })
    }
}

fn connection_string(credentials: &Value) -> Option<String> {
    let text = |names: &[&str]| {
        names.iter().find_map(|name| match &credentials[*name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let uri = text(&["uri", "url", "connection_string", "database_uri"])
        .filter(|uri| uri.starts_with("postgres://") || uri.starts_with("postgresql://"));
    if uri.is_some() {
        return uri;
    }
    let quoted = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut parts = vec![
        format!("host={}", quoted(&text(&["host", "hostname"])?)),
        format!("user={}", quoted(&text(&["username", "user"])?)),
    ];
    for (key, names) in [
        ("port", &["port"][..]),
        ("password", &["password"]),
        ("dbname", &["name", "database", "dbname"]),
        ("sslmode", &["sslmode"]),
    ] {
        parts.extend(text(names).map(|value| format!("{key}={}", quoted(&value))));
    }
    Some(parts.join(" "))
}
