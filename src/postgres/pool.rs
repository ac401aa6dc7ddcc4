//! A few connections for many threads: made when they are needed, kept while they work.

use super::config::Config;
use super::connection::Connection;
use super::error::{Error, Kind};
use super::statement::{Done, Statement};
use super::tls;

use rustls::ClientConfig;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub struct Pool {
    config: Config,
    client: Option<Arc<ClientConfig>>,
    most: usize,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    /// Those that there are, idle or not.
    open: usize,
}

impl Pool {
    /// Connects to nobody yet. The error says which file that the connection string names will not do.
    pub fn new(config: Config, most: usize) -> Result<Pool, String> {
        Ok(Pool {
            client: tls::client(&config)?,
            config,
            most: most.max(1),
            state: Mutex::default(),
            returned: Condvar::new(),
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Runs statements that may be run again: reads, and changes that are the same the second time. A connection that broke
    /// while nobody used it is replaced by a new one.
    pub fn run(&self, statements: &[Statement<'_>], deadline: Instant) -> Result<Vec<Done>, Error> {
        self.with(deadline, |connection| connection.run(statements, deadline))
    }

    /// Calls `f` with a connection, and once more with a new one if it was a kept one and broke.
    pub fn with<T>(
        &self,
        deadline: Instant,
        mut f: impl FnMut(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (connection, kept) = self.take(deadline)?;
        match self.call(connection, &mut f) {
            Err(error) if kept && error.is_connection() && Instant::now() < deadline => {
                self.once(deadline, f)
            }
            result => result,
        }
    }

    /// Calls `f` with a connection, and never again: for what must not be done twice. [`Kind::Connect`] says that it was not
    /// called.
    pub fn once<T>(
        &self,
        deadline: Instant,
        f: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (connection, _) = self.take(deadline)?;
        self.call(connection, f)
    }

    /// Calls `f`, and keeps the connection if it can be used again.
    fn call<T>(
        &self,
        mut connection: Connection,
        f: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let result = f(&mut connection);
        let broken = result.as_ref().is_err_and(Error::is_connection);
        let mut state = self.lock();
        if broken || !connection.is_idle() {
            state.open -= 1;
        } else {
            state.idle.push(connection);
        }
        if broken {
            // Those that are kept broke with it, most likely.
            state.open -= state.idle.len();
            state.idle.clear();
        }
        drop(state);
        self.returned.notify_one();
        result
    }

    /// A connection, and whether it was kept from before.
    fn take(&self, deadline: Instant) -> Result<(Connection, bool), Error> {
        let mut state = self.lock();
        loop {
            if let Some(connection) = state.idle.pop() {
                return Ok((connection, true));
            }
            if state.open < self.most {
                state.open += 1;
                break;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(Error::new(Kind::Connect, "all connections are in use"));
            };
            state = self
                .returned
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(state);
        let opened = Connection::open(&self.config, self.client.as_ref(), deadline);
        match opened {
            Ok(connection) => Ok((connection, false)),
            Err(error) => {
                self.lock().open -= 1;
                self.returned.notify_one();
                Err(error)
            }
        }
    }

    /// Closes the connections that nobody uses.
    pub fn close(&self) {
        let mut state = self.lock();
        state.open -= state.idle.len();
        state.idle.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
