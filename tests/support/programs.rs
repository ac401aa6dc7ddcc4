//! Services that programs of the test fulfil.

use super::{Broker, Folder, Setup, merged, wait_until};

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Writes an executable file.
pub fn executable(folder: &Folder, name: &str, content: &str) -> PathBuf {
    // Written under another name first: a file that is open for writing, be it in a process that another test has just
    // forked, cannot be run.
    let new = folder.file(&format!("{name}.new"), content);
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join(name);
    std::fs::rename(new, &file).unwrap();
    file
}

/// A service `service-1` with one plan `plan-1`, fulfilled by `./program`, with these settings beside.
pub fn catalog(settings: Value) -> Value {
    let adapter = merged(
        &json!({ "kind": "exec", "command": ["./program"] }),
        settings,
    );
    json!({ "services": [{
        "id": "service-1",
        "name": "database",
        "description": "A database",
        "bindable": true,
        "bindings_retrievable": true,
        "instances_retrievable": true,
        "plan_updateable": true,
        "metadata": { "displayName": "Database" },
        "plans": [
            {
                "id": "plan-1",
                "name": "small",
                "description": "Small",
                "binding_rotatable": true,
                "metadata": { "size": 1 },
                "adapter": adapter
            },
            { "id": "plan-2", "name": "large", "description": "Large", "adapter": adapter }
        ]
    }]})
}

pub fn provision() -> Value {
    super::provision("service-1", "plan-1")
}

pub fn bind() -> Value {
    super::bind("service-1", "plan-1")
}

/// The ids of the plan, as the query of a delete.
pub const IDS: &str = "?service_id=service-1&plan_id=plan-1";

/// How to start a broker whose plans are fulfilled by this program, in a shell, with these settings. The document is in
/// the variable `input`, the operation in `$1`.
pub fn shell(script: &str, settings: Value) -> Setup {
    program(&format!("#!/bin/sh\ninput=$(cat)\n{script}\n"), settings)
}

/// The same, with the whole program.
pub fn program(content: &str, settings: Value) -> Setup {
    let folder = Arc::new(Folder::new());
    executable(&folder, "program", content);
    Setup::in_folder(folder)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BROKER_STORE", "memory")
        .catalog(&catalog(settings))
}

impl Broker {
    /// Waits until a program has written a line into a file beside itself.
    #[track_caller]
    pub fn wait_for_file(&self, name: &str) {
        let path = self.folder.path().join(name);
        let is_whole = |text: String| text.ends_with('\n');
        wait_until(
            || format!("{name} was not written"),
            || std::fs::read_to_string(&path).is_ok_and(is_whole),
        );
    }

    /// What a program has written into a file beside itself.
    pub fn written(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}
