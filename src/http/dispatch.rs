//! The dispatcher: authenticate, check the version, then one arm an endpoint, in the order of the specification.

use super::auth::Credentials;
use super::reply::{Body, Reply};
use super::target::{BasePath, Query, check_id, segments};
use super::{Request, identity, version};
use crate::adapter::{Identity, Origin};
use crate::broker::error::Error;
use crate::broker::{Broker, Caller, Names};
use crate::current::Current;
use crate::log;

use std::cell::OnceCell;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Largest request body, in bytes, unless something else is said.
pub const MAX_BODY: u64 = 1024 * 1024;

/// Where one asks whether the broker is well.
const HEALTH: &str = "/healthz";

/// Longest path in the log, in bytes.
const MAX_PATH: usize = 256;

/// Answers requests. Shared by all workers.
pub struct Dispatcher {
    broker: Arc<Broker>,
    credentials: Current<Credentials>,
    base_path: BasePath,
    max_body: u64,
}

/// What the log says of a request beside its answer. Nothing in it is secret.
#[derive(Debug, Default)]
struct Note<'a> {
    /// The template, not the path itself.
    route: &'static str,
    request_id: Option<&'a str>,
    user: Option<String>,
    instance_id: Option<String>,
    binding_id: Option<String>,
    /// What the service offering and the plan are called.
    names: OnceCell<Arc<Names>>,
    /// Where there is nothing: the path as it came, without its query.
    path: Option<&'a str>,
}

impl Dispatcher {
    pub fn new(broker: Arc<Broker>, credentials: Credentials) -> Dispatcher {
        Dispatcher {
            broker,
            credentials: Current::new(credentials),
            base_path: BasePath::default(),
            max_body: MAX_BODY,
        }
    }

    /// With another limit for bodies, in bytes.
    pub fn with_max_body(self, max_body: u64) -> Dispatcher {
        Dispatcher { max_body, ..self }
    }

    /// Below a path that a proxy in front leaves in.
    pub fn below(self, base_path: BasePath) -> Dispatcher {
        Dispatcher { base_path, ..self }
    }

    /// From now on these credentials are accepted, and no others.
    pub fn replace_credentials(&self, credentials: Credentials) {
        self.credentials.set(credentials);
    }

    /// Whether a path is that of the health check, which needs no credentials.
    pub fn is_health_check(&self, path: &str) -> bool {
        self.base_path.is_health_check(path)
    }

    /// Whether the value of an `Authorization` header is that of a platform.
    pub fn authorizes(&self, authorization: Option<&str>) -> bool {
        self.credentials.get().accept(authorization)
    }

    /// Answers one request and returns the line that the log has about it, if any; the caller adds how long it took.
    pub fn handle(&self, request: &mut Request<'_>) -> (Reply, log::Entry) {
        let echo = request
            .headers
            .get(identity::REQUEST)
            .and_then(identity::echoed);
        let mut note = Note {
            request_id: request
                .headers
                .get(identity::VCAP_REQUEST)
                .and_then(identity::echoed)
                .or(echo),
            ..Note::default()
        };
        let mut reply = self
            .answer(request, &mut note)
            .unwrap_or_else(Reply::from)
            .with_header("Content-Type", "application/json");
        // spec: Request Identity, SHOULD be in the answer.
        if let Some(echo) = echo {
            reply = reply.with_header(identity::REQUEST, echo.to_owned());
        }
        let line = match reply.status {
            // Asked for every few seconds.
            200 if note.route == HEALTH => return (reply, log::none()),
            500.. => log::error("request"),
            _ => log::info("request"),
        };
        let names = note.names.get();
        let line = line
            .with("method", method_for_log(request.method))
            .with("route", note.route)
            .with("path", note.path.map(shortened))
            .with("status", reply.status)
            .with("outcome", &*reply.outcome)
            .with("reason", reply.reason.as_deref())
            .with("request_id", note.request_id)
            .with("user", note.user.as_ref())
            .with("instance_id", note.instance_id.as_ref())
            .with("binding_id", note.binding_id.as_ref())
            .with("service", names.map(|names| &names.service))
            .with("plan", names.map(|names| &names.plan))
            .with("detail", reply.detail.as_ref());
        (reply, line)
    }

