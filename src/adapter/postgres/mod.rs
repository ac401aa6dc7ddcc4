//! A database of a PostgreSQL server for each instance, a login for each binding.
//!
//! An instance is a database and a group role of the same name, which owns it and everything in it. A binding is a role in
//! that group whose sessions act as the group, so that what one binding makes, the next can use. [`names`] follow from ids
//! alone, every step can be repeated, and a lock on the server keeps two calls for one instance apart, also those of a
//! broker that was killed while its statement goes on.

mod credentials;
mod names;
mod roles;
mod session;
mod setup;

use super::template::Random;
use super::{
    Adapter, BindingCall, Bound, Failure, InstanceCall, Provisioned, Run, Settings, UpdateCall,
    read_state,
};
use crate::json::Object;
use crate::log;
use crate::postgres::Config;
use credentials::Login;
use names::{literal, quoted};
use session::{Session, comment};
use setup::Setup;

use postgres_protocol::password::scram_sha_256;
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The adapter `postgres`.
pub struct Postgres(Setup);

/// A call at work: the server, a session on it that holds the lock of the instance, and the name of its database.
struct Work<'a> {
    setup: &'a Setup,
    run: &'a Run<'a>,
    config: Config,
    session: Session<'a>,
    database: String,
    /// Whether its provision came to an end. What never did holds nothing that somebody would miss.
    is_made: bool,
}

impl Postgres {
    pub fn from_settings(settings: &Settings<'_>) -> Option<Postgres> {
        Setup::read(settings).map(Postgres)
    }

    fn work<'a>(&'a self, call: &'a InstanceCall<'_>) -> Result<Work<'a>, Failure> {
        let setup = &self.0;
        let made = known(call.state, "instance", "database")?;
        let is_made = made.is_some();
        let database = made.unwrap_or_else(|| names::database(&setup.prefix, call.instance_id));
        let config = setup.config()?;
        let mut session = Session::open(config.clone(), &call.run)?;
        session.lock(&database)?;
        Ok(Work {
            setup,
            run: &call.run,
            config,
            session,
            database,
            is_made,
        })
    }

    fn user(&self, call: &BindingCall<'_>) -> Result<String, Failure> {
        Ok(known(call.state, "binding", "user")?.unwrap_or_else(|| {
            names::user(&self.0.prefix, call.instance.instance_id, call.binding_id)
        }))
    }
}

impl Adapter for Postgres {
    fn concurrency(&self) -> Option<usize> {
        Some(self.0.concurrency)
    }

    fn provision(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
        refuse(call.parameters)?;
        let mut work = self.work(call)?;
        work.make(call.instance_id)?;
        work.limit()?;
        work.extend()?;
        work.sweep();
        Ok(Provisioned {
            state: Some(state("database", &work.database)),
            ..Provisioned::default()
        })
    }

    fn update(&self, call: &UpdateCall<'_>) -> Result<Provisioned, Failure> {
        refuse(call.changes)?;
        let mut work = self.work(&call.instance)?;
        if !work.session.has_database(&work.database)? {
            let plan = &call.instance.plan;
            return Err(if call.previous_plan_id == plan.id {
                gone()
            } else {
                Failure::unsupported(format!(
                    "the database of this instance is not on the server of plan \"{}\", and cannot be moved there",
                    plan.name
                ))
            });
        }
        work.extend()?;
        work.limit()?;
        Ok(Provisioned::default())
    }

    fn deprovision(&self, call: &InstanceCall<'_>) -> Result<(), Failure> {
        let mut work = self.work(call)?;
        work.remove()?;
        work.sweep();
        Ok(())
    }

    fn bind(&self, call: &BindingCall<'_>) -> Result<Bound, Failure> {
        refuse(call.parameters)?;
        let user = self.user(call)?;
        let mut work = self.work(&call.instance)?;
        if !work.session.has_database(&work.database)? {
            return Err(gone());
        }
        let password = Random::draw(32)?;
        work.make_user(&user, &password, call)?;
        let login = Login {
            user: &user,
            password: &password,
            database: &work.database,
        };
        Ok(Bound {
            state: Some(state("user", &user)),
            ..credentials::of(&self.0, &work.config, &login)?
        })
    }

    fn unbind(&self, call: &BindingCall<'_>) -> Result<(), Failure> {
        let user = self.user(call)?;
        let mut work = self.work(&call.instance)?;
        work.remove_user(&user)
    }

