//! Which endpoint a path is.

use crate::broker::error::Error;

/// The endpoints of the specification.
#[derive(Clone, Copy)]
pub enum Route<'a> {
    Catalog,
    Instance(&'a str),
    InstanceOperation(&'a str),
    Binding(&'a str, &'a str),
    BindingOperation(&'a str, &'a str),
}

impl<'a> Route<'a> {
    pub fn of(segments: &[&'a str]) -> Option<Route<'a>> {
        Some(match *segments {
            ["v2", "catalog"] => Route::Catalog,
            ["v2", "service_instances", instance] => Route::Instance(instance),
            ["v2", "service_instances", instance, "last_operation"] => {
                Route::InstanceOperation(instance)
            }
            [
                "v2",
                "service_instances",
                instance,
                "service_bindings",
                binding,
            ] => Route::Binding(instance, binding),
            [
                "v2",
                "service_instances",
                instance,
                "service_bindings",
                binding,
                "last_operation",
            ] => Route::BindingOperation(instance, binding),
            _ => return None,
        })
    }

    pub fn template(self) -> &'static str {
        match self {
            Route::Catalog => "/v2/catalog",
            Route::Instance(_) => "/v2/service_instances/:instance_id",
            Route::InstanceOperation(_) => "/v2/service_instances/:instance_id/last_operation",
            Route::Binding(..) => "/v2/service_instances/:instance_id/service_bindings/:binding_id",
            Route::BindingOperation(..) => {
                "/v2/service_instances/:instance_id/service_bindings/:binding_id/last_operation"
            }
        }
    }

    pub fn allowed(self) -> &'static str {
        match self {
            Route::Catalog | Route::InstanceOperation(_) | Route::BindingOperation(..) => {
                "GET, HEAD"
            }
            Route::Instance(_) => "GET, HEAD, PUT, PATCH, DELETE",
            Route::Binding(..) => "GET, HEAD, PUT, DELETE",
        }
    }

    pub fn instance_id(self) -> Option<&'a str> {
        match self {
            Route::Catalog => None,
            Route::Instance(instance)
            | Route::InstanceOperation(instance)
            | Route::Binding(instance, _)
            | Route::BindingOperation(instance, _) => Some(instance),
        }
    }

    pub fn binding_id(self) -> Option<&'a str> {
        match self {
            Route::Binding(_, binding) | Route::BindingOperation(_, binding) => Some(binding),
            _ => None,
        }
    }
}

/// A 404. If the path looks like a mistake for one that exists, it says which.
pub fn nothing_at(segments: &[&str]) -> Error {
    let end = segments.iter().rposition(|segment| !segment.is_empty());
    let whole = &segments[..end.map_or(0, |last| last + 1)];
    let slash = whole.len() < segments.len();
    let below = [&["v2"], whole].concat();
    let (meant, prefix) = match (Route::of(whole), Route::of(&below)) {
        (Some(route), _) if slash => (route, false),
        (_, Some(route)) => (route, true),
        _ => return Error::not_found("There is nothing at this path."),
    };
    let what = match (prefix, slash) {
        (true, true) => "does not begin with /v2, and ends with a slash",
        (true, false) => "does not begin with /v2",
        (false, _) => "ends with a slash",
    };
    Error::not_found(format!(
        "There is nothing at this path: it {what}; wanted {}.",
        meant.template()
    ))
}
