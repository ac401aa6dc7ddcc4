//! The connections to one web service: kept while they work, and each cut off on its own.
//!
//! An `Agent` of ureq cuts off all of its connections or none, so each call has one to itself, with one connection.

use super::wire::{Dial, Later};
use crate::adapter::{Cancel, Reason};

use rustls::ClientConfig;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq::config::Config;
use ureq::http::response::Parts;
use ureq::http::{HeaderMap, Method, Request, Response, Uri};
use ureq::{Agent, AsSendBody, Body, Error};

/// One read or write.
const BUFFER: usize = 16 * 1024;
/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(15);

pub struct Client {
    dial: Dial,
    config: Config,
    idle: Mutex<Vec<Agent>>,
    /// How many are kept.
    most: usize,
}

/// What is sent.
pub struct Message<'m> {
    pub method: Method,
    pub to: &'m Uri,
    pub headers: HeaderMap,
    /// Absent for all but a POST.
    pub body: Option<&'m [u8]>,
}

/// How long it may take.
#[derive(Clone, Copy)]
pub struct Limits {
    pub connect: Duration,
    pub first_byte: Duration,
}

impl Client {
    /// `most`: how many calls there are at the same time.
    pub fn new(tls: Option<Arc<ClientConfig>>, most: usize) -> Client {
        let config = Agent::config_builder()
            // Of the environment, and it would see all that is sent.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("brokerlet/", env!("CARGO_PKG_VERSION")))
            .accept("application/json, application/x-ndjson")
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections(1)
            .max_idle_age(IDLE)
            .build();
        Client {
            dial: Dial { tls },
            config,
            idle: Mutex::default(),
            most,
        }
    }

    /// Sends a message, and has `hear` read the answer as it comes. Cut off when the broker stops.
    pub fn send<T>(
        &self,
        message: Message<'_>,
        limits: Limits,
        deadline: Instant,
        cancel: &Cancel,
        hear: impl FnOnce(&Parts, &mut dyn Read) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let agent = self.take();
        let cut = cancel.on_cancel({
            let agent = agent.clone();
            move |reason| {
                if reason == Reason::Stopping {
                    agent.shutdown();
                }
            }
        });
        let result = exchange(&agent, message, limits, deadline, hear);
        drop(cut);
        if result.is_ok() && !cancel.is_cancelled() {
            let mut idle = self.lock();
            if idle.len() < self.most {
                idle.push(agent);
            }
        }
        result
    }

    fn take(&self) -> Agent {
        let kept = self.lock().pop();
        kept.unwrap_or_else(|| Agent::with_parts(self.config.clone(), self.dial.clone(), Later))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Agent>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exchange<T>(
    agent: &Agent,
    message: Message<'_>,
    limits: Limits,
    deadline: Instant,
    hear: impl FnOnce(&Parts, &mut dyn Read) -> Result<T, Error>,
) -> Result<T, Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut request = Request::new(());
    *request.method_mut() = message.method;
    *request.uri_mut() = message.to.clone();
    *request.headers_mut() = message.headers;
    let response = match message.body {
        Some(body) => run(agent, request.map(|()| body), limits, left)?,
        None => run(agent, request, limits, left)?,
    };
    let (head, body) = response.into_parts();
    hear(&head, &mut body.into_reader())
}

fn run(
    agent: &Agent,
    request: Request<impl AsSendBody>,
    limits: Limits,
    left: Duration,
) -> Result<Response<Body>, Error> {
    let request = agent
        .configure_request(request)
        .timeout_global(Some(left))
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.first_byte))
        .build();
    agent.run(request)
}