    /// The name follows from the id, here as in every other call.
    fn verify(&self, call: &InstanceCall<'_>) -> Result<Provisioned, Failure> {
        refuse(call.parameters)?;
        let database = names::database(&self.0.prefix, call.instance_id);
        let mut session = Session::open(self.0.config()?, &call.run)?;
        if !session.is_owner(&database, &database)? {
            return Err(Failure::invalid(format!(
                "there is no database {database:?} that belongs to a role of the same name on the server of plan {:?}; an \
                 instance with this id has a database of this name. Rename the one that it has, and its owner",
                call.plan.name
            )));
        }
        Ok(Provisioned {
            state: Some(state("database", &database)),
            ..Provisioned::default()
        })
    }

    fn verify_binding(&self, call: &BindingCall<'_>) -> Result<Bound, Failure> {
        refuse(call.parameters)?;
        let (instance_id, prefix) = (call.instance.instance_id, &self.0.prefix);
        let (database, user) = (
            names::database(prefix, instance_id),
            names::user(prefix, instance_id, call.binding_id),
        );
        let mut session = Session::open(self.0.config()?, &call.instance.run)?;
        if !session.is_member(&user, &database)? {
            return Err(Failure::invalid(format!(
                "there is no role {user:?} that may log in and is a member of {database:?} on the server of plan {:?}; a \
                 binding with this id has a role of this name. Rename the one that it has",
                call.instance.plan.name
            )));
        }
        // The server does not tell its password.
        Ok(Bound {
            state: Some(state("user", &user)),
            ..Bound::default()
        })
    }
}

