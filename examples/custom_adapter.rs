//! A broker with an adapter of its own: each service instance is a folder, each binding a file with a token in it.
//!
//!     "adapter": { "kind": "folder", "root": "/srv/shares" }

use brokerlet::adapter::{Adapter, BindingCall, Bound, Failure, InstanceCall, Kinds, Provisioned};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::{fs, io, path::PathBuf, process::ExitCode};

/// An id can hold anything; as the name of a file it leads nowhere else, and no two ids have the same name.
const IN_NAMES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

struct Folders(PathBuf);

impl Folders {
    fn folder(&self, call: &InstanceCall) -> PathBuf {
        self.0.join(name(call.instance_id))
    }
    fn token(&self, call: &BindingCall) -> PathBuf {
        self.folder(&call.instance).join(name(call.binding_id))
    }
}

impl Adapter for Folders {
    fn provision(&self, call: &InstanceCall) -> Result<Provisioned, Failure> {
        fs::create_dir_all(self.folder(call)).map_err(failed)?;
        Ok(Provisioned::default())
    }
    fn deprovision(&self, call: &InstanceCall) -> Result<(), Failure> {
        removed(fs::remove_dir_all(self.folder(call)))
    }
    fn bind(&self, call: &BindingCall) -> Result<Bound, Failure> {
        fs::write(self.token(call), call.app_guid.unwrap_or("a key")).map_err(failed)?;
        let path = self.token(call).display().to_string();
        Ok(Bound::credentials([("file", path)]))
    }
    fn unbind(&self, call: &BindingCall) -> Result<(), Failure> {
        removed(fs::remove_file(self.token(call)))
    }
}

fn name(id: &str) -> String {
    utf8_percent_encode(id, IN_NAMES).to_string()
}
fn failed(error: io::Error) -> Failure {
    Failure::failed("The folder could not be changed.").with_detail(error.to_string())
}
fn removed(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}
fn main() -> ExitCode {
    let kinds = Kinds::standard();
    brokerlet::main(kinds.with("folder", |s| {
        Some(Folders(s.required_string("root")?.into()))
    }))
}
