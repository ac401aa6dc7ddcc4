//! What a program writes to standard error.

use super::lines_of_program;
use crate::support::programs::{bind, provision, shell};
use crate::support::{Folder, binding, instance};
use serde_json::json;

#[test]
fn lines_of_a_program_are_log_lines_with_the_ids() {
    let script = "printf 'one\\ntwo \"quoted\"\\n\\nlast' >&2; echo '{}'";
    let broker = shell(script, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    broker.put(&binding("i-1", "b-1"), &bind()).expect(201);
    broker.wait_for_print("binding_id=b-1 message=last");
    let lines = lines_of_program(&broker);
    assert_eq!(lines.len(), 6, "{lines:?}");
    for (line, (operation, message)) in lines.iter().zip([
        ("provision", "message=one"),
        ("provision", "message=\"two \\\"quoted\\\"\""),
        ("provision", "message=last"),
        ("bind", "message=one"),
        ("bind", "message=\"two \\\"quoted\\\"\""),
        ("bind", "message=last"),
    ]) {
        assert!(
            line.contains(&format!(" operation={operation} operation_id=")),
            "{line}"
        );
        assert!(
            line.contains(" instance_id=i-1 ") && line.ends_with(message),
            "{line}"
        );
        assert_eq!(
            line.contains(" binding_id=b-1 "),
            operation == "bind",
            "{line}"
        );
    }
}

#[test]
fn secrets_are_masked_in_all_that_a_program_writes() {
    let folder = Folder::new();
    let secret = folder.file("secret", "file-secret\n");
    let settings = json!({ "env": {
        "A": "${env:ADMIN}", "F": format!("${{file:{}}}", secret.display()), "U": "db://admin:${env:ADMIN}@db.example.com",
        "H": "db.example.com"
    }});
    // Before the result is known, across writes, and after it.
    let script = r#"
echo "admin $A, file $F, $U, $H" >&2
printf 'new: bind' >&2; printf -- '-secret; ' >&2; printf 'x%sy\n' 'uri%20secret%2F' >&2
echo '{"progress": "at '"$A"'"}'
echo '{"credentials": {"password": "bind-secret", "deep": [{"uri": "uri secret/"}]}, "state": {}}'
echo 'again bind-secret' >&2"#;
    let broker = shell(script, settings.clone())
        .env("ADMIN", "env-secret")
        .start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    let answer = broker.put(&binding("i-1", "b-1"), &bind()).expect(201);
    assert_eq!(answer.json()["credentials"]["password"], "bind-secret");
    broker.wait_for_print("binding_id=b-1 message=\"again ***\"");
    let of_bind: Vec<_> = lines_of_program(&broker);
    let of_bind: Vec<_> = of_bind
        .iter()
        .filter(|line| line.contains("=bind "))
        .collect();
    assert!(
        of_bind[0].ends_with("message=\"admin ***, file ***, ***, db.example.com\""),
        "{of_bind:?}"
    );
    assert!(
        of_bind[1].ends_with("message=\"new: ***; x***y\""),
        "{of_bind:?}"
    );
    let (_, printed) = broker.stop();
    for secret in ["env-secret", "file-secret", "db://admin"] {
        assert!(!printed.contains(secret), "{printed}");
    }

    // Not in an error either: neither the user's nor the operator's.
    let script = r#"echo "cannot log in as $A" >&2; echo '{"error":"x","description":"'"$A"' refused"}'; exit 1"#;
    let broker = shell(script, settings).env("ADMIN", "env-secret").start();
    let answer = broker.put(&instance("i-1"), &provision()).expect(500);
    assert_eq!(answer.description(), "*** refused");
    let (_, printed) = broker.stop();
    assert!(
        printed.contains("last message: cannot log in as ***"),
        "{printed}"
    );
    assert!(!printed.contains("env-secret"), "{printed}");
}

#[test]
fn a_flood_of_lines_is_dammed() {
    let script =
        "yes 'a line of a program that never stops talking' | head -n 200000 >&2; echo '{}'";
    let broker = shell(script, json!({})).start();
    broker.put(&instance("i-1"), &provision()).expect(201);
    broker.wait_for_print("lines left out: ");
    assert!(lines_of_program(&broker).len() < 10_000);
}
