//! The tables of the chapter "Catalog Management" and of the Cloud Foundry profile, field by field, in their order.

use super::super::finding::Severity;

/// A JSON object and the fields that it may have.
pub(super) struct Object {
    pub fields: &'static [Field],
    pub others: Others,
    /// The longest that Cloud Controller takes, in characters of JSON text.
    pub longest: Option<usize>,
}

pub(super) struct Field {
    pub name: &'static str,
    pub presence: Presence,
    pub unique: Option<Unique>,
    /// How bad a wrong value is.
    pub severity: Severity,
    pub rule: Rule,
    /// Who wants it so, where it is not the specification; follows the message.
    pub note: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Required,
    /// `null` counts as absent: brokers written in Go send `"tags": null`.
    Optional,
    /// May be absent, but `null` is a wrong value, since it would be served as it stands.
    NeverNull,
}

/// Among whom a value must be unique.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unique {
    Catalog,
    Siblings,
}

/// What happens to fields that are not in the table.
#[derive(Clone, Copy)]
pub(super) enum Others {
    /// spec: Vendor Extension Fields. They are served; only misspellings are suspicious.
    Extensions,
    /// They are served as well, and told of, since settings of an adapter may have come there by mistake. Fields of
    /// `elsewhere`, which are those of its `owner`, have no meaning here.
    Served {
        elsewhere: &'static Object,
        owner: &'static str,
    },
    /// The catalog types do not keep them.
    Dropped,
    CloudControllerRefuses,
}

