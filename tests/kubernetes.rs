//! The files of examples/kubernetes: the API would take them, they fit together, and the broker that they describe runs. No
//! cluster is needed: the schemas of the API come with the package of Python that `tests/run` installs.
#![cfg(unix)]

mod support;

use brokerlet::config::VARIABLES;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::pages::root;
use support::{Broker, Folder, Request, Setup, needs};

const FOLDER: &str = "examples/kubernetes";
/// The oldest version of Kubernetes that has all that is used, and a new one.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];
/// Each with what it says of the broker.
const BROKERS: [&str; 2] = ["brokerlet.yaml", "brokerlet-postgres.yaml"];
const BESIDE: [&str; 4] = [
    "secret.yaml",
    "catalog.yaml",
    "servicemonitor.yaml",
    "restore.yaml",
];

/// Runs Python with the packages. `None` if they are not here: the test is left out.
fn python(arguments: &[&str]) -> Option<Output> {
    let package = needs::python("kubernetes_validate/__init__.py")?;
    if !needs::has(&["python3"]) {
        return None;
    }
    let packages = package.ancestors().nth(2)?;
    let output = Command::new("python3")
        .args(arguments)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output();
    Some(output.unwrap())
}

fn path_of(file: &str) -> PathBuf {
    root().join(FOLDER).join(file)
}

/// The documents of YAML files.
fn documents(files: &[&str]) -> Option<Vec<Value>> {
    let script = "import json, sys, yaml\n\
        print(json.dumps([d for f in sys.argv[1:] for d in yaml.safe_load_all(open(f)) if d is not None]))";
    let paths: Vec<PathBuf> = files.iter().map(|file| path_of(file)).collect();
    let mut arguments = vec!["-c", script];
    arguments.extend(paths.iter().map(|path| path.to_str().unwrap()));
    let output = python(&arguments)?;
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let mut found = documents.iter().filter(|document| document["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "several of {kind}");
    first
}

/// A broker's file with those beside it.
fn whole(broker: &str) -> Option<Vec<Value>> {
    documents(&[&[broker], &BESIDE[..]].concat())
}

// The API

/// Whether the schemas of this version take all of a file, and what they say.
fn validate(file: &Path, version: &str) -> Option<(bool, String)> {
    let file = file.to_str().unwrap();
    let module = ["-m", "kubernetes_validate", "--strict", "-k"];
    let output = python(&[&module[..], &[version, file]].concat())?;
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(said).unwrap()))
}

#[test]
fn the_schemas_of_the_api_take_every_document() {
    let files = fs::read_dir(root().join(FOLDER)).unwrap();
    let mut files: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut known = [&BROKERS[..], &BESIDE].concat();
    known.sort_unstable();
    assert_eq!(files, known);
    for file in files {
        let Some(documents) = documents(&[&file]) else {
            return;
        };
        for version in VERSIONS {
            let (sound, said) = validate(&path_of(&file), version).unwrap();
            assert!(sound, "{said}");
            let passed = said.matches(&format!("against version {version}")).count();
            let of_operator = |document: &&Value| document["kind"] == "ServiceMonitor";
            let others = documents.len() - documents.iter().filter(of_operator).count();
            assert_eq!(passed, others, "{said}");
        }
    }
}

#[test]
fn what_is_misspelt_or_misplaced_is_found() {
    let folder = Folder::new();
    for (file, right, wrong) in [
        (
            BROKERS[0],
            "readOnlyRootFilesystem:",
            "readOnlyRootFileSystem:",
        ),
        (
            BROKERS[0],
            "terminationGracePeriodSeconds: 15",
            "terminationGracePeriodSeconds: 15s",
        ),
        (
            BROKERS[0],
            "policyTypes: [Ingress, Egress]",
            "policyType: [Ingress, Egress]",
        ),
        (
            BROKERS[0],
            "accessModes: [ReadWriteOnce]",
            "accessModes: ReadWriteOnce",
        ),
        (BROKERS[1], "minAvailable: 1", "minimumAvailable: 1"),
        (BROKERS[1], "sleep: { seconds: 5 }", "sleep: { second: 5 }"),
        (BESIDE[0], "stringData:", "stringdata:"),
        (BESIDE[1], "\ndata:", "\ndatas:"),
    ] {
        let text = fs::read_to_string(path_of(file)).unwrap();
        assert_eq!(text.matches(right).count(), 1, "{right}");
        let planted = folder.file(file, text.replace(right, wrong));
        let Some((sound, said)) = validate(&planted, VERSIONS[1]) else {
            return;
        };
        assert!(!sound, "{wrong} was taken: {said}");
    }
}

