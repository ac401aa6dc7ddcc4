//! The recipe in examples/http: the web service and the broker together, against the real server.

use crate::support::needs;
use crate::support::servers::{ADMIN_PASSWORD, Redis, recipe};
use crate::support::{
    Request, Response, Setup, bind, binding, brokerlet, instance, program, provision,
};

use serde_json::Value;
use std::io::{BufRead, BufReader, Lines};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

struct Service {
    process: Child,
    address: SocketAddr,
    /// What it prints: what is wrong with Redis.
    printed: Lines<BufReader<ChildStdout>>,
}

impl Service {
    fn start(redis: &Redis) -> Service {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/http/service.py");
        let url = format!("redis://:{ADMIN_PASSWORD}@127.0.0.1:{}", redis.port);
        let mut command = program(needs::installed("python3").unwrap().to_str().unwrap());
        command
            .arg(file)
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("PORT", address.port().to_string())
            .env("REDIS_URL", url)
            .env("WEBHOOK_SECRET", SECRET)
            .stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let printed = BufReader::new(process.stdout.take().unwrap());
        let service = Service {
            process,
            address,
            printed: printed.lines(),
        };
        for _ in 0..2000 {
            let healthy = Request::new(address, "GET", "/healthz").try_send();
            if healthy.is_ok_and(|answer: Response| answer.status == 200) {
                return service;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the service does not start");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_service_and_the_broker_make_redis_users() {
    if !needs::has(&["python3"]) {
        return;
    }
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let mut service = Service::start(&redis);
    let folder = Arc::new(recipe("http"));
    let file = folder.path().join("catalog.json");
    let text = std::fs::read_to_string(&file).unwrap();
    // There is no platform here whose names lead to the service.
    let here = text.replace(
        "provisioner.apps.internal:8080",
        &service.address.to_string(),
    );
    assert_ne!(here, text);
    std::fs::write(&file, here).unwrap();
    let catalog: Value = serde_json::from_str(&text).unwrap();
    let offered = &catalog["services"][0];
    let [offering, plan] =
        [&offered["id"], &offered["plans"][0]["id"]].map(|id| id.as_str().unwrap());
    let start = |secret: &str| {
        Setup::in_folder(folder.clone())
            .env("BROKER_STORE", "memory")
            .env("BROKER_CATALOG", &file)
            .env("WEBHOOK_SECRET", secret)
            .start()
    };

    // Who does not know the secret is told nothing.
    let stranger = start("another-secret");
    stranger
        .put(
            &format!("{}?accepts_incomplete=true", instance("i-0")),
            &provision(offering, plan),
        )
        .expect_naming(500, "failed (status 401)");
    stranger.wait_for_print("The signature is wrong or old.");
    drop(stranger);

    let broker = start(SECRET);
    let target = instance("i-1");
    broker
        .put(
            &format!("{target}?accepts_incomplete=true"),
            &provision(offering, plan),
        )
        .expect(201);
    let bound = broker
        .put(&binding("i-1", "b-1"), &bind(offering, plan))
        .expect(201)
        .json();
    let [user, password, prefix] =
        ["username", "password", "prefix"].map(|name| bound["credentials"][name].as_str().unwrap());
    let own = format!("{prefix}key");
    assert_eq!(
        redis.cli_as(user, password, &["SET", &own, "7"]).unwrap(),
        "OK"
    );
    let refused = redis.cli_as(user, password, &["GET", "other"]).unwrap_err();
    assert!(refused.contains("NOPERM"), "{refused}");

    // Without its server the service answers 503, and is asked again.
    redis.stop();
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            broker
                .put(&binding("i-1", "b-2"), &bind(offering, plan))
                .expect(201)
        });
        let complaint = service.printed.next().unwrap().unwrap();
        assert!(complaint.starts_with("Redis: "), "{complaint}");
        redis.go_on();
        second.join().unwrap();
    });

    redis.cli(&["SET", "foreign", "1"]);
    let script = "for i = 1, 5000 do redis.call('SET', ARGV[1] .. i, 1) end";
    redis.cli(&["EVAL", script, "0", prefix]);
    let ids = format!("?service_id={offering}&plan_id={plan}");
    broker
        .delete(&format!("{}{ids}", binding("i-1", "b-1")))
        .expect(200);
    assert_eq!(redis.cli(&["DBSIZE"]), "1");
    assert!(redis.cli_as(user, password, &["PING"]).is_err());
    // The other binding goes with its instance.
    broker
        .delete(&format!("{target}{ids}&accepts_incomplete=true"))
        .expect(202);
    broker.settled(&target).expect(410);
    assert_eq!(redis.cli(&["ACL", "USERS"]), "default");

    let mut command = brokerlet();
    command
        .arg("adapter-test")
        .arg(&file)
        .env("WEBHOOK_SECRET", SECRET);
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert_eq!(redis.cli(&["ACL", "USERS"]), "default");
    let (_, printed) = broker.stop();
    for secret in [ADMIN_PASSWORD, password, SECRET] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