    fn answer<'a>(&self, request: &mut Request<'a>, note: &mut Note<'a>) -> Result<Reply, Error> {
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((request.target, ""));
        if self.is_health_check(path) {
            note.route = HEALTH;
            return self.health(request.method);
        }
        note.route = "-";
        if !self.authorizes(request.headers.get("Authorization")) {
            return Ok(unauthorized(&self.credentials.get()));
        }
        version::check(request.headers.get(version::HEADER))?;
        let identity = match request.headers.get(identity::ORIGINATING) {
            Some(header) => Some(identity::parse(header)?),
            None => None,
        };
        note.user = identity
            .as_ref()
            .and_then(Identity::user)
            .map(str::to_owned);

        let segments = segments(path)?;
        let Some(segments) = self.base_path.strip(&segments) else {
            note.path = Some(path);
            return Err(self.base_path.elsewhere());
        };
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let Some(route) = Route::of(&segments) else {
            note.path = Some(path);
            return Err(nothing_at(&segments));
        };
        note.route = route.template();
        if let Some(id) = route.instance_id() {
            check_id("instance_id", id)?;
            note.instance_id = Some(id.to_owned());
        }
        if let Some(id) = route.binding_id() {
            check_id("binding_id", id)?;
            note.binding_id = Some(id.to_owned());
        }
        let query = Query::parse(query)?;
        let caller = Caller {
            origin: Origin {
                identity: identity.as_ref(),
                request_id: note.request_id,
            },
            accepts_incomplete: query.accepts_incomplete,
            since: Instant::now(),
            names: Some(&note.names),
        };
        let (service_id, plan_id) = (query.service_id.as_deref(), query.plan_id.as_deref());
        let operation = query.operation.as_deref();
        let broker = &self.broker;

        use Route::{Binding, BindingOperation, Catalog, Instance, InstanceOperation};
        let answer = match (request.method, route) {
            ("GET" | "HEAD", Catalog) => return Ok(self.catalog(request)),
            ("GET" | "HEAD", InstanceOperation(id)) => {
                broker.poll_instance(id, service_id, plan_id, operation, caller)
            }
            ("GET" | "HEAD", BindingOperation(instance, id)) => {
                broker.poll_binding(instance, id, service_id, plan_id, operation, caller)
            }
            ("PUT", Instance(id)) => broker.provision(id, &self.read_body(request)?, caller),
            ("GET" | "HEAD", Instance(id)) => {
                broker.fetch_instance(id, service_id, plan_id, caller)
            }
            ("PATCH", Instance(id)) => broker.update(id, &self.read_body(request)?, caller),
            ("PUT", Binding(instance, id)) => {
                broker.bind(instance, id, &self.read_body(request)?, caller)
            }
            ("GET" | "HEAD", Binding(instance, id)) => {
                broker.fetch_binding(instance, id, service_id, plan_id, caller)
            }
            ("DELETE", Binding(instance, id)) => {
                let (service_id, plan_id) = query.required_ids()?;
                broker.unbind(instance, id, service_id, plan_id, caller)
            }
            ("DELETE", Instance(id)) => {
                let (service_id, plan_id) = query.required_ids()?;
                broker.deprovision(id, service_id, plan_id, caller)
            }
            (_, route) => return Ok(method_not_allowed(route.allowed())),
        };
        answer.map(Reply::from)
    }

    /// `GET /v2/catalog`. spec: Catalog Management; RFC 7232 for the conditions.
    fn catalog(&self, request: &Request<'_>) -> Reply {
        let plans = self.broker.plans();
        let catalog = plans.catalog();
        let unchanged = match request.headers.get("If-None-Match") {
            Some(tags) => tags.split(',').any(|tag| {
                let tag = tag.trim();
                tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == catalog.etag()
            }),
            None => request
                .headers
                .get("If-Modified-Since")
                .and_then(|date| httpdate::parse_http_date(date).ok())
                .is_some_and(|date| whole_seconds(catalog.modified()) <= date),
        };
        let (status, outcome) = if unchanged {
            (304, "not_modified")
        } else {
            (200, "served")
        };
        // As with HEAD, the server sends the length of the body and leaves the body itself out. RFC 9110, 8.6.
        Reply::new(status, Body::Shared(catalog.rendered().clone()), outcome)
            .with_header("ETag", catalog.etag().to_owned())
            .with_header("Last-Modified", httpdate::fmt_http_date(catalog.modified()))
    }

    /// `GET /healthz`, without credentials: whether requests can be served.
    fn health(&self, method: &str) -> Result<Reply, Error> {
        if !matches!(method, "GET" | "HEAD") {
            return Ok(method_not_allowed("GET, HEAD"));
        }
        self.broker.check_store()?;
        Ok(Reply::new(
            200,
            Body::Owned(br#"{"status":"ok"}"#.to_vec()),
            "healthy",
        ))
    }

    fn read_body(&self, request: &mut Request<'_>) -> Result<Vec<u8>, Error> {
        let max_body = self.max_body;
        let too_large = || {
            Error::new(
                413,
                format!("The request body is larger than {max_body} bytes."),
            )
        };
        let declared = request.content_length;
        if declared.is_some_and(|length| length > max_body) {
            return Err(too_large());
        }
        let mut body = Vec::with_capacity(declared.unwrap_or(0) as usize);
        let incomplete = || Error::bad_request("The request body ended before it was complete.");
        (&mut *request.body)
            .take(max_body + 1)
            .read_to_end(&mut body)
            .map_err(|_| incomplete())?;
        match body.len() as u64 {
            length if length > max_body => Err(too_large()),
            length if declared.is_some_and(|declared| length < declared) => Err(incomplete()),
            _ => Ok(body),
        }
    }
}