/// It is a resource of the operator of Prometheus, whose fields are told in
/// <https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.ServiceMonitor>.
#[test]
fn the_service_monitor_has_the_fields_of_its_operator() {
    let Some(documents) = documents(&["servicemonitor.yaml"]) else {
        return;
    };
    let monitor = of_kind(&documents, "ServiceMonitor");
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    let login = |key: &str| json!({ "name": "brokerlet", "key": key });
    let wanted = json!({
        "selector": { "matchLabels": { "app.kubernetes.io/name": "brokerlet" } },
        "jobLabel": "app.kubernetes.io/name",
        "endpoints": [{
            "port": "admin",
            "path": "/metrics",
            "interval": "30s",
            "basicAuth": { "username": login("username"), "password": login("password") }
        }]
    });
    assert_eq!(monitor["spec"], wanted);
    // Its label is the job that the alerts ask for.
    let rules = fs::read_to_string(root().join("examples/monitoring/rules.yaml")).unwrap();
    assert!(rules.contains("{job=\"brokerlet\"}"));
}

// How they fit together

fn pod(documents: &[Value]) -> &Value {
    &of_kind(documents, "Deployment")["spec"]["template"]["spec"]
}

fn container(documents: &[Value]) -> &Value {
    let containers = pod(documents)["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let found = value[name].as_array();
    found.unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
#[test]
fn pods_keep_to_the_restricted_standard() {
    for broker in BROKERS {
        let Some(documents) = whole(broker) else {
            return;
        };
        let labels = &of_kind(&documents, "Namespace")["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
        let restore = &of_kind(&documents, "Pod")["spec"];
        for pod in [pod(&documents), restore] {
            is_restricted(pod);
        }
    }
}

fn is_restricted(pod: &Value) {
    for forbidden in [
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "hostUsers",
        "initContainers",
    ] {
        assert!(pod[forbidden].is_null(), "{forbidden}");
    }
    let of_pod = &pod["securityContext"];
    assert_eq!(of_pod["runAsNonRoot"], true);
    assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault");
    let wanted = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] }
    });
    for container in list(pod, "containers") {
        assert_eq!(container["securityContext"], wanted);
    }
    for volume in list(pod, "volumes") {
        let kinds: Vec<&String> = volume.as_object().unwrap().keys().collect();
        let allowed = ["configMap", "name", "persistentVolumeClaim", "secret"];
        let is_allowed = |kind: &&String| allowed.contains(&kind.as_str());
        assert!(kinds.iter().all(is_allowed), "{kinds:?}");
    }
    assert_eq!(pod["automountServiceAccountToken"], false);
    // Who it is in the image.
    let dockerfile = fs::read_to_string(root().join("examples/docker/Dockerfile")).unwrap();
    let user = format!("USER {}:{}", of_pod["runAsUser"], of_pod["runAsGroup"]);
    assert!(dockerfile.contains(&user) && user != "USER 0:0", "{user}");
}

