//! `tests/run`: what it installs, with which command, on machines that lack it.

mod support;

use std::path::Path;
use std::process::Command;
use support::Folder;
use support::programs::executable;

/// Every command that the script may run says what it is asked for. Installing makes every program.
const TELLS: &str = r#"#!/bin/sh
echo "${0##*/} $*" >>"$LOG"
"#;
const INSTALLS: &str = r#"#!/bin/sh
echo "${0##*/} $*" >>"$LOG"
case " $* " in *' install '* | *' add '*) ;; *) exit 0 ;; esac
[ -z "${NOTHING:-}" ] || exit 0
for program in curl jq git find grep sed psql initdb postgres redis-cli redis-server promtool script setpriv prlimit unshare chromium systemd-analyze; do
  cp "$BIN/cargo" "$BIN/$program"
done
cp "$BIN/snake" "$BIN/python3"
"#;
/// Python, whose pip installs what is asked for.
const SNAKE: &str = r#"#!/bin/sh
case $* in *--version) exit 0 ;; esac
echo "${0##*/} $*" >>"$LOG"
case $* in
  *axe-playwright-python==*) : >"$BROKERLET_TESTS_PYTHON/axe_playwright_python/axe.min.js" ;;
  *kubernetes-validate==*) : >"$BROKERLET_TESTS_PYTHON/kubernetes_validate/__init__.py" ;;
esac
"#;
const CARGO: &str = r#"#!/bin/sh
echo "${0##*/} $* ($BROKERLET_TESTS_NEED_ALL)" >>"$LOG"
"#;

struct Machine(Folder);

impl Machine {
    /// With this package manager, and for this user.
    fn new(manager: &str, user: &str) -> Machine {
        let folder = Folder::new();
        if !manager.is_empty() {
            executable(&folder, manager, INSTALLS);
        }
        executable(&folder, "cargo", CARGO);
        executable(&folder, "snake", SNAKE);
        for package in ["axe_playwright_python", "kubernetes_validate"] {
            std::fs::create_dir_all(folder.path().join("python").join(package)).unwrap();
        }
        executable(&folder, "id", &format!("#!/bin/sh\necho {user}\n"));
        executable(&folder, "uname", "#!/bin/sh\necho Linux\n");
        executable(&folder, "cc", "#!/bin/sh\necho /usr/lib/libc.a\n");
        executable(&folder, "sudo", &format!("{TELLS}exec \"$@\"\n"));
        for name in ["dirname", "cp", "env", "sh"] {
            let paths = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
            let found = paths.iter().find(|path| path.exists()).unwrap();
            std::os::unix::fs::symlink(found, folder.path().join(name)).unwrap();
        }
        Machine(folder)
    }

    /// Runs the script: whether it succeeds, what it said, and what it did.
    fn run(&self, variables: &[(&str, &str)]) -> (bool, String, Vec<String>) {
        let log = self.0.path().join("log");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run");
        let output = Command::new("/bin/sh")
            .arg(script)
            .env_clear()
            .env("PATH", self.0.path())
            .env("BIN", self.0.path())
            .env("LOG", &log)
            .env("BROKERLET_TESTS_PYTHON", self.0.path().join("python"))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let done = std::fs::read_to_string(log).unwrap_or_default();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
            done.lines().map(str::to_owned).collect(),
        )
    }
}

const TESTS: [&str; 2] = ["cargo test (1)", "cargo test --all-features (1)"];

#[test]
fn what_is_missing_is_installed_with_what_the_system_has() {
    for (manager, wanted) in [
        (
            "apt-get",
            "redis-tools redis-server prometheus python3 python3-pip bsdutils util-linux chromium systemd",
        ),
        (
            "dnf",
            "/usr/bin/redis-cli /usr/bin/redis-server /usr/bin/promtool",
        ),
        (
            "apk",
            "redis prometheus python3 py3-pip util-linux-misc setpriv",
        ),
    ] {
        for user in ["0", "1000"] {
            let machine = Machine::new(manager, user);
            let (succeeds, said, done) = machine.run(&[]);
            assert!(succeeds, "{said}");
            assert!(
                said.starts_with("tests/run: missing: curl jq git "),
                "{said}"
            );
            let with_sudo = done.iter().any(|line| line.starts_with("sudo "));
            assert_eq!(with_sudo, user != "0", "{done:?}");
            let installed = done.iter().find(|line| {
                line.starts_with(manager) && line.contains("curl") && line.contains(wanted)
            });
            let installed = installed.unwrap_or_else(|| panic!("{manager}: {done:?}"));
            let told = installed.split_once(' ').unwrap().1;
            assert!(said.contains(told), "{told:?} is not in {said}");
            assert_eq!(done[done.len() - 2..], TESTS);
            let pip =
                "python3 -m pip install --quiet --root-user-action=ignore --no-deps --target ";
            let packages = done.iter().filter(|line| line.starts_with(pip)).count();
            assert_eq!(packages, 2, "{done:?}");

            // The second time everything is there.
            let before = done.len();
            let (succeeds, said, done) = machine.run(&[]);
            assert!(succeeds && !said.contains("missing"), "{said}");
            assert_eq!(done[before..], TESTS);
        }
    }
}

#[test]
fn without_what_is_missing_no_test_runs() {
    let unknown = Machine::new("", "0");
    let useless = Machine::new("apt-get", "0");
    for (machine, variables, wanted) in [
        (
            &unknown,
            &[][..],
            "found none of apt-get, dnf, apk and brew",
        ),
        (&useless, &[("NOTHING", "1")][..], "still missing: curl jq"),
    ] {
        let (succeeds, said, done) = machine.run(variables);
        assert!(!succeeds && said.contains(wanted), "{said}");
        assert!(
            !done.iter().any(|line| line.starts_with("cargo")),
            "{done:?}"
        );
    }
}

#[test]
fn ci_leaves_nothing_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ci = std::fs::read_to_string(folder.join(".ci/run")).unwrap();
    assert!(ci.lines().any(|line| line == "tests/run"), "{ci}");
    assert!(!ci.contains("cargo test"), "{ci}");
}
