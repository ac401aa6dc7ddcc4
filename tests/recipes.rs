//! The recipes in examples/, each against the real server.

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::needs;
use support::servers::{ADMIN_PASSWORD, Postgres, Redis, recipe};
use support::{
    Broker, Folder, Response, Setup, bind, binding, brokerlet, instance, merged, provision,
};

/// A recipe with its service and its first plan.
struct Recipe {
    folder: Arc<Folder>,
    catalog: Value,
    environment: Vec<(&'static str, String)>,
}

impl Recipe {
    fn new(name: &str, environment: Vec<(&'static str, String)>) -> Recipe {
        let folder = recipe(name);
        let catalog = std::fs::read_to_string(folder.path().join("catalog.json")).unwrap();
        let mut environment = environment;
        environment.push(("PATH", std::env::var("PATH").unwrap()));
        Recipe {
            folder: Arc::new(folder),
            catalog: serde_json::from_str(&catalog).unwrap(),
            environment,
        }
    }

    fn start(&self) -> Broker {
        let mut setup = Setup::in_folder(self.folder.clone()).env("BROKER_STORE", "memory");
        for (name, value) in &self.environment {
            setup = setup.env(name, value);
        }
        setup
            .env("BROKER_CATALOG", self.folder.path().join("catalog.json"))
            .start()
    }

    fn service(&self) -> &str {
        self.catalog["services"][0]["id"].as_str().unwrap()
    }

    fn plan_id(&self, name: &str) -> &str {
        let plans = self.catalog["services"][0]["plans"].as_array().unwrap();
        let plan = plans.iter().find(|plan| plan["name"] == name).expect(name);
        plan["id"].as_str().unwrap()
    }

    fn first_plan(&self) -> &str {
        self.catalog["services"][0]["plans"][0]["id"]
            .as_str()
            .unwrap()
    }

    fn provision(&self) -> Value {
        provision(self.service(), self.first_plan())
    }

    fn bind(&self) -> Value {
        bind(self.service(), self.first_plan())
    }

    /// The target of a delete.
    fn deletion(&self, target: &str, plan: &str) -> String {
        format!(
            "{target}?service_id={}&plan_id={plan}&accepts_incomplete=true",
            self.service()
        )
    }

    /// `brokerlet adapter-test` on the recipe; asserts that it passes.
    fn passes_the_adapter_test(&self, plan: &str) {
        let mut command = brokerlet();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let catalog = self.folder.path().join("catalog.json");
        let output = command
            .arg("adapter-test")
            .arg(catalog)
            .args(["--plan", plan])
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!printed.contains(ADMIN_PASSWORD), "{printed}");
    }
}

/// `target`, asynchronously if the broker likes.
fn incomplete(target: &str) -> String {
    format!("{target}?accepts_incomplete=true")
}

/// The last state of an operation on this instance or binding, and its description.
fn ended(broker: &Broker, target: &str) -> (String, String) {
    for _ in 0..3000 {
        let answer = broker.get(&format!("{target}/last_operation"));
        if answer.status == 410 {
            return ("gone".into(), String::new());
        }
        let answer = answer.expect(200).json();
        if answer["state"] != "in progress" {
            let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
            return (text("state"), text("description"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!(
        "the operation on {target} does not end:\n{}",
        broker.printed()
    );
}

/// Waits for the success of what was answered with 202; other successes are there already.
#[track_caller]
fn succeed(broker: &Broker, target: &str, answer: Response) -> Response {
    if answer.status == 202 {
        let (state, description) = ended(broker, target);
        assert!(
            matches!(&*state, "succeeded" | "gone"),
            "{state}: {description}\n{}",
            broker.printed()
        );
    } else {
        assert!(
            matches!(answer.status, 200 | 201),
            "{} {}",
            answer.status,
            answer.json()
        );
    }
    answer
}

#[test]
fn postgres_is_a_database_for_each_instance_and_a_role_for_each_binding() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let recipe = Recipe::new(
        "postgres",
        vec![
            ("PGHOST", "127.0.0.1".into()),
            ("PGPORT", postgres.port.to_string()),
            ("PGUSER", "admin".into()),
            ("PGPASSWORD", ADMIN_PASSWORD.into()),
        ],
    );
    let broker = recipe.start();
    // Ids can be any text: it must not become SQL.
    let (one, two) = (instance("i'1%22;x"), instance("i-2"));
    for target in [&one, &two] {
        let answer = broker.put(&incomplete(target), &recipe.provision());
        succeed(&broker, target, answer);
    }
    let credentials = |instance_id: &str, id: &str| {
        let answer = broker
            .put(&binding(instance_id, id), &recipe.bind())
            .expect(201)
            .json();
        assert_eq!(
            answer["endpoints"][0]["ports"],
            json!([postgres.port.to_string()])
        );
        let credentials = answer["credentials"].clone();
        ["username", "password", "database"]
            .map(|name| credentials[name].as_str().unwrap().to_owned())
    };
    let [user, password, database] = credentials("i'1%22;x", "b-1");
    let [other_user, other_password, other_database] = credentials("i'1%22;x", "b-2");
    let [.., foreign] = credentials("i-2", "b-1");
    assert_eq!(database, other_database);
    assert_ne!(database, foreign);
    assert_ne!(user, other_user);
    let sql = |user: &str, password: &str, database: &str, sql: &str| {
        postgres.psql_as(user, password, database, sql)
    };

    // What one app makes, another app of the same instance uses.
    sql(
        &user,
        &password,
        &database,
        "CREATE TABLE t (a int); INSERT INTO t VALUES (7)",
    )
    .unwrap();
    let change = "ALTER TABLE t ADD b int; UPDATE t SET b = 8; SELECT a + b FROM t";
    assert_eq!(
        sql(&other_user, &other_password, &database, change).unwrap(),
        "15"
    );
    // Nobody else gets in.
    let refused = sql(&user, &password, &foreign, "SELECT 1").unwrap_err();
    assert!(
        refused.contains("permission denied for database"),
        "{refused}"
    );

    // What an app makes stays when it goes, even what it made as itself.
    sql(
        &user,
        &password,
        &database,
        "RESET ROLE; CREATE SCHEMA AUTHORIZATION CURRENT_USER",
    )
    .unwrap();
    broker
        .delete(&recipe.deletion(&binding("i'1%22;x", "b-1"), recipe.first_plan()))
        .expect(200);
    let refused = sql(&user, &password, &database, "SELECT 1").unwrap_err();
    assert!(refused.contains("authentication failed"), "{refused}");
    assert_eq!(
        sql(&other_user, &other_password, &database, "SELECT a FROM t").unwrap(),
        "7"
    );

    let update =
        |parameters: Value| json!({ "service_id": recipe.service(), "parameters": parameters });
    let answer = broker.patch(&incomplete(&one), &update(json!({ "connections": 3 })));
    succeed(&broker, &one, answer);
    let limit = format!("SELECT datconnlimit FROM pg_database WHERE datname = '{database}'");
    assert_eq!(postgres.psql(&limit), "3");
    let wrong = update(json!({ "connections": "3; DROP TABLE t" }));
    broker
        .patch(&incomplete(&one), &wrong)
        .expect_naming(400, "wanted a whole number from 1 to 1000");

    // Everything goes with the instance, also the roles of apps that are still bound.
    for target in [&one, &two] {
        let answer = broker.delete(&recipe.deletion(target, recipe.first_plan()));
        succeed(&broker, target, answer);
    }
    assert_eq!(
        postgres.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'i\\_%'"),
        "0"
    );
    assert_eq!(
        postgres.psql("SELECT count(*) FROM pg_roles WHERE rolname ~ '^[ib]_'"),
        "0"
    );

    let (_, printed) = broker.stop();
    for secret in [ADMIN_PASSWORD, &password, &other_password] {
        assert!(!printed.contains(secret), "{printed}");
    }
    recipe.passes_the_adapter_test("shared-server");
    assert_eq!(
        postgres.psql("SELECT count(*) FROM pg_roles WHERE rolname ~ '^[ib]_'"),
        "0"
    );

    // A server that is away for a while costs time only.
    postgres.stop();
    let broker = recipe.start();
    let answer = broker
        .put(&incomplete(&two), &recipe.provision())
        .expect(202);
    broker.wait_for_print("Connection refused");
    postgres.go_on();
    succeed(&broker, &two, answer);
}

#[test]
fn redis_is_a_user_and_a_prefix_for_each_binding() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let environment = vec![
        ("REDIS_HOST", "127.0.0.1".into()),
        ("REDIS_PORT", redis.port.to_string()),
    ];
    let recipe = Recipe::new("redis", environment);
    recipe.folder.file("admin-password", ADMIN_PASSWORD);
    let broker = recipe.start();
    broker
        .put(&instance("i-1"), &recipe.provision())
        .expect(201);
    let credentials = |id: &str| {
        let answer = broker
            .put(&binding("i-1", id), &recipe.bind())
            .expect(201)
            .json();
        ["username", "password", "prefix"]
            .map(|name| answer["credentials"][name].as_str().unwrap().to_owned())
    };
    let [user, password, prefix] = credentials("b-1");
    let [other_user, other_password, other_prefix] = credentials("b-2");
    let own = format!("{prefix}key");
    assert_eq!(
        redis.cli_as(&user, &password, &["SET", &own, "7"]).unwrap(),
        "OK"
    );
    assert_eq!(redis.cli_as(&user, &password, &["GET", &own]).unwrap(), "7");
    for command in [
        &["GET", &*format!("{other_prefix}key")][..],
        &["SET", "key", "7"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["FLUSHALL"],
        &["ACL", "LIST"],
        &["SELECT", "1"],
        &["PUBLISH", "news", "x"],
    ] {
        let refused = redis.cli_as(&user, &password, command).unwrap_err();
        assert!(refused.contains("NOPERM"), "{command:?}: {refused}");
    }

    // Users outlive the server.
    redis.stop();
    redis.go_on();
    assert_eq!(
        redis
            .cli_as(&other_user, &other_password, &["PING"])
            .unwrap(),
        "PONG"
    );

    for n in 0..2500 {
        // More keys than one round of the recipe finds, and some with names that a shell would take apart.
        let script =
            "for i = 1, 100 do redis.call('SET', ARGV[1] .. ARGV[2] .. ' \\n*$' .. i, 1) end";
        if n % 100 == 0 {
            redis.cli(&["EVAL", script, "0", &prefix, &n.to_string()]);
        }
    }
    redis.cli(&["SET", "foreign", "1"]);
    broker
        .delete(&recipe.deletion(&binding("i-1", "b-1"), recipe.first_plan()))
        .expect(200);
    let refused = redis.cli_as(&user, &password, &["PING"]).unwrap_err();
    assert!(refused.contains("WRONGPASS"), "{refused}");
    assert_eq!(redis.cli(&["DBSIZE"]), "1");
    redis
        .cli_as(
            &other_user,
            &other_password,
            &["SET", &format!("{other_prefix}key"), "7"],
        )
        .unwrap();
    broker
        .delete(&recipe.deletion(&instance("i-1"), recipe.first_plan()))
        .expect(200);
    assert_eq!(redis.cli(&["DBSIZE"]), "1");
    assert_eq!(redis.cli(&["ACL", "USERS"]), "default");

    let (_, printed) = broker.stop();
    for secret in [ADMIN_PASSWORD, &password, &other_password] {
        assert!(!printed.contains(secret), "{printed}");
    }
    recipe.passes_the_adapter_test("shared-server");
    assert_eq!(redis.cli(&["ACL", "USERS"]), "default");
}

/// Waits for a file in the operator's folder, and returns its name.
fn ticket(recipe: &Recipe, operation: &str) -> String {
    let todo = recipe.folder.path().join("desk/todo");
    for _ in 0..3000 {
        let names = std::fs::read_dir(&todo).into_iter().flatten().flatten();
        let mut names = names.map(|entry| entry.file_name().into_string().unwrap());
        let of_operation = |name: &String| name.starts_with(operation) && name.ends_with(".json");
        if let Some(name) = names.find(of_operation) {
            return name;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no ticket for {operation}");
}

/// What the operator does: writes the answer beside, and renames it.
fn answer(recipe: &Recipe, name: &str, content: &str) {
    let new = recipe.folder.file("answer", content);
    std::fs::rename(new, recipe.folder.path().join("desk/done").join(name)).unwrap();
}

#[test]
fn manual_waits_for_a_person() {
    if !needs::has(&["jq"]) {
        return;
    }
    let recipe = Recipe::new("manual", Vec::new());
    let broker = recipe.start();
    let target = instance("i-1");
    let request = merged(
        &recipe.provision(),
        json!({ "parameters": { "size": "big" } }),
    );
    let accepted = broker.put(&incomplete(&target), &request).expect(202);
    let name = ticket(&recipe, "provision");
    let todo = recipe.folder.path().join("desk/todo");
    let told: Value = serde_json::from_slice(&std::fs::read(todo.join(&name)).unwrap()).unwrap();
    assert_eq!(told["instance_id"], "i-1");
    assert_eq!(told["parameters"], json!({ "size": "big" }));
    let poll = || {
        let polled = broker.get(&format!("{target}/last_operation"));
        polled.expect(200).json()
    };
    // The program tells of it after it has written the ticket.
    let untold = |polled: &Value| {
        let description = polled["description"].as_str().unwrap_or_default();
        ["It is waiting for its turn.", "It has been running since"]
            .iter()
            .any(|start| description.starts_with(start))
    };
    let mut polled = poll();
    for _ in 0..4000 {
        if !untold(&polled) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        polled = poll();
    }
    assert_eq!(polled["state"], "in progress");
    assert_eq!(polled["description"], "Waiting for an operator (0 min)");
    // A slip of the pen is no failure.
    answer(&recipe, &name, "{ credentials: oops }");
    broker.wait_for_print("not a JSON object");
    answer(
        &recipe,
        &name,
        r#"{ "credentials": { "user": "u", "password": "by-hand-1" } }"#,
    );
    succeed(&broker, &target, accepted);
    assert!(!todo.join(&name).exists());
    let bound = broker
        .put(&binding("i-1", "b-1"), &recipe.bind())
        .expect(201)
        .json();
    assert_eq!(
        bound["credentials"],
        json!({ "user": "u", "password": "by-hand-1" })
    );
    broker
        .delete(&recipe.deletion(&binding("i-1", "b-1"), recipe.first_plan()))
        .expect(200);

    // Taken back while it waits: the ticket goes, and another asks to remove what may be there.
    let other = instance("i-2");
    broker
        .put(&incomplete(&other), &recipe.provision())
        .expect(202);
    let taken_back = ticket(&recipe, "provision");
    let deleted = broker
        .delete(&recipe.deletion(&other, recipe.first_plan()))
        .expect(202);
    let name = ticket(&recipe, "deprovision");
    assert!(!todo.join(&taken_back).exists());
    answer(&recipe, &name, "{}");
    succeed(&broker, &other, deleted);

    // Refused by a person.
    let third = instance("i-3");
    broker
        .put(&incomplete(&third), &recipe.provision())
        .expect(202);
    let refusal = json!({ "error": "refused", "description": "Not before Monday." });
    answer(&recipe, &ticket(&recipe, "provision"), &refusal.to_string());
    assert_eq!(
        ended(&broker, &third),
        ("failed".into(), "Not before Monday.".into())
    );
}

const OPERATIONS: [&str; 5] = ["provision", "bind", "update", "unbind", "deprovision"];

/// What becomes of each operation of a plan of the demo, from provision to deprovision; the first failure ends it.
fn life(broker: &Broker, recipe: &Recipe, plan: &str) -> Vec<String> {
    let plan_id = recipe.plan_id(plan);
    let id = format!("i-{plan}");
    let (target, bound) = (instance(&id), binding(&id, "b-1"));
    let parameters = json!({ "parameters": { "seconds": 1 } });
    let service = recipe.service();
    let mut outcomes = Vec::new();
    for operation in OPERATIONS {
        let (target, answer) = match operation {
            "provision" => {
                let body = merged(&provision(service, plan_id), parameters.clone());
                (&target, broker.put(&incomplete(&target), &body))
            }
            "bind" => {
                let body = merged(&bind(service, plan_id), parameters.clone());
                (&bound, broker.put(&incomplete(&bound), &body))
            }
            "update" => {
                let parameters = json!({ "seconds": 1, "x": 1 });
                let body =
                    json!({ "service_id": service, "plan_id": plan_id, "parameters": parameters });
                (&target, broker.patch(&incomplete(&target), &body))
            }
            "unbind" => (&bound, broker.delete(&recipe.deletion(&bound, plan_id))),
            _ => (&target, broker.delete(&recipe.deletion(&target, plan_id))),
        };
        let (state, description) = match answer.status {
            202 => ended(broker, target),
            200 | 201 => ("succeeded".to_owned(), String::new()),
            status => (status.to_string(), answer.description()),
        };
        if state != "gone" && state != "succeeded" {
            outcomes.push(format!("{operation} {state}: {description}"));
            break;
        }
        outcomes.push(format!("{operation} succeeded"));
    }
    outcomes
}

#[test]
fn every_plan_of_the_demo_does_what_it_says() {
    if !needs::has(&["jq"]) {
        return;
    }
    let recipe = Recipe::new("demo", Vec::new());
    let broker = recipe.start();
    for plan in ["fast", "slow", "slow-sync", "later"] {
        let all = OPERATIONS.map(|operation| format!("{operation} succeeded"));
        assert_eq!(life(&broker, &recipe, plan), all, "{plan}");
    }
    for (n, operation) in OPERATIONS.iter().enumerate() {
        for (plan, state) in [
            (format!("fail-{operation}"), "failed"),
            (format!("fail-{operation}-sync"), "500"),
        ] {
            let outcomes = life(&broker, &recipe, &plan);
            assert_eq!(outcomes.len(), n + 1, "{plan} {outcomes:?}");
            assert_eq!(
                outcomes[n],
                format!("{operation} {state}: This plan fails in {operation}.")
            );
        }
    }
    for (plan, wanted) in [
        (
            "crash",
            "provision failed: The program that fulfils plan \"crash\" failed (signal: 9 (SIGKILL))",
        ),
        (
            "nonsense",
            "provision failed: The program that fulfils plan \"nonsense\" did not answer as it should",
        ),
        (
            "nonsense-bind",
            "bind 500: The program that fulfils plan \"nonsense-bind\" did not answer as it should",
        ),
    ] {
        let outcomes = life(&broker, &recipe, plan);
        assert!(outcomes.last().unwrap().starts_with(wanted), "{outcomes:?}");
    }
    // What never ends can be taken back.
    let never = recipe.plan_id("never");
    let target = instance("i-never");
    broker
        .put(&incomplete(&target), &provision(recipe.service(), never))
        .expect(202);
    let polled = broker
        .get(&format!("{target}/last_operation"))
        .expect(200)
        .json();
    assert_eq!(polled["state"], "in progress");
    let deleted = broker.delete(&recipe.deletion(&target, never));
    succeed(&broker, &target, deleted);
    recipe.passes_the_adapter_test("fast");
}

/// This very file, on a machine that has nothing.
#[test]
fn a_test_whose_programs_are_missing_is_left_out_and_says_so() {
    let folder = Folder::new();
    let left_out = |variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let test = "manual_waits_for_a_person";
        command.args(["--exact", test]).env_remove(needs::NEED_ALL);
        command.env("PATH", folder.path());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text + &printed)
    };
    let (passes, printed) = left_out(&[]);
    assert!(passes, "{printed}");
    let line = "LEFT OUT: manual_waits_for_a_person: jq missing; tests/run installs it\n";
    assert!(printed.contains(line), "{printed}");
    let (passes, printed) = left_out(&[(needs::NEED_ALL, "1")]);
    assert!(!passes, "{printed}");
    assert!(
        printed.contains("jq missing, and BROKERLET_TESTS_NEED_ALL is set"),
        "{printed}"
    );
}