#[test]
fn every_name_leads_to_what_is_there() {
    for broker in BROKERS {
        let Some(documents) = whole(broker) else {
            return;
        };
        for document in &documents {
            let metadata = &document["metadata"];
            let namespace = match text(&document["kind"]) {
                "Namespace" => &metadata["name"],
                _ => &metadata["namespace"],
            };
            assert_eq!(namespace, "brokers", "{document}");
        }
        let template = &of_kind(&documents, "Deployment")["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        let mut selectors = vec![
            &of_kind(&documents, "Deployment")["spec"]["selector"]["matchLabels"],
            &of_kind(&documents, "Service")["spec"]["selector"],
            &of_kind(&documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        ];
        if broker == BROKERS[1] {
            let budget = of_kind(&documents, "PodDisruptionBudget");
            selectors.push(&budget["spec"]["selector"]["matchLabels"]);
            let spread = &pod(&documents)["topologySpreadConstraints"][0];
            selectors.push(&spread["labelSelector"]["matchLabels"]);
        }
        for selector in selectors {
            assert_eq!(selector, labels);
        }
        // The operator of Prometheus finds the Service by its labels, and takes the job's name from one.
        let of_service = &of_kind(&documents, "Service")["metadata"]["labels"];
        let monitor = &of_kind(&documents, "ServiceMonitor")["spec"];
        assert_eq!(&monitor["selector"]["matchLabels"], of_service);
        assert_eq!(of_service[text(&monitor["jobLabel"])], "brokerlet");

        let container = container(&documents);
        let ports: Vec<&Value> = list(container, "ports")
            .iter()
            .map(|port| &port["name"])
            .collect();
        assert_eq!(ports, ["http", "admin"]);
        let service = &of_kind(&documents, "Service")["spec"];
        let served: Vec<&Value> = list(service, "ports")
            .iter()
            .map(|port| &port["targetPort"])
            .collect();
        assert_eq!(served, ports);
        let policy = &of_kind(&documents, "NetworkPolicy")["spec"];
        let let_in: Vec<&Value> = list(policy, "ingress")
            .iter()
            .map(|rule| &rule["ports"][0]["port"])
            .collect();
        assert_eq!(let_in, ports);
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "http");
            // The broker itself gives up after 5 seconds, and says why.
            assert!(container[probe]["timeoutSeconds"].as_u64().unwrap() > 5);
        }
        for (name, _) in environment(&documents) {
            assert!(
                VARIABLES.iter().any(|variable| variable.name == name),
                "{name}"
            );
        }
    }
}