impl Work<'_> {
    /// Makes the group and its database, where they are missing. Nobody can connect yet.
    fn make(&mut self, instance_id: &str) -> Result<(), Failure> {
        let (name, admin) = (quoted(&self.database), quoted(&self.config.user));
        let text = format!("instance {instance_id}");
        let mut statements = Vec::new();
        if !self.session.has_role(&self.database)? {
            statements.push(format!("CREATE ROLE {name} NOLOGIN"));
        }
        statements.push(format!("GRANT {name} TO {admin}"));
        statements.push(comment(&format!("ROLE {name}"), &text));
        self.session.run(&statements)?;
        if !self.session.has_database(&self.database)? {
            // Nobody is ever connected to template0, which would be in the way.
            self.session.run(&[format!(
                "CREATE DATABASE {name} OWNER {name} TEMPLATE template0 ALLOW_CONNECTIONS false"
            )])?;
        }
        self.session
            .run(&[comment(&format!("DATABASE {name}"), &text)])
    }

    /// Applies what the plan allows. Only the owner has a right on the database, and so its group.
    fn limit(&mut self) -> Result<(), Failure> {
        let name = quoted(&self.database);
        let connections = self
            .setup
            .connections
            .map_or("-1".to_owned(), |most| most.to_string());
        let timeout = match self.setup.statement_timeout {
            Some(time) => format!("SET statement_timeout = '{}ms'", time.as_millis().max(1)),
            None => "RESET statement_timeout".to_owned(),
        };
        self.session.run(&[
            format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
            format!(
                "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT {connections}"
            ),
            format!("ALTER DATABASE {name} {timeout}"),
        ])
    }

    /// Adds the extensions of the plan that are missing.
    fn extend(&mut self) -> Result<(), Failure> {
        if self.setup.extensions.is_empty() {
            return Ok(());
        }
        let config = Config {
            database: self.database.clone(),
            ..self.config.clone()
        };
        let mut session = Session::open(config, self.run)?;
        for extension in &self.setup.extensions {
            let made = session.run(&[
                "SET search_path = public".to_owned(),
                format!("CREATE EXTENSION IF NOT EXISTS {}", quoted(extension)),
            ]);
            made.map_err(|failure| Failure {
                description: format!("extension \"{extension}\": {}", failure.description),
                ..failure
            })?;
        }
        Ok(())
    }

    fn make_user(
        &mut self,
        user: &str,
        password: &str,
        call: &BindingCall<'_>,
    ) -> Result<(), Failure> {
        let (name, group, admin) = (
            quoted(user),
            quoted(&self.database),
            quoted(&self.config.user),
        );
        let mut statements = Vec::new();
        if !self.session.has_role(user)? {
            statements.push(format!("CREATE ROLE {name}"));
        }
        // The server gets what it checks a password with, not the password: statements may be logged.
        let verifier = literal(&scram_sha_256(password.as_bytes()));
        let (binding, instance) = (call.binding_id, call.instance.instance_id);
        statements.extend([
            format!("ALTER ROLE {name} WITH LOGIN PASSWORD {verifier}"),
            format!("GRANT {group} TO {name}"),
            format!("GRANT {name} TO {admin}"),
            format!("ALTER ROLE {name} SET role = {}", literal(&self.database)),
            comment(
                &format!("ROLE {name}"),
                &format!("binding {binding} of instance {instance}"),
            ),
        ]);
        self.session.run(&statements)
    }

    /// What the role of a binding made for itself goes to its group.
    fn remove_user(&mut self, user: &str) -> Result<(), Failure> {
        let heir = self.session.has_role(&self.database)?;
        let heir = heir.then_some(self.database.as_str());
        roles::remove(&mut self.session, &self.config, self.run, user, heir)
    }

    /// Removes the instance, or puts it aside for as long as the plan says.
    fn remove(&mut self) -> Result<(), Failure> {
        let left = self.session.texts(
            "SELECT u.rolname::text FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member \
             JOIN pg_roles g ON g.oid = m.roleid WHERE g.rolname = $1",
            &self.database,
        )?;
        let begin = names::user_prefix(&self.setup.prefix);
        for user in left.iter().filter(|user| user.starts_with(&begin)) {
            self.remove_user(user)?;
        }
        if !self.session.has_database(&self.database)? {
            return self.remove_group();
        }
        let name = quoted(&self.database);
        self.session.run(&[format!(
            "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"
        )])?;
        match self.setup.retain.filter(|_| self.is_made) {
            None => {
                let database = self.database.clone();
                drop_database(&mut self.session, &database)?;
                self.remove_group()
            }
            Some(time) => self.put_aside(time),
        }
    }

    fn remove_group(&mut self) -> Result<(), Failure> {
        roles::remove(
            &mut self.session,
            &self.config,
            self.run,
            &self.database,
            None,
        )
    }

    /// Renames the database and its group: the same instance may be made again.
    fn put_aside(&mut self, time: Duration) -> Result<(), Failure> {
        roles::end_sessions(&mut self.session, "datname", &self.database)?;
        let until = now()
            .saturating_add(time)
            .min(Duration::from_secs(9_999_999_999));
        let kept = quoted(&names::kept(&self.database, until.as_secs()));
        let text = format!(
            "kept until {}",
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(until.as_secs()))
        );
        let name = quoted(&self.database);
        self.session.run(&[
            format!("ALTER DATABASE {name} RENAME TO {kept}"),
            format!("ALTER ROLE {name} RENAME TO {kept}"),
            comment(&format!("DATABASE {kept}"), &text),
        ])
    }

    /// Removes what was put aside and whose time is over. What goes wrong with it concerns nobody who waits for this call.
    fn sweep(&mut self) {
        if let Err(failure) = self.try_sweep() {
            let detail = failure.detail.unwrap_or(failure.description);
            log::warn("kept_database").with("reason", &detail).send();
        }
    }

    fn try_sweep(&mut self) -> Result<(), Failure> {
        let prefix = &self.setup.prefix;
        let databases = self.session.texts(
            "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, $1)",
            prefix,
        )?;
        let now = now().as_secs();
        let is_over =
            |name: &String| names::kept_until(prefix, name).is_some_and(|until| until < now);
        for database in databases.into_iter().filter(is_over) {
            // Another call may be at it.
            self.session.lock(&database)?;
            drop_database(&mut self.session, &database)?;
            roles::remove(&mut self.session, &self.config, self.run, &database, None)?;
        }
        Ok(())
    }
}

/// With the sessions in it.
fn drop_database(session: &mut Session<'_>, name: &str) -> Result<(), Failure> {
    session.run(&[format!(
        "DROP DATABASE IF EXISTS {} WITH (FORCE)",
        quoted(name)
    )])
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Nothing is made of parameters, so somebody who gives one expects what will not happen.
fn refuse(parameters: Object<'_>) -> Result<(), Failure> {
    match parameters.to_map().keys().next() {
        None => Ok(()),
        Some(name) => Err(Failure::invalid(format!(
            "parameters.{name}: found a parameter, and this plan takes none"
        ))),
    }
}

fn gone() -> Failure {
    Failure::failed("the database of this instance is gone from its server")
}

fn state(key: &str, value: &str) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value.into())])
}

/// A name that was kept in the state of an instance or a binding (`of`): the prefix may be another one since.
fn known(state: Object<'_>, of: &str, key: &str) -> Result<Option<String>, Failure> {
    let state = read_state(state, of)?;
    Ok(state.get(key).and_then(Value::as_str).map(str::to_owned))
}
