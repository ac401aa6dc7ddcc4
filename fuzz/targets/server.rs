//! What a server of PostgreSQL sends: the input, after which it closes the connection. The client comes to an end, with rows or
//! with an error that is on one line.

use brokerlet::postgres::{Config, Connection, Error, Statement, Value};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

pub fn run(input: &[u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    let url = format!("postgres://user:password@127.0.0.1:{port}/database?sslmode=disable");
    let config = Config::parse(&url).expect("it is a connection string");
    let serve = || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(input)?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(|_| ())
    };
    thread::scope(|scope| {
        // It fails if the client hangs up first, and may.
        scope.spawn(serve);
        if let Err(error) = talk(&config) {
            assert!(!error.message.is_empty());
            assert!(!error.message.contains("password:"));
        }
    });
}

/// A login, and two statements in one round trip.
fn talk(config: &Config) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut connection = Connection::open(config, None, deadline)?;
    let statements = [
        Statement::new("SELECT $1", [Value::Text("a")]),
        Statement::new("SELECT $1", [Value::Int(1)]),
    ];
    for done in connection.run(&statements, deadline)? {
        for mut row in done.rows {
            // Whatever is in it, a column is of the type that is asked for, or an error.
            let _ = (row.text(0), row.int(0), row.bool(0), row.is_null(1));
            let _ = row.take_bytes(0);
        }
    }
    assert!(Instant::now() < deadline, "it took until the deadline");
    Ok(())
}