#[test]
fn one_broker_is_replaced_and_two_take_turns() {
    let [Some(alone), Some(shared)] = BROKERS.map(whole) else {
        return;
    };
    let alone = &of_kind(&alone, "Deployment")["spec"];
    assert_eq!(alone["replicas"], 1);
    assert_eq!(alone["strategy"], json!({ "type": "Recreate" }));
    let (documents, shared) = (&shared, &of_kind(&shared, "Deployment")["spec"]);
    assert_eq!(shared["replicas"], 2);
    assert_eq!(shared["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    let budget = &of_kind(documents, "PodDisruptionBudget")["spec"];
    assert_eq!(budget["minAvailable"], 1);
    // The database is let through, and its authority is where the address says.
    let policy = of_kind(documents, "NetworkPolicy");
    assert_eq!(policy["spec"]["egress"][1]["ports"][0]["port"], 5432);
    let (_, store) = environment(documents)
        .into_iter()
        .find(|(name, _)| name == "BROKER_STORE")
        .unwrap();
    let authority = store.split_once("sslrootcert=").unwrap().1;
    let place = mounts(documents, Path::new("/"));
    assert!(
        place.iter().any(|(file, _)| file == Path::new(authority)),
        "{authority}"
    );
}

// A broker as they describe it

/// The variables of the container, with the values of the Secret.
fn environment(documents: &[Value]) -> Vec<(String, String)> {
    let secret = of_kind(documents, "Secret");
    let value = |variable: &Value| {
        let Some(from) = variable["valueFrom"].as_object() else {
            return text(&variable["value"]).to_owned();
        };
        let from = &from["secretKeyRef"];
        assert_eq!(from["name"], secret["metadata"]["name"]);
        text(&secret["stringData"][text(&from["key"])]).to_owned()
    };
    list(container(documents), "env")
        .iter()
        .map(|variable| (text(&variable["name"]).to_owned(), value(variable)))
        .collect()
}

/// The files that are mounted below a root, with their content.
fn mounts(documents: &[Value], root: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for mount in list(container(documents), "volumeMounts") {
        let mut volumes = list(pod(documents), "volumes").iter();
        let volume = volumes.find(|volume| volume["name"] == mount["name"]);
        let volume = volume.unwrap_or_else(|| panic!("no volume: {mount}"));
        let place = root.join(text(&mount["mountPath"]).trim_start_matches('/'));
        if let Some(of) = volume.get("secret") {
            let secret = of_kind(documents, "Secret");
            assert_eq!(of["secretName"], secret["metadata"]["name"]);
            for item in list(of, "items") {
                let content = text(&secret["stringData"][text(&item["key"])]);
                files.push((place.join(text(&item["path"])), content.to_owned()));
            }
        } else if let Some(of) = volume.get("configMap") {
            let map = of_kind(documents, "ConfigMap");
            assert_eq!(of["name"], map["metadata"]["name"]);
            for (name, content) in map["data"].as_object().unwrap() {
                files.push((place.join(name), text(content).to_owned()));
            }
        } else {
            let claim = of_kind(documents, "PersistentVolumeClaim");
            let named = &volume["persistentVolumeClaim"]["claimName"];
            assert_eq!(named, &claim["metadata"]["name"]);
        }
    }
    files
}

/// Puts files where they are mounted in the way of the kubelet: names that lead through one link to a folder of their own.
/// Later they are replaced by another folder, all at once.
fn mount(files: &[(PathBuf, String)], generation: &str) {
    let mut folders: BTreeMap<&Path, Vec<(&str, &str)>> = BTreeMap::new();
    for (path, content) in files {
        let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap());
        let files = folders.entry(folder).or_default();
        files.push((name.to_str().unwrap(), content));
    }
    for (folder, files) in folders {
        let own = folder.join(generation);
        fs::create_dir_all(&own).unwrap();
        for (name, content) in files {
            fs::write(own.join(name), content).unwrap();
            let _ = std::os::unix::fs::symlink(Path::new("..data").join(name), folder.join(name));
        }
        std::os::unix::fs::symlink(generation, folder.join("..new")).unwrap();
        fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    }
}

/// The broker of a container whose root is the folder.
fn setup(documents: &[Value], folder: Arc<Folder>, store: Option<&str>) -> Setup {
    let root = folder.path().to_owned();
    let mounted: Vec<&str> = list(container(documents), "volumeMounts")
        .iter()
        .map(|mount| text(&mount["mountPath"]))
        .collect();
    for place in &mounted {
        fs::create_dir_all(root.join(&place[1..])).unwrap();
    }
    let mut setup = Setup::in_folder(folder).env("BROKER_RELOAD_EVERY", "1s");
    for name in ["BROKER_USERNAME", "BROKER_PASSWORD"] {
        setup.command.env_remove(name);
    }
    for (name, value) in environment(documents) {
        let value = match &*name {
            // Free ones, on this machine alone.
            "PORT" => "0".to_owned(),
            "BROKER_ADMIN_ADDRESS" => value.replace(":9100", ":0"),
            "BROKER_STORE" if store.is_some() => store.unwrap().to_owned(),
            _ => mounted.iter().fold(value, |value, place| {
                value.replace(&format!("{place}/"), &format!("{}{place}/", root.display()))
            }),
        };
        setup = setup.env(&name, value);
    }
    setup
}

/// What Kubernetes, the platform and Prometheus ask of a broker that has just started.
fn answers(documents: &[Value], broker: &Broker) {
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let path = text(&container(documents)[probe]["httpGet"]["path"]);
        let asked = Request::new(broker.address, "GET", path).without("Authorization");
        asked.send().expect(200);
    }
    let secret = &of_kind(documents, "Secret")["stringData"];
    let username = text(&secret["username"]);
    for key in ["password", "password-2"] {
        let asked = broker.request("GET", "/v2/catalog");
        let served = asked.login(username, text(&secret[key])).send().expect(200);
        let catalog = text(&of_kind(documents, "ConfigMap")["data"]["catalog.json"]);
        let catalog: Value = serde_json::from_str(catalog).unwrap();
        assert_eq!(
            served.json()["services"][0]["name"],
            catalog["services"][0]["name"]
        );
    }
    broker.request("GET", "/v2/catalog").send().expect(401);

    let started = broker.printed();
    let started = started.lines().find(|line| line.contains("\"started\""));
    let started: Value = serde_json::from_str(started.unwrap()).unwrap();
    let admin = text(&started["admin"]).replace("0.0.0.0", "127.0.0.1");
    let endpoint = &of_kind(documents, "ServiceMonitor")["spec"]["endpoints"][0];
    let key = |name: &str| text(&secret[text(&endpoint["basicAuth"][name]["key"])]);
    let asked = || Request::new(admin.parse().unwrap(), "GET", text(&endpoint["path"]));
    asked().without("Authorization").send().expect(401);
    let metrics = asked().login(key("username"), key("password")).send();
    let metrics = String::from_utf8(metrics.expect(200).body).unwrap();
    assert!(metrics.contains("brokerlet_build_info"), "{metrics}");
}