pub(super) enum Rule {
    Boolean,
    /// A positive whole number.
    Seconds,
    Text,
    NotBlank,
    Id,
    Name,
    Description,
    /// A semantic version 2.0.
    Version,
    Tags,
    Permissions,
    Object(&'static Object),
    /// The object that holds the JSON schemas of a plan.
    Schemas(&'static Object),
    JsonSchema,
    /// A list of such objects, at least one, and what one is called.
    Objects(&'static Object, &'static str),
    List(&'static Rule),
}

impl Rule {
    /// What the rule wants, for `found …, wanted …`.
    pub(super) fn wanted(&self) -> &'static str {
        match self {
            Rule::Boolean => "true or false",
            Rule::Seconds => "a whole number of seconds, at least 1",
            Rule::Text => "a string",
            Rule::NotBlank | Rule::Id | Rule::Name | Rule::Description => {
                "a string that is not blank"
            }
            Rule::Version => "a semantic version such as \"1.2.0\"",
            Rule::Tags => "an array of strings",
            Rule::Permissions => {
                "an array of \"syslog_drain\", \"route_forwarding\" or \"volume_mount\""
            }
            Rule::JsonSchema => "a JSON schema object",
            Rule::Object(_) | Rule::Schemas(_) => "an object",
            Rule::Objects(..) => "an array of objects",
            Rule::List(Rule::Object(_)) => "an array of objects",
            Rule::List(_) => "an array of strings",
        }
    }
}

const fn optional(name: &'static str, rule: Rule) -> Field {
    Field {
        name,
        presence: Presence::Optional,
        unique: None,
        severity: Severity::Error,
        rule,
        note: "",
    }
}

const fn required(name: &'static str, rule: Rule) -> Field {
    Field {
        presence: Presence::Required,
        ..optional(name, rule)
    }
}

/// A field that platforms read by convention only: a wrong value is a warning.
const fn convention(name: &'static str, rule: Rule) -> Field {
    Field {
        severity: Severity::Warning,
        ..optional(name, rule)
    }
}

impl Field {
    const fn unique_in(self, unique: Unique) -> Field {
        Field {
            unique: Some(unique),
            ..self
        }
    }

    const fn note(self, note: &'static str) -> Field {
        Field { note, ..self }
    }

    const fn never_null(self) -> Field {
        Field {
            presence: Presence::NeverNull,
            ..self
        }
    }
}

const fn object(fields: &'static [Field], others: Others) -> Object {
    Object {
        fields,
        others,
        longest: None,
    }
}

/// spec: Catalog Management, Response, Body.
pub(super) static CATALOG: Object = object(
    &[
        required("services", Rule::Objects(&SERVICE, "service offering"))
            .note("; Cloud Controller refuses a catalog without one"),
    ],
    Others::Dropped,
);

/// spec: Service Offering Object.
static SERVICE: Object = object(
    &[
        required("name", Rule::Name).unique_in(Unique::Catalog),
        required("id", Rule::Id).unique_in(Unique::Catalog),
        required("description", Rule::Description),
        optional("tags", Rule::Tags),
        optional("requires", Rule::Permissions),
        required("bindable", Rule::Boolean),
        optional("instances_retrievable", Rule::Boolean),
        optional("bindings_retrievable", Rule::Boolean),
        optional("allow_context_updates", Rule::Boolean),
        optional("metadata", Rule::Object(&SERVICE_METADATA)),
        optional("dashboard_client", Rule::Object(&DASHBOARD_CLIENT)),
        optional("plan_updateable", Rule::Boolean),
        required("plans", Rule::Objects(&PLAN, "service plan")),
    ],
    Others::Served {
        elsewhere: &PLAN,
        owner: "service plans",
    },
);

/// spec: Service Plan Object.
static PLAN: Object = object(
    &[
        required("id", Rule::Id).unique_in(Unique::Catalog),
        required("name", Rule::Name).unique_in(Unique::Siblings),
        required("description", Rule::Description),
        optional("metadata", Rule::Object(&PLAN_METADATA)),
        optional("free", Rule::Boolean),
        optional("bindable", Rule::Boolean),
        optional("binding_rotatable", Rule::Boolean),
        optional("plan_updateable", Rule::Boolean),
        optional("schemas", Rule::Schemas(&SCHEMAS)),
        optional("maximum_polling_duration", Rule::Seconds),
        optional("maintenance_info", Rule::Object(&MAINTENANCE_INFO)),
    ],
    Others::Served {
        elsewhere: &SERVICE,
        owner: "service offerings",
    },
);

/// spec: Schemas Object.
static SCHEMAS: Object = object(
    &[
        optional("service_instance", Rule::Object(&SERVICE_INSTANCE_SCHEMA)),
        optional("service_binding", Rule::Object(&SERVICE_BINDING_SCHEMA)),
    ],
    Others::Dropped,
);

/// spec: Service Instance Schema Object.
static SERVICE_INSTANCE_SCHEMA: Object = object(
    &[
        optional("create", Rule::Object(&INPUT_PARAMETERS_SCHEMA)),
        optional("update", Rule::Object(&INPUT_PARAMETERS_SCHEMA)),
    ],
    Others::Dropped,
);

/// spec: Service Binding Schema Object.
static SERVICE_BINDING_SCHEMA: Object = object(
    &[optional("create", Rule::Object(&INPUT_PARAMETERS_SCHEMA))],
    Others::Dropped,
);

/// spec: Input Parameters Schema Object.
static INPUT_PARAMETERS_SCHEMA: Object =
    object(&[optional("parameters", Rule::JsonSchema)], Others::Dropped);

/// spec: Maintenance Info Object.
static MAINTENANCE_INFO: Object = Object {
    longest: Some(2_000),
    ..object(
        &[
            required("version", Rule::Version),
            optional("description", Rule::Text),
        ],
        Others::CloudControllerRefuses,
    )
};

/// profile: Dashboard Client Object. Cloud Controller wants `redirect_uri` as well, and ids that are unique.
static DASHBOARD_CLIENT: Object = object(
    &[
        required("id", Rule::NotBlank).unique_in(Unique::Catalog),
        required("secret", Rule::NotBlank),
        required("redirect_uri", Rule::NotBlank)
            .note("; Cloud Controller refuses a dashboard_client without it"),
    ],
    Others::Extensions,
);

/// profile: Service Metadata, Cloud Foundry Service Metadata.
static SERVICE_METADATA: Object = object(
    &[
        convention("displayName", Rule::Text),
        convention("imageUrl", Rule::Text),
        convention("longDescription", Rule::Text),
        convention("providerDisplayName", Rule::Text),
        optional("documentationUrl", Rule::Text)
            .never_null()
            .note("; Korifi panics on anything else"),
        convention("supportUrl", Rule::Text),
        optional("shareable", Rule::Boolean),
    ],
    Others::Extensions,
);

/// profile: Service Metadata, Plan Metadata Fields.
static PLAN_METADATA: Object = object(
    &[
        convention("bullets", Rule::List(&Rule::Text)),
        convention("costs", Rule::List(&Rule::Object(&COST))),
        convention("displayName", Rule::Text),
    ],
    Others::Extensions,
);

/// profile: Service Metadata, Cost Object.
static COST: Object = object(
    &[
        convention("amount", Rule::Object(&AMOUNT)),
        convention("unit", Rule::Text),
    ],
    Others::Extensions,
);

/// Currencies, whatever they are called.
static AMOUNT: Object = object(&[], Others::Extensions);
