//! The dispatcher: checks authentication and version, then has one arm for each endpoint, in the order of the
//! specification.

mod look;
mod note;

use super::auth::{Authentication, Credentials};
use super::page::{DASHBOARD, Page, Viewer};
use super::reply::{Body, Reply};
use super::request::{AUTHORIZATION, Request};
use super::route::{Route, nothing_at};
use super::target::{BasePath, HEALTH, Probe, Query, READINESS, check_id, segments};
use super::{identity, version};
use crate::adapter::{Identity, Origin};
use crate::broker::error::Error;
use crate::broker::{Broker, Caller};
use crate::current::Current;
use crate::links::Links;
use crate::log;
use note::Note;

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Largest request body, in bytes, unless another limit is set.
pub const MAX_BODY: u64 = 1024 * 1024;

/// Answers requests. Shared by all workers.
pub struct Dispatcher {
    broker: Arc<Broker>,
    credentials: Arc<Current<Credentials>>,
    access: Access,
    /// Who has one of these sees a page without credentials.
    links: Option<Arc<Links>>,
    base_path: BasePath,
    max_body: u64,
}

/// What is answered, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// The API, with the broker's credentials.
    Api,
    /// What operators look at. `open`: whoever can connect may.
    Admin { open: bool },
}

impl Dispatcher {
    pub fn new(broker: Arc<Broker>, credentials: Credentials) -> Dispatcher {
        Dispatcher {
            broker,
            credentials: Arc::new(Current::new(credentials)),
            access: Access::Api,
            links: None,
            base_path: BasePath::default(),
            max_body: MAX_BODY,
        }
    }

    /// A dispatcher for what operators look at, with the same broker and credentials, also when these are replaced.
    /// `open`: none are needed.
    pub fn for_admin(&self, open: bool) -> Dispatcher {
        Dispatcher {
            broker: self.broker.clone(),
            credentials: self.credentials.clone(),
            access: Access::Admin { open },
            links: None,
            base_path: BasePath::default(),
            max_body: 0,
        }
    }

    /// With another limit for bodies, in bytes.
    pub fn with_max_body(self, max_body: u64) -> Dispatcher {
        Dispatcher { max_body, ..self }
    }

    /// With all endpoints below a base path, for a proxy that does not remove it.
    pub fn below(self, base_path: BasePath) -> Dispatcher {
        Dispatcher { base_path, ..self }
    }

    /// With pages of instances for those who have a link.
    pub fn with_links(self, links: Option<Links>) -> Dispatcher {
        Dispatcher {
            links: links.map(Arc::new),
            ..self
        }
    }

    /// From now on these credentials are accepted, and no others.
    pub fn replace_credentials(&self, credentials: Credentials) {
        self.credentials.set(credentials);
    }

    /// Whether a path is that of the health check, which needs no credentials.
    pub fn is_health_check(&self, path: &str) -> bool {
        self.base_path.probe(path).is_some()
    }

    /// Compares the value of an `Authorization` header with the credentials that are accepted now.
    pub fn authenticate(&self, authorization: Option<&str>) -> Authentication {
        match self.access {
            Access::Admin { open: true } => Authentication::not_needed(),
            _ => self.credentials.get().check(authorization),
        }
    }

    /// Answers one request. Returns the log line about it, too, to which the caller adds how long it took.
    pub fn handle(&self, request: &mut Request<'_>) -> (Reply, log::Entry) {
        let authentication = self.authenticate(request.headers.get(AUTHORIZATION));
        self.handle_authenticated(request, authentication)
    }

    /// The same for a request whose credentials were compared before. So the gate, which has to know the result before it
    /// reads a body, does not make us compare them twice.
    pub fn handle_authenticated(
        &self,
        request: &mut Request<'_>,
        authentication: Authentication,
    ) -> (Reply, log::Entry) {
        let began = Instant::now();
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
            .answer(request, authentication, &mut note)
            .unwrap_or_else(Reply::from);
        note.keep(request.method, &reply, began.elapsed());
        if reply.header("Content-Type").is_none() {
            reply = reply.with_header("Content-Type", "application/json");
        }
        // spec: Request Identity, SHOULD be in the answer.
        if let Some(echo) = echo {
            reply = reply.with_header(identity::REQUEST, echo.to_owned());
        }
        let line = note.line(request.method, &reply);
        (reply, line)
    }

    fn answer<'a>(
        &self,
        request: &mut Request<'a>,
        authentication: Authentication,
        note: &mut Note<'a>,
    ) -> Result<Reply, Error> {
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((request.target, ""));
        if let Some(probe) = self.base_path.probe(path) {
            note.route = match probe {
                Probe::Health => HEALTH,
                Probe::Readiness => READINESS,
            };
            return self.health(probe, request.method);
        }
        note.route = "-";
        if !authentication.is_valid() {
            if let Some(reply) = self.guest_page(request.method, path, query, note) {
                return reply;
            }
            return Ok(unauthorized(&self.credentials.get()));
        }
        if let Access::Admin { .. } = self.access {
            return self.admin(request.method, path, query, note);
        }
        // A browser does not say which version of the API it speaks.
        let segments = segments(path)?;
        let below = self.base_path.strip(&segments);
        if let Some([first, rest @ ..]) = below
            && first == DASHBOARD
        {
            let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
            if let Some(page) = Page::of(&rest) {
                let prefix = format!("{}/{DASHBOARD}", self.base_path);
                return self.page(request.method, page, query, Viewer::Operator(&prefix), note);
            }
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

        let Some(segments) = below else {
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
                from: request.client,
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

    /// `GET /healthz` and `GET /readyz`, without credentials: whether requests can be served. A state that is away is no
    /// reason to start the broker again, if it is a database: then only `/readyz` says so.
    fn health(&self, probe: Probe, method: &str) -> Result<Reply, Error> {
        if !matches!(method, "GET" | "HEAD") {
            return Ok(method_not_allowed("GET, HEAD"));
        }
        if probe == Probe::Readiness || !self.broker.is_shared() {
            self.broker.check_store()?;
        }
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
