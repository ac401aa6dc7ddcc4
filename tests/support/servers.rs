//! Real servers for the recipes and the store, each on a free port, in a folder that is gone when the test is.

use super::needs::{self, is_root};

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than a server takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A folder outside of the project: a server that runs as another user must get there.
struct Outside(PathBuf);

impl Outside {
    fn new(name: &str) -> Outside {
        let path = std::env::temp_dir().join(format!("brokerlet-{name}-{}", free_port()));
        std::fs::create_dir(&path).unwrap();
        Outside(path)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that the test has asked for.
fn installed(program: &str) -> PathBuf {
    needs::installed(program).unwrap_or_else(|| panic!("{program} is missing"))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Waits until a server answers.
fn wait_for_server(name: &str, server: &mut Child, mut answers: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !answers() {
        assert!(server.try_wait().unwrap().is_none(), "{name} ended");
        assert!(begun.elapsed() < PATIENCE, "{name} does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A PostgreSQL server with a superuser `admin`.
pub struct Postgres {
    server: Option<Child>,
    folder: Outside,
    pub port: u16,
    settings: Vec<String>,
}

pub const ADMIN_PASSWORD: &str = "admin-password";

impl Postgres {
    /// `None` where its programs are missing.
    pub fn start() -> Option<Postgres> {
        Postgres::start_with(|_| Vec::new())
    }

    /// `settings` gets the folder, which the server's user can read, and returns more of the server's settings.
    pub fn start_with(settings: impl FnOnce(&Path) -> Vec<String>) -> Option<Postgres> {
        let mut needed = vec!["initdb", "postgres", "pg_basebackup", "psql", "jq"];
        needed.extend(is_root().then_some("setpriv"));
        if !needs::has(&needed) {
            return None;
        }
        let folder = Outside::new("postgres");
        let password = folder.0.join("password");
        std::fs::write(&password, ADMIN_PASSWORD).unwrap();
        let settings = settings(&folder.0);
        if is_root() {
            run(Command::new("chown")
                .args(["-R", "postgres:postgres"])
                .arg(&folder.0));
        }
        let mut postgres = Postgres {
            server: None,
            folder,
            port: free_port(),
            settings,
        };
        run(postgres
            .program("initdb")
            .args([
                "-U",
                "admin",
                "-A",
                "scram-sha-256",
                "-E",
                "UTF8",
                "--no-sync",
                "--pwfile",
            ])
            .arg(&password)
            .arg("-D")
            .arg(postgres.folder.0.join("data")));
        postgres.go_on();
        Some(postgres)
    }

    /// Starts the server on the data that it has.
    pub fn go_on(&mut self) {
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
        ];
        let mut command = self.program("postgres");
        command
            .args(["-p", &self.port.to_string()])
            .arg("-D")
            .arg(self.folder.0.join("data"));
        command.args(settings.iter().flat_map(|setting| ["-c", setting]));
        command.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        let log = std::fs::File::create(self.folder.0.join("log")).unwrap();
        let mut server = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_for_server("postgres", &mut server, || {
            self.psql_as("admin", ADMIN_PASSWORD, "postgres", "SELECT 1")
                .is_ok()
        });
        self.server = Some(server);
    }

    /// A copy that follows this server, and that it waits for with each commit.
    pub fn standby(&self) -> Postgres {
        let folder = Outside::new("standby");
        if is_root() {
            run(Command::new("chown")
                .arg("postgres:postgres")
                .arg(&folder.0));
        }
        let mut standby = Postgres {
            server: None,
            folder,
            port: free_port(),
            settings: self.settings.clone(),
        };
        run(standby
            .program("pg_basebackup")
            .env("PGPASSWORD", ADMIN_PASSWORD)
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "admin",
            ])
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync"])
            .arg("-D")
            .arg(standby.folder.0.join("data")));
        standby.go_on();
        self.psql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.psql("SELECT pg_reload_conf()");
        let begun = Instant::now();
        while self.psql("SELECT sync_state FROM pg_stat_replication") != "sync" {
            assert!(begun.elapsed() < PATIENCE, "the standby does not follow");
        }
        standby
    }

    /// Gone at once, as a machine is that fails.
    pub fn crash(&mut self) {
        if let Some(mut server) = self.server.take() {
            needs::kill("QUIT", &server.id().to_string());
            let _ = server.wait();
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// The process, for signals.
    pub fn pid(&self) -> String {
        self.server.as_ref().unwrap().id().to_string()
    }

    /// A connection string for a new, empty database.
    pub fn database(&self, name: &str) -> String {
        self.psql(&format!("CREATE DATABASE {name}"));
        format!(
            "postgres://admin:{ADMIN_PASSWORD}@127.0.0.1:{}/{name}",
            self.port
        )
    }

    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // SIGINT: it ends its connections and stops.
            needs::kill("INT", &server.id().to_string());
            let _ = server.wait();
        }
    }

    /// What a user reads in a database; or the complaint.
    pub fn psql_as(
        &self,
        user: &str,
        password: &str,
        database: &str,
        sql: &str,
    ) -> Result<String, String> {
        let output = Command::new(installed("psql"))
            .args([
                "-XqAt",
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                user,
                "-d",
                database,
                "-c",
                sql,
            ])
            .env("PGPASSWORD", password)
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn psql(&self, sql: &str) -> String {
        self.psql_as("admin", ADMIN_PASSWORD, "postgres", sql)
            .unwrap()
    }

    /// One of the server's own programs; they refuse to run as root.
    fn program(&self, name: &str) -> Command {
        let file = installed(name);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(file);
            command
        } else {
            Command::new(file)
        };
        command.current_dir(&self.folder.0);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A Redis server with an ACL file.
pub struct Redis {
    server: Option<Child>,
    folder: Outside,
    pub port: u16,
}

impl Redis {
    /// `None` where its programs are missing.
    pub fn start() -> Option<Redis> {
        if !needs::has(&["redis-server", "redis-cli", "jq"]) {
            return None;
        }
        let folder = Outside::new("redis");
        let users = format!("user default on >{ADMIN_PASSWORD} ~* &* +@all\n");
        std::fs::write(folder.0.join("users.acl"), users).unwrap();
        let mut redis = Redis {
            server: None,
            folder,
            port: free_port(),
        };
        redis.go_on();
        Some(redis)
    }

    /// Starts the server on the data that it has.
    pub fn go_on(&mut self) {
        let mut server = Command::new(installed("redis-server"))
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--aclfile",
            ])
            .arg(self.folder.0.join("users.acl"))
            .current_dir(&self.folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_server("redis-server", &mut server, || {
            self.cli_as("default", ADMIN_PASSWORD, &["PING"])
                .is_ok_and(|answer| answer == "PONG")
        });
        self.server = Some(server);
    }

    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// What a user gets for a command; or the complaint.
    pub fn cli_as(&self, user: &str, password: &str, command: &[&str]) -> Result<String, String> {
        let output = Command::new(installed("redis-cli"))
            .args([
                "-e",
                "--no-auth-warning",
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "--user",
                user,
            ])
            .args(["--pass", password])
            .args(command)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        // A wrong password is a warning only, after which the command is refused.
        if output.status.success() && complaints.is_empty() {
            Ok(text)
        } else {
            Err(text + &complaints)
        }
    }

    pub fn cli(&self, command: &[&str]) -> String {
        self.cli_as("default", ADMIN_PASSWORD, command).unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The folder of a recipe, copied to where it can write.
pub fn recipe(name: &str) -> super::Folder {
    let folder = super::Folder::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // Permissions are copied with it.
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}
