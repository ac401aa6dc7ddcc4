//! Roles that go: with their sessions, what they own, and what they were given, in every database.

use super::names::quoted;
use super::session::Session;
use crate::adapter::{Failure, Run};
use crate::postgres::Config;

/// Removes a role, if it is there. What it owns goes to `heir`, or goes with it. Nobody else's database can stop that: its
/// owner may have granted something to this role.
pub fn remove(
    session: &mut Session<'_>,
    config: &Config,
    run: &Run<'_>,
    role: &str,
    heir: Option<&str>,
) -> Result<(), Failure> {
    if !session.has_role(role)? {
        return Ok(());
    }
    let (name, admin) = (quoted(role), quoted(&config.user));
    session.run(&[
        format!("ALTER ROLE {name} NOLOGIN"),
        format!("GRANT {name} TO {admin}"),
    ])?;
    end_sessions(session, "usename", role)?;
    let mut give_up = Vec::new();
    if let Some(heir) = heir {
        give_up.push(format!("REASSIGN OWNED BY {name} TO {}", quoted(heir)));
    }
    give_up.push(format!("DROP OWNED BY {name}"));
    let databases = session.texts(
        "SELECT DISTINCT d.datname::text FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid \
         JOIN pg_roles r ON r.oid = s.refobjid \
         WHERE r.rolname = $1 AND s.refclassid = 'pg_authid'::regclass AND d.datallowconn",
        role,
    )?;
    for database in databases {
        let config = Config {
            database,
            ..config.clone()
        };
        Session::open(config, run)?.run(&give_up)?;
    }
    // What is left are rights on databases themselves, which can be dropped from anywhere.
    session.run(&[format!("DROP OWNED BY {name}"), format!("DROP ROLE {name}")])
}

/// Ends the sessions whose column in `pg_stat_activity` has this value.
pub fn end_sessions(session: &mut Session<'_>, column: &str, value: &str) -> Result<(), Failure> {
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {column} = $1 AND pid <> pg_backend_pid()"
    );
    session.query(&sql, value).map(|_| ())
}
