//! The adapter `postgres`: a database for each instance, a login for each binding.

mod adopt;
mod faults;
mod life;
mod settings;

use super::Server;
use super::support::{Broker, Folder, Setup, binding, instance, merged, needs};

use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The rights that the docs ask for, and no more.
const ROLE: &str = "CREATE ROLE pgadmin LOGIN CREATEDB CREATEROLE PASSWORD 'operators-password'";
const PASSWORD: &str = "operators-password";
const QUERY: &str = "?service_id=database&plan_id=small";
const UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn server() -> Option<Server> {
    let server = Server::start()?;
    server.psql(ROLE);
    Some(server)
}

fn url(server: &Server) -> String {
    format!(
        "postgres://pgadmin:{PASSWORD}@127.0.0.1:{}/postgres",
        server.port
    )
}

fn catalog(plans: &[(&str, Value)]) -> Value {
    let plans: Vec<Value> = plans
        .iter()
        .map(|(name, settings)| {
            let adapter = merged(
                &json!({ "kind": "postgres", "url": "${env:PG_ADMIN_URL}" }),
                settings.clone(),
            );
            json!({ "id": name, "name": name, "description": name, "free": true, "adapter": adapter })
        })
        .collect();
    json!({ "services": [{
        "id": "database", "name": "database", "description": "A database", "bindable": true,
        "plan_updateable": true, "plans": plans,
    }] })
}

fn setup(server: &Server, plans: &[(&str, Value)]) -> Setup {
    in_folder(Arc::new(Folder::new()), server, plans)
}

fn in_folder(folder: Arc<Folder>, server: &Server, plans: &[(&str, Value)]) -> Setup {
    Setup::in_folder(folder)
        .catalog(&catalog(plans))
        .env("PG_ADMIN_URL", url(server))
}

fn broker(server: &Server, plans: &[(&str, Value)]) -> Broker {
    setup(server, plans).start()
}

fn request(plan: &str) -> Value {
    json!({
        "service_id": "database", "plan_id": plan, "organization_guid": "org", "space_guid": "space",
    })
}

fn bind(broker: &Broker, id: &str, binding_id: &str) -> Value {
    let request = json!({ "service_id": "database", "plan_id": "small" });
    let bound = broker.put(&binding(id, binding_id), &request);
    bound.expect(201).json()["credentials"].clone()
}

/// What an application with these credentials reads; or the complaint.
fn query(credentials: &Value, sql: &str) -> Result<String, String> {
    client(credentials["uri"].as_str().unwrap(), sql)
}

fn client(uri: &str, sql: &str) -> Result<String, String> {
    let output = psql(uri).args(["-c", sql]).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn psql(uri: &str) -> Command {
    let mut command = Command::new(needs::installed("psql").unwrap());
    command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", uri]);
    command
}

/// An application that holds a session open, and has answered once.
fn session(credentials: &Value) -> Child {
    use std::io::{BufRead, BufReader, Write};
    let mut child = psql(credentials["uri"].as_str().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let input = child.stdin.as_mut().unwrap();
    input.write_all(b"SELECT 'here';\n").unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "here");
    child
}

/// Whether it can still ask something.
fn is_alive(child: &mut Child) -> bool {
    use std::io::Write;
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all(b"SELECT 1;\n");
    drop(input);
    child.wait().unwrap().success()
}

/// Databases and roles that are not the server's own.
fn left(server: &Server) -> String {
    server.psql(
        "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1') \
         UNION ALL SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname NOT IN ('admin', 'pgadmin')",
    )
}