/// Stops it as Kubernetes does, within the time that is left for it.
fn stops(documents: &[Value], broker: Broker) {
    let grace = pod(documents)["terminationGracePeriodSeconds"]
        .as_u64()
        .unwrap();
    let pause = &container(documents)["lifecycle"]["preStop"]["sleep"]["seconds"];
    let grace = Duration::from_secs(grace - pause.as_u64().unwrap_or(0));
    // What docs/operating.md promises, and the last log lines.
    assert!(grace > Duration::from_secs(9), "{grace:?}");
    let began = Instant::now();
    let (status, printed) = broker.stop();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(began.elapsed() < grace);
}

#[test]
fn the_broker_of_the_deployment_runs_and_keeps_its_state_on_the_volume() {
    let Some(documents) = whole(BROKERS[0]) else {
        return;
    };
    let folder = Arc::new(Folder::new());
    mount(&mounts(&documents, folder.path()), "..1");
    let broker = setup(&documents, folder.clone(), None).start();
    answers(&documents, &broker);
    let secret = &of_kind(&documents, "Secret")["stringData"];
    let login = |request: Request, key: &str| {
        request
            .login(text(&secret["username"]), text(&secret[key]))
            .send()
    };
    let provision = support::provision("example_service", "plan_one");
    let put = broker
        .request("PUT", &support::instance("i"))
        .json(&provision);
    login(put, "password").expect(201);
    stops(&documents, broker);

    // The next pod finds it.
    let broker = setup(&documents, folder.clone(), None).start();
    let put = broker
        .request("PUT", &support::instance("i"))
        .json(&provision);
    login(put, "password-2").expect(200);
    assert!(folder.path().join("state/brokerlet.db").exists());
}

