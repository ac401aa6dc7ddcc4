//! Where a worker puts an answer: for the connection that waits for it, or for whoever sends it at once.

use super::reply::Reply;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Holds one answer at a time.
#[derive(Default)]
pub struct ReplySlot {
    content: Mutex<Content>,
    filled: Condvar,
}

/// Takes an answer at once.
pub trait ReplySink: Send + Sync {
    /// `None` where there will be no answer.
    fn deliver(&self, reply: Option<Reply>);
}

#[derive(Default)]
enum Content {
    #[default]
    Nothing,
    /// Who takes the answer in the place of the tray.
    ReplySink(Arc<dyn ReplySink>),
    Answer(Reply),
    /// There will be no answer.
    Lost,
}

/// What became of a request.
#[derive(Debug)]
pub enum Taken {
    Answer(Reply),
    /// Whoever worked on it has failed.
    Lost,
    /// Not yet known.
    Nothing,
}

/// A tray that a worker is to put an answer into. If it is dropped before, the answer is lost.
pub struct Responder<'t>(Option<&'t ReplySlot>);

impl ReplySlot {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn owe(&self) -> Responder<'_> {
        Responder(Some(self))
    }

    /// Throws away what may be left from an earlier request.
    pub fn clear(&self) {
        *self.content() = Content::Nothing;
    }

    /// Throws away what may be left, and has the next answer delivered.
    pub fn deliver_to(&self, outlet: Arc<dyn ReplySink>) {
        *self.content() = Content::ReplySink(outlet);
    }

    /// Waits for the answer, and takes it.
    pub fn take(&self, until: Instant) -> Taken {
        let mut content = self.content();
        loop {
            match std::mem::take(&mut *content) {
                Content::Answer(reply) => return Taken::Answer(reply),
                Content::Lost => return Taken::Lost,
                Content::Nothing | Content::ReplySink(_) => {}
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return Taken::Nothing;
            };
            content = self
                .filled
                .wait_timeout(content, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn fill(&self, reply: Option<Reply>) {
        let mut content = self.content();
        if let Content::ReplySink(outlet) = std::mem::take(&mut *content) {
            drop(content);
            return outlet.deliver(reply);
        }
        *content = reply.map_or(Content::Lost, Content::Answer);
        drop(content);
        self.filled.notify_one();
    }
}

impl Responder<'_> {
    pub fn put(mut self, reply: Reply) {
        if let Some(tray) = self.0.take() {
            tray.fill(Some(reply));
        }
    }
}

impl Drop for Responder<'_> {
    fn drop(&mut self) {
        if let Some(tray) = self.0.take() {
            tray.fill(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reply::Body;
    use std::time::Duration;

    #[test]
    fn an_answer_is_taken_once() {
        let tray = ReplySlot::default();
        assert!(matches!(tray.take(Instant::now()), Taken::Nothing));
        tray.owe()
            .put(Reply::new(201, Body::Owned(Vec::new()), "created"));
        assert!(matches!(tray.take(Instant::now()), Taken::Answer(reply) if reply.status == 201));
        assert!(matches!(tray.take(Instant::now()), Taken::Nothing));
    }

    #[test]
    fn an_outlet_gets_the_next_answer_and_no_other() {
        #[derive(Default)]
        struct Taken(Mutex<Vec<Option<u16>>>);
        impl ReplySink for Taken {
            fn deliver(&self, reply: Option<Reply>) {
                self.0.lock().unwrap().push(reply.map(|reply| reply.status));
            }
        }
        let reply = || Reply::new(200, Body::Owned(Vec::new()), "served");
        let (tray, taken) = (ReplySlot::default(), Arc::new(Taken::default()));
        tray.deliver_to(taken.clone());
        tray.owe().put(reply());
        tray.owe().put(reply());
        assert!(matches!(tray.take(Instant::now()), super::Taken::Answer(_)));
        tray.deliver_to(taken.clone());
        drop(tray.owe());
        tray.deliver_to(taken.clone());
        tray.clear();
        tray.owe().put(reply());
        assert_eq!(*taken.0.lock().unwrap(), [Some(200), None]);
    }

    #[test]
    fn a_worker_that_fails_is_not_waited_for() {
        let tray = ReplySlot::default();
        let far = Instant::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(tray.take(far), Taken::Lost));
            drop(tray.owe());
            assert!(waiting.join().unwrap());
        });
        drop(tray.owe());
        tray.clear();
        assert!(matches!(tray.take(Instant::now()), Taken::Nothing));
    }
}
