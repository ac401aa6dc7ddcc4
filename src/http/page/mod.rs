//! The page of operators: what there is, what is being done, and what went wrong. Made here, without scripts, and without
//! anything from elsewhere.

mod html;
mod instances;
mod overview;

use super::reply::{Body, Reply};
use crate::broker::Broker;
use crate::broker::error::Error;
use crate::random;
use html::Html;

/// The segment that the page is below on the broker's own address.
pub const DASHBOARD: &str = "dashboard";

/// The templates of the paths, as they are logged and counted.
pub const OVERVIEW: &str = "/dashboard";
pub const INSTANCES: &str = "/dashboard/instances";
pub const INSTANCE: &str = "/dashboard/instances/:instance_id";

/// Which page a path is, from the prefix on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page<'a> {
    Overview,
    Instances,
    Instance(&'a str),
}

impl<'a> Page<'a> {
    pub fn of(segments: &[&'a str]) -> Option<Page<'a>> {
        match *segments {
            [] | [""] => Some(Page::Overview),
            ["instances"] => Some(Page::Instances),
            ["instances", id] if !id.is_empty() => Some(Page::Instance(id)),
            _ => None,
        }
    }

    pub fn template(self) -> &'static str {
        match self {
            Page::Overview => OVERVIEW,
            Page::Instances => INSTANCES,
            Page::Instance(_) => INSTANCE,
        }
    }
}

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer<'a> {
    /// Sees all, with links below this prefix.
    Operator(&'a str),
    /// Has been given a link to one instance.
    Guest,
}

impl Viewer<'_> {
    fn prefix(&self) -> Option<&str> {
        match self {
            Viewer::Operator(prefix) => Some(prefix),
            Viewer::Guest => None,
        }
    }
}

/// What pages are made with.
struct Maker<'a> {
    broker: &'a Broker,
    prefix: &'a str,
    nonce: &'a str,
}

impl Maker<'_> {
    fn html(&self, title: &str) -> Html {
        Html::new(title, self.nonce, Some(self.prefix))
    }

    /// The address of an instance's page.
    fn instance(&self, id: &str) -> String {
        format!("{}/instances/{}", self.prefix, html::encoded(id))
    }
}

/// An error as a page, with the same status.
pub fn failed(error: Error) -> Reply {
    let Ok(nonce) = random::word() else {
        return error.into();
    };
    let mut html = Html::new("This did not work", &nonce, None);
    html.note(&error.description);
    let failed = Reply::from(error);
    let reply = Reply {
        body: Body::Owned(html.finish()),
        ..failed
    };
    with_headers(reply, &nonce)
}

/// Makes a page.
pub fn answer(
    broker: &Broker,
    page: Page<'_>,
    query: &str,
    viewer: Viewer<'_>,
) -> Result<Reply, Error> {
    let nonce = random::word().map_err(|error| Error {
        detail: Some(format!("the system's random generator failed: {error}")),
        ..Error::new(503, "The page cannot be made right now. Try again later.")
    })?;
    let body = match (page, viewer.prefix()) {
        (Page::Overview, Some(prefix)) => overview::make(&Maker {
            broker,
            prefix,
            nonce: &nonce,
        })?,
        (Page::Instances, Some(prefix)) => {
            let maker = Maker {
                broker,
                prefix,
                nonce: &nonce,
            };
            instances::list(&maker, query)?
        }
        (Page::Instance(id), prefix) => instances::one(broker, id, &nonce, prefix)?,
        (_, None) => return Err(Error::not_found("There is nothing at this path.")),
    };
    Ok(with_headers(
        Reply::new(200, Body::Owned(body), "served"),
        &nonce,
    ))
}

/// What keeps a browser from doing more with a page than to show it.
fn with_headers(reply: Reply, nonce: &str) -> Reply {
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    reply
        .with_header("Content-Type", "text/html; charset=utf-8")
        .with_header("Content-Security-Policy", policy)
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Referrer-Policy", "no-referrer")
        .with_header("Cache-Control", "no-store")
}