/// The endpoints of the specification.
#[derive(Clone, Copy)]
enum Route<'a> {
    Catalog,
    Instance(&'a str),
    InstanceOperation(&'a str),
    Binding(&'a str, &'a str),
    BindingOperation(&'a str, &'a str),
}

impl<'a> Route<'a> {
    fn of(segments: &[&'a str]) -> Option<Route<'a>> {
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

    fn template(self) -> &'static str {
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

    fn allowed(self) -> &'static str {
        match self {
            Route::Catalog | Route::InstanceOperation(_) | Route::BindingOperation(..) => {
                "GET, HEAD"
            }
            Route::Instance(_) => "GET, HEAD, PUT, PATCH, DELETE",
            Route::Binding(..) => "GET, HEAD, PUT, DELETE",
        }
    }

    fn instance_id(self) -> Option<&'a str> {
        match self {
            Route::Catalog => None,
            Route::Instance(instance)
            | Route::InstanceOperation(instance)
            | Route::Binding(instance, _)
            | Route::BindingOperation(instance, _) => Some(instance),
        }
    }

    fn binding_id(self) -> Option<&'a str> {
        match self {
            Route::Binding(_, binding) | Route::BindingOperation(_, binding) => Some(binding),
            _ => None,
        }
    }
}

/// 404, with the path that was meant, where that can be told.
fn nothing_at(segments: &[&str]) -> Error {
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

/// spec: Platform to Service Broker Authentication, 401.
fn unauthorized(credentials: &Credentials) -> Reply {
    let wanted = credentials.wanted();
    let error = Error::new(
        401,
        format!("The {wanted} for this service broker is missing or wrong."),
    );
    credentials
        .challenges()
        .fold(Reply::from(error), |reply, challenge| {
            reply.with_header("WWW-Authenticate", challenge)
        })
}

fn method_not_allowed(allowed: &'static str) -> Reply {
    let error = Error::new(405, format!("This path allows {allowed} only."));
    Reply::from(error).with_header("Allow", allowed)
}

/// HTTP dates have whole seconds.
fn whole_seconds(time: SystemTime) -> SystemTime {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map(|age| SystemTime::UNIX_EPOCH + Duration::from_secs(age.as_secs()))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Paths are the client's words, too; a line that repeats them stays short.
fn shortened(path: &str) -> &str {
    &path[..path.floor_char_boundary(MAX_PATH)]
}

/// Methods are the client's words: those that nobody knows do not reach the log.
fn method_for_log(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "PUT" | "PATCH" | "DELETE" | "POST" | "OPTIONS" => method,
        _ => "other",
    }
}
