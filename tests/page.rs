//! The page of operators.

mod support;

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use support::programs::shell;
use support::{
    Broker, Folder, IDS, PASSWORD, Request, Response, Setup, USERNAME, bind, binding, instance,
    merged, needs, programs, provision,
};

const SERVICE: &str = "example_service";
const PLAN: &str = "plan_one";
/// What users choose, and may not become markup.
const HOSTILE: &str =
    "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>&amp;";

fn setup() -> Setup {
    let setup = Setup::new().env("BROKER_STORE", "memory");
    setup.env("BROKER_ADMIN_ADDRESS", "127.0.0.1:0")
}

fn admin(broker: &Broker) -> SocketAddr {
    let printed = broker.printed();
    let (_, rest) = printed.split_once(" admin=").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// As a browser asks.
fn look(address: SocketAddr, target: &str) -> Response {
    Request::new(address, "GET", target)
        .without("Authorization")
        .without("X-Broker-API-Version")
        .send()
}

#[track_caller]
fn html(answer: &Response) -> String {
    assert_eq!(
        answer.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.header("Referrer-Policy"), Some("no-referrer"));
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let policy = answer.header("Content-Security-Policy").unwrap();
    let (_, nonce) = policy.split_once("style-src 'nonce-").unwrap();
    let nonce = nonce.split('\'').next().unwrap();
    let wanted = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    assert_eq!(policy, wanted);
    assert!(
        text.contains(&format!("<style nonce=\"{nonce}\">")),
        "{text}"
    );
    // Nothing runs, and nothing comes from elsewhere.
    for never in [
        "<script",
        "javascript:",
        "<img",
        "src=\"",
        "http://",
        "https://",
        "@import",
        "url(",
    ] {
        assert!(!text.contains(never), "{never}: {text}");
    }
    text
}

fn made(broker: &Broker, id: &str, changes: Value) {
    let body = merged(&provision(SERVICE, PLAN), changes);
    broker.put(&instance(id), &body).expect(201);
}

#[test]
fn there_is_what_operators_ask_for_and_never_a_credential() {
    let adapter = json!({
        "kind": "shared",
        "instance": { "dashboard_url": "https://mail.example.com/?key=dashkey" },
        "binding": { "credentials": { "uri": "smtp://u:hunter2@mail.example.com", "nested": { "token": "tok-en" } } },
    });
    let plan = json!({ "id": PLAN, "name": PLAN, "description": "One", "adapter": adapter });
    let catalog = json!({ "services": [{ "id": SERVICE, "name": SERVICE, "description": "Mail", "bindable": true, "plans": [plan] }] });
    let broker = setup().catalog(&catalog).start();
    made(
        &broker,
        "i-1",
        json!({ "parameters": { "secret": "swordfish" } }),
    );
    let bound = broker
        .put(&binding("i-1", "b-1"), &bind(SERVICE, PLAN))
        .expect(201);
    assert!(bound.json().to_string().contains("hunter2"));
    broker
        .put(
            &instance("i-1"),
            &merged(&provision(SERVICE, PLAN), json!({ "space_guid": "other" })),
        )
        .expect(409);
    let admin = admin(&broker);
    let overview = html(&look(admin, "/").expect(200));
    for wanted in [
        SERVICE,
        PLAN,
        "<td data-column=\"Instances\"><div>1</div></td>",
        "<td data-column=\"Bindings\"><div>1</div></td>",
        "Operations in progress",
        "<a href=\"/instances/i-1\">i-1</a>",
        "PUT /v2/service_instances/:instance_id/service_bindings/:binding_id",
        "409: ",
    ] {
        assert!(overview.contains(wanted), "{wanted}: {overview}");
    }
    let list = html(&look(admin, "/instances").expect(200));
    for wanted in ["i-1", "mine", "acme (org-1)", "dev (space-1)", "ready"] {
        assert!(list.contains(wanted), "{wanted}: {list}");
    }
    let one = html(&look(admin, "/instances/i-1").expect(200));
    for wanted in ["<h1>mine</h1>", "b-1", "app-1", "shared", "acme (org-1)"] {
        assert!(one.contains(wanted), "{wanted}: {one}");
    }
    let secrets = ["hunter2", "tok-en", "dashkey", "swordfish", PASSWORD];
    for page in [&overview, &list, &one] {
        for secret in secrets {
            assert!(!page.contains(secret), "{secret}: {page}");
        }
    }
}

#[test]
fn what_users_choose_is_text() {
    let broker = setup().start();
    let id = "a%2Fb%3C%22%27%3Ei%3E";
    let context = json!({ "platform": "x", "instance_name": HOSTILE, "organization_name": HOSTILE, "space_name": HOSTILE });
    made(
        &broker,
        id,
        json!({ "organization_guid": HOSTILE, "space_guid": HOSTILE, "context": context }),
    );
    let body = merged(
        &bind(SERVICE, PLAN),
        json!({ "app_guid": HOSTILE, "bind_resource": { "app_guid": HOSTILE } }),
    );
    broker.put(&binding(id, "%3Cu%3E"), &body).expect(201);
    let other = merged(&provision(HOSTILE, PLAN), json!({}));
    broker.put(&instance("i-2"), &other).expect(400);
    let admin = admin(&broker);
    html(&look(admin, "/").expect(200));
    let list = html(&look(admin, "/instances").expect(200));
    let address = format!("/instances/{id}");
    assert!(
        list.contains(&format!(
            "<a href=\"{address}\">a/b&lt;&quot;&#39;&gt;i&gt;</a>"
        )),
        "{list}"
    );
    let one = html(&look(admin, &address).expect(200));
    assert!(
        one.contains("&lt;script&gt;document.title=&#39;owned&#39;"),
        "{one}"
    );
    assert!(one.contains("&lt;u&gt;"), "{one}");
    let filtered = look(
        admin,
        "/instances?space=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&service=%3Cb%3E",
    );
    html(&filtered.expect(200));
    for (target, status) in [
        ("/instances/%3Cscript%3E", 404),
        ("/instances?state=%3Cscript%3E", 400),
    ] {
        let failed = look(admin, target);
        assert_eq!(failed.status, status);
        html(&failed);
    }
}

#[test]
fn many_instances_are_filtered_and_come_in_pages() {
    let broker = setup().start();
    for n in 0..120 {
        let space = if n % 2 == 0 { "even space&1" } else { "odd" };
        let context =
            json!({ "platform": "cloudfoundry", "organization_name": format!("org {}", n % 3) });
        made(
            &broker,
            &format!("i-{n:03}"),
            json!({ "space_guid": space, "context": context }),
        );
    }
    let admin = admin(&broker);
    // All that a chain of pages shows.
    let walk = |query: &str| {
        let mut target = format!("/instances{query}");
        let (mut pages, mut ids) = (0, Vec::new());
        loop {
            let page = html(&look(admin, &target).expect(200));
            let links = page.split("<a href=\"/instances/").skip(1);
            ids.extend(links.map(|rest| rest[..5].to_owned()));
            pages += 1;
            let next = page
                .split("<a href=\"")
                .find(|link| link.contains(">Next page<"));
            let Some(next) = next else { break (pages, ids) };
            target = next.split('"').next().unwrap().replace("&amp;", "&");
        }
    };
    let numbers = |wanted: &dyn Fn(u32) -> bool| -> Vec<String> {
        (0..120)
            .filter(|n| wanted(*n))
            .map(|n| format!("i-{n:03}"))
            .collect()
    };
    assert_eq!(walk(""), (3, numbers(&|_| true)));
    assert_eq!(walk("?space=even+space%261"), (2, numbers(&|n| n % 2 == 0)));
    assert_eq!(
        walk("?organization=org%202&space=odd"),
        (1, numbers(&|n| n % 3 == 2 && n % 2 == 1))
    );
    assert_eq!(walk("?organization=org-1"), (3, numbers(&|_| true)));
    assert_eq!(
        walk(&format!("?service={SERVICE}&plan={PLAN}&state=ready")),
        (3, numbers(&|_| true))
    );
    for none in [
        "?service=none",
        "?plan=none",
        "?state=failed",
        "?state=in+progress",
        "?organization=none",
    ] {
        assert_eq!(walk(none).1, Vec::<String>::new(), "{none}");
    }
    // What was chosen is still chosen.
    let page = html(&look(admin, "/instances?space=odd&state=ready&service=gone").expect(200));
    for wanted in [
        " value=\"odd\"",
        "<option value=\"ready\" selected>",
        "<option value=\"gone\" selected>",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
}

#[test]
fn operations_are_seen_with_their_progress_and_why_they_failed() {
    let script = r#"
case $1 in
provision) echo '{"progress":"Half of <it> is done."}'; echo begun >begun; while [ ! -e go ]; do sleep 0.05; done
  echo '{"error":"failed","description":"The disk is full."}'; exit 1 ;;
esac
echo '{}'"#;
    let settings = json!({ "async": ["provision"], "timeout": "1m", "concurrency": 1 });
    let broker = shell(script, settings)
        .env("BROKER_ADMIN_ADDRESS", "127.0.0.1:0")
        .start();
    for id in ["i-1", "i-2"] {
        let target = instance(id) + "?accepts_incomplete=true";
        broker.put(&target, &programs::provision()).expect(202);
        broker.wait_for_file("begun");
    }
    let admin = admin(&broker);
    let told = "Half of &lt;it&gt; is done.";
    let mut overview = html(&look(admin, "/").expect(200));
    while !overview.contains(told) {
        overview = html(&look(admin, "/").expect(200));
    }
    let first = overview.find("<a href=\"/instances/i-1\">").unwrap();
    assert!(first < overview.find("<a href=\"/instances/i-2\">").unwrap());
    assert!(
        overview.contains("It is waiting for its turn."),
        "{overview}"
    );
    let one = html(&look(admin, "/instances/i-1").expect(200));
    assert!(
        one.contains("in progress</strong> (provision), begun ") && one.contains(told),
        "{one}"
    );
    broker.folder.file("go", "");
    for id in ["i-1", "i-2"] {
        let target = instance(id) + "/last_operation";
        while broker.get(&target).json()["state"] == "in progress" {
            std::thread::yield_now();
        }
    }
    let failed = html(&look(admin, "/instances?state=failed").expect(200));
    assert_eq!(failed.matches("The disk is full.").count(), 2, "{failed}");
}

#[test]
fn on_the_brokers_own_address_it_takes_the_credentials() {
    for base in ["", "/brokers/mail"] {
        let broker = setup().env("BROKER_BASE_PATH", base).start();
        let target = format!("{base}/dashboard");
        let body = provision(SERVICE, PLAN);
        broker
            .put(&(base.to_owned() + &instance("i-1")), &body)
            .expect(201);
        let refused = look(broker.address, &target).expect(401);
        assert!(refused.header("WWW-Authenticate").is_some());
        let ask = |target: &str| {
            let request = broker
                .request("GET", target)
                .without("X-Broker-API-Version");
            request.send()
        };
        let overview = html(&ask(&target).expect(200));
        let address = format!("{target}/instances/i-1");
        assert!(
            overview.contains(&format!("<a href=\"{address}\">")),
            "{overview}"
        );
        html(&ask(&address).expect(200));
        html(&ask(&format!("{target}/instances")).expect(200));
        html(&ask(&format!("{target}/")).expect(200));
        assert_eq!(ask(&format!("{target}/none")).status, 400);
        let put = broker.request("PUT", &target).json(&json!({}));
        put.send().expect(405);
        // The admin address has no base path.
        html(&look(admin(&broker), "/").expect(200));
    }
    let other = setup().env("BROKER_ADMIN_ADDRESS", "0.0.0.0:0").start();
    let address = SocketAddr::from(([127, 0, 0, 1], admin(&other).port()));
    look(address, "/").expect(401);
    look(address, "/instances").expect(401);
    html(
        &Request::new(address, "GET", "/")
            .login(USERNAME, PASSWORD)
            .send(),
    );
}

/// A catalog whose instances have a page.
fn with_page() -> Value {
    let adapter = json!({ "kind": "shared", "instance": { "dashboard_url": "${page}" } });
    let plan = json!({ "id": PLAN, "name": PLAN, "description": "One", "adapter": adapter });
    json!({ "services": [{ "id": SERVICE, "name": SERVICE, "description": "Mail", "bindable": true, "plans": [plan] }] })
}

const OLD_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const NEW_KEY: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

#[test]
fn a_link_shows_its_instance_and_nothing_else() {
    let start = |folder: Option<std::sync::Arc<Folder>>, keys: &str| {
        let setup = folder.map_or_else(Setup::new, Setup::in_folder);
        let setup = setup
            .env("BROKER_ADMIN_ADDRESS", "0.0.0.0:0")
            .catalog(&with_page());
        let setup = setup.env("BROKER_PUBLIC_URL", "https://broker.example.com/base/");
        setup
            .env("BROKER_PAGE_KEYS", keys)
            .env("BROKER_BASE_PATH", "/base")
            .start()
    };
    let broker = start(None, OLD_KEY);
    let link = |broker: &Broker, id: &str| {
        let answer = broker.put(&format!("/base{}", instance(id)), &provision(SERVICE, PLAN));
        let answer = answer.expect(201).json();
        let url = answer["dashboard_url"].as_str().unwrap();
        let path = url.strip_prefix("https://broker.example.com").unwrap();
        path.to_owned()
    };
    let (one, other) = (link(&broker, "i-1"), link(&broker, "i-2%3F"));
    assert!(
        one.starts_with("/base/dashboard/instances/i%2D1?key="),
        "{one}"
    );
    broker
        .put(
            &format!("/base{}", binding("i-1", "b-1")),
            &bind(SERVICE, PLAN),
        )
        .expect(201);
    let page = html(&look(broker.address, &one).expect(200));
    for wanted in ["<h1>mine</h1>", "i-1", PLAN, "b-1", "ready"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    // Neither ways to elsewhere nor what is the operator's.
    for never in [
        "<a ",
        "<nav",
        "org-1",
        "space-1",
        "acme",
        "Adapter",
        "Created by",
    ] {
        assert!(!page.contains(never), "{never}: {page}");
    }
    html(&look(broker.address, &other).expect(200));
    let key = one.split_once('?').unwrap().1;
    for refused in [
        format!("/base/dashboard/instances/i-2%3F?{key}"),
        format!("/base/dashboard/instances?{key}"),
        format!("/base/dashboard?{key}"),
        format!("/base{}?{key}", instance("i-1")),
        format!("/base/v2/catalog?{key}"),
        format!("/dashboard/instances/i-1?{key}"),
        one.replace("?key=", "?key=A"),
        one.split_once('?').unwrap().0.to_owned(),
    ] {
        look(broker.address, &refused).expect(401);
    }
    // The admin address is for operators.
    let admin = SocketAddr::from(([127, 0, 0, 1], admin(&broker).port()));
    look(admin, &format!("/instances/i-1?{key}")).expect(401);
    // What a link is made of is in no log.
    let secret = key.strip_prefix("key=").unwrap();
    assert!(!broker.printed().contains(secret), "{}", broker.printed());

    // Links live on while the key is rotated, and as long as their instance.
    let broker = start(Some(broker.kill()), &format!("{NEW_KEY},{OLD_KEY}"));
    html(&look(broker.address, &one).expect(200));
    broker
        .delete(&format!("/base{}{IDS}", instance("i-1")))
        .expect(200);
    let gone = look(broker.address, &one);
    assert_eq!(gone.status, 404);
    html(&gone);
    let new = link(&broker, "i-3");
    let broker = start(Some(broker.kill()), NEW_KEY);
    html(&look(broker.address, &new).expect(200));
    look(broker.address, &other).expect(401);
}

#[test]
fn a_page_without_address_or_key_is_refused_at_the_start() {
    let run = |variables: &[(&str, &str)]| {
        let mut setup = setup().catalog(&with_page());
        for (name, value) in variables {
            setup = setup.env(name, value);
        }
        let output = setup.run();
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let told = run(&[]);
    let place = "services[0].plans[0].adapter.instance.dashboard_url";
    for wanted in [place, "${page}", "BROKER_PUBLIC_URL", "BROKER_PAGE_KEYS"] {
        assert!(told.contains(wanted), "{told}");
    }
    let told = run(&[("BROKER_PUBLIC_URL", "https://b.example.com")]);
    assert!(
        told.contains("BROKER_PAGE_KEYS is not set, but BROKER_PUBLIC_URL is"),
        "{told}"
    );
    let told = run(&[
        ("BROKER_PUBLIC_URL", "b.example.com"),
        ("BROKER_PAGE_KEYS", "c2VjcmV0"),
    ]);
    assert!(
        told.contains("BROKER_PUBLIC_URL: found \"b.example.com\"")
            && told.contains("BROKER_PAGE_KEYS: key 1 "),
        "{told}"
    );
    assert!(!told.contains("c2VjcmV0"), "{told}");
}

/// The relative luminance of `#rrggbb`. WCAG 2.2.
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| {
        let value = u8::from_str_radix(&colour[at..at + 2], 16).unwrap();
        let value = f64::from(value) / 255.0;
        match value <= 0.04045 {
            true => value / 12.92,
            false => ((value + 0.055) / 1.055).powf(2.4),
        }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

#[test]
fn every_colour_can_be_read_in_light_and_in_dark() {
    let style = include_str!("../src/http/page/style.css");
    let mut themes = 0;
    for theme in style.split(":root {").skip(1) {
        let theme = theme.split('}').next().unwrap();
        let colours: Vec<(&str, &str)> = theme
            .split(';')
            .filter_map(|line| line.trim().strip_prefix("--")?.split_once(": "))
            .collect();
        let back = luminance(colours.iter().find(|(name, _)| *name == "back").unwrap().1);
        for (name, colour) in &colours {
            let (one, other) = (luminance(colour), back);
            let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
            // Text needs 4.5, what surrounds an input 3. WCAG 1.4.3 and 1.4.11.
            let wanted = match *name {
                "back" => continue,
                "line" => 3.0,
                _ => 4.5,
            };
            assert!(contrast >= wanted, "{name} {colour}: {contrast:.2}");
        }
        assert_eq!(colours.len(), 8);
        themes += 1;
    }
    assert_eq!(themes, 2);
    // No colour beside those.
    assert_eq!(style.matches('#').count(), 16);
}

#[test]
fn it_can_be_heard_and_used_without_a_mouse() {
    let broker = setup().start();
    made(&broker, "i-1", json!({}));
    broker
        .put(&binding("i-1", "b-1"), &bind(SERVICE, PLAN))
        .expect(201);
    let admin = admin(&broker);
    for target in ["/", "/instances", "/instances/i-1"] {
        let page = html(&look(admin, target).expect(200));
        assert!(
            page.starts_with("<!doctype html>\n<html lang=\"en\">"),
            "{page}"
        );
        for once in ["<h1>", "<main>", "<title>", "<nav aria-label=\"Pages\">"] {
            assert_eq!(page.matches(once).count(), 1, "{once}: {page}");
        }
        assert!(!page.contains("<h3"));
        let tables = page.matches("<table>").count();
        assert!(tables > 0);
        assert_eq!(page.matches("<caption>").count(), tables);
        for field in page.split(" id=\"").skip(1) {
            let id = field.split('"').next().unwrap();
            assert!(
                page.contains(&format!("<label for=\"{id}\">")),
                "{id}: {page}"
            );
        }
        for column in page
            .split("<th")
            .skip(1)
            .filter(|rest| !rest.starts_with("ead"))
        {
            assert!(column.starts_with(" scope=\"col\">"), "{column}");
        }
        // No link without words.
        assert!(!page.contains("\"></a>"), "{page}");
    }
}

/// Runs the browser on an address: what it made of the page, and what it has to complain about.
fn browse(folder: &Folder, address: &str, more: &[&str]) -> (String, String) {
    let output = Command::new(needs::installed("chromium").unwrap())
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args(["--enable-logging=stderr", "--virtual-time-budget=2000"])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .args(more)
        .args(["--dump-dom", address])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (String::from_utf8(output.stdout).unwrap(), said)
}

#[test]
fn a_real_browser_shows_it_runs_nothing_and_has_no_complaint() {
    if !needs::has(&["chromium"]) {
        return;
    }
    let broker = setup().start();
    let context = json!({ "platform": "cloudfoundry", "instance_name": HOSTILE });
    made(&broker, "i-1", json!({ "context": context }));
    let admin = admin(&broker);
    let folder = Folder::new();
    for (target, title) in [
        ("/", "Service broker"),
        ("/instances", "Service instances"),
        ("/instances/i-1", "&lt;script&gt;"),
    ] {
        let (page, said) = browse(&folder, &format!("http://{admin}{target}"), &[]);
        assert!(page.contains(&format!("<title>{title}")), "{page}");
        assert!(
            !page.contains("<script") && !page.contains("<img"),
            "{page}"
        );
        // It would say what the policy has stopped.
        assert!(!said.contains("CONSOLE"), "{said}");
    }
    // A page that breaks its own policy is complained about, so the silence above means something.
    let page = look(admin, "/");
    let broken = String::from_utf8(page.body).unwrap();
    let policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\">";
    let broken = broken.replace("<head>", &format!("<head>{policy}"));
    let file = folder.file("broken.html", broken);
    let (_, said) = browse(&folder, &format!("file://{}", path(&file)), &[]);
    assert!(said.contains("CONSOLE"), "{said}");
}

/// What axe-core finds in that browser: the rules of WCAG 2.2 AA, and its own best practices.
#[test]
fn axe_finds_nothing_that_hinders_people() {
    let axe = needs::python("axe_playwright_python/axe.min.js");
    let Some(axe) = axe.filter(|_| needs::has(&["chromium"])) else {
        return;
    };
    let broker = setup().start();
    let context = json!({ "platform": "cloudfoundry", "instance_name": HOSTILE });
    made(&broker, "i-1", json!({ "context": context }));
    broker
        .put(&binding("i-1", "b-1"), &bind(SERVICE, PLAN))
        .expect(201);
    let admin = admin(&broker);
    let folder = Folder::new();
    std::fs::copy(axe, folder.path().join("axe.js")).unwrap();
    let run = "<script src=\"axe.js\"></script><script>axe.run().then(found => {\
        const of = list => list.map(it => it.id + ': ' + it.nodes.map(node => node.html).join(' '));\
        document.title = JSON.stringify({ violations: of(found.violations), passes: found.passes.map(it => it.id) });\
        })</script></body>";
    let look_at = |name: &str, page: &str, dark: bool| -> Value {
        let file = folder.file(name, page.replace("</body>", run));
        let mode = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
        let (page, said) = browse(&folder, &format!("file://{}", path(&file)), &[&mode]);
        let (_, title) = page.split_once("<title>").unwrap();
        let title = title.split_once("</title>").unwrap().0;
        let title = title
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&");
        serde_json::from_str(&title).unwrap_or_else(|error| panic!("{error}: {title} {said}"))
    };
    for (name, target) in [
        ("overview.html", "/"),
        ("instances.html", "/instances"),
        ("instance.html", "/instances/i-1"),
    ] {
        let page = html(&look(admin, target).expect(200));
        for dark in [false, true] {
            let found = look_at(name, &page, dark);
            assert_eq!(found["violations"], json!([]), "{target}");
            let passes = found["passes"].to_string();
            for rule in [
                "color-contrast",
                "document-title",
                "html-has-lang",
                "heading-order",
            ] {
                assert!(passes.contains(rule), "{rule}: {passes}");
            }
        }
    }
    // It does find what is wrong.
    let page = html(&look(admin, "/instances").expect(200));
    let bad = page
        .replace("<label for=", "<label data-for=")
        .replace("lang=\"en\"", "");
    let found = look_at("bad.html", &bad, false)["violations"].to_string();
    assert!(
        found.contains("html-has-lang") && found.contains("select-name"),
        "{found}"
    );
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