#[test]
fn an_export_comes_back_into_a_new_file_on_the_volume() {
    let Some(documents) = whole(BROKERS[0]) else {
        return;
    };
    let folder = Arc::new(Folder::new());
    mount(&mounts(&documents, folder.path()), "..1");
    let broker = setup(&documents, folder.clone(), None).start();
    let provision = support::provision("example_service", "plan_one");
    let put = |broker: &Broker| {
        let put = broker.request("PUT", &support::instance("i"));
        put.json(&provision).login("alex", "change-me").send()
    };
    put(&broker).expect(201);
    let below =
        |value: &str| value.replace("/state/", &format!("{}/state/", folder.path().display()));
    let state = |arguments: &[&str], store: &str| {
        let mut command = support::brokerlet();
        command.args(arguments).env("BROKER_STORE", below(store));
        command
    };
    // As `kubectl exec` does beside the broker.
    let exported = state(&["state", "export"], "file:/state/brokerlet.db")
        .output()
        .unwrap();
    assert!(exported.status.success(), "{exported:?}");
    stops(&documents, broker);

    let restore = &of_kind(&documents, "Pod")["spec"]["containers"][0];
    let arguments: Vec<&str> = list(restore, "args").iter().map(text).collect();
    let store = &restore["env"][0];
    assert_eq!(store["name"], "BROKER_STORE");
    let mut restoring = state(&arguments, text(&store["value"]))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    restoring
        .stdin
        .take()
        .unwrap()
        .write_all(&exported.stdout)
        .unwrap();
    let restored = restoring.wait_with_output().unwrap();
    let told = String::from_utf8(restored.stderr).unwrap();
    assert!(
        restored.status.success() && told.contains(": 1 record"),
        "{told}"
    );

    let store = below(text(&store["value"]));
    let broker = setup(&documents, folder.clone(), Some(&store)).start();
    put(&broker).expect(200);
}

#[test]
fn a_changed_secret_and_catalog_are_read_without_a_restart() {
    let Some(documents) = whole(BROKERS[0]) else {
        return;
    };
    let folder = Arc::new(Folder::new());
    mount(&mounts(&documents, folder.path()), "..1");
    let broker = setup(&documents, folder.clone(), None).start();
    let mut changed = documents.clone();
    for document in &mut changed {
        if document["kind"] == "Secret" {
            document["stringData"]["password-2"] = json!("another-one");
        }
        if document["kind"] == "ConfigMap" {
            let catalog = text(&document["data"]["catalog.json"]);
            let catalog = catalog.replace("\"name\": \"example_service\"", "\"name\": \"renamed\"");
            document["data"]["catalog.json"] = json!(catalog);
        }
    }
    mount(&mounts(&changed, folder.path()), "..2");
    broker.wait_for_print("\"reloaded\"");
    // It may have looked in between the two.
    for _ in 0..200 {
        let asked = broker
            .request("GET", "/v2/catalog")
            .login("alex", "another-one");
        let answer = asked.send();
        if answer.status == 200 && answer.json()["services"][0]["name"] == "renamed" {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    answers(&changed, &broker);
    let old = broker.request("GET", "/v2/catalog");
    old.login("alex", "change-me-too").send().expect(401);
}

#[cfg(feature = "postgres")]
#[test]
fn the_brokers_of_the_deployment_share_a_database() {
    let Some(documents) = whole(BROKERS[1]) else {
        return;
    };
    let Some(postgres) = support::servers::Postgres::start() else {
        return;
    };
    let store = postgres.database("brokers");
    let brokers = [(); 2].map(|()| {
        let folder = Arc::new(Folder::new());
        mount(&mounts(&documents, folder.path()), "..1");
        setup(&documents, folder, Some(&store)).start()
    });
    for broker in &brokers {
        answers(&documents, broker);
    }
    let provision = support::provision("example_service", "plan_one");
    for (broker, status) in brokers.iter().zip([201, 200]) {
        let put = broker
            .request("PUT", &support::instance("i"))
            .json(&provision);
        put.login("alex", "change-me").send().expect(status);
    }
    for broker in brokers {
        stops(&documents, broker);
    }
}

/// The catalog is one that the broker takes without a warning.
#[test]
fn the_catalog_passes() {
    let Some(documents) = whole(BROKERS[0]) else {
        return;
    };
    let catalog = text(&of_kind(&documents, "ConfigMap")["data"]["catalog.json"]);
    let folder = Folder::new();
    let checked = support::brokerlet()
        .arg("check")
        .arg(folder.file("catalog.json", catalog))
        .output()
        .unwrap();
    let printed = String::from_utf8(checked.stdout).unwrap();
    assert!(printed.contains(": 0 errors, 0 warnings"), "{printed}");
}
