//! The private socket between the gate and tiny_http, in a place that no other user can reach.

use crate::random;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the names of the sockets' folders begin.
const PREFIX: &str = "brokerlet-gate-";
/// A socket without a listener that is older than this was left behind. A younger one may be about to be opened.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// Removes the socket when dropped.
#[derive(Debug)]
pub struct PrivateSocket(Location);

#[derive(Debug)]
enum Location {
    /// In a folder of its own, which only the user of the broker can enter.
    Folder(PathBuf),
    /// Under an abstract name. Other users can find it in the system's tables, but do not have the key.
    #[cfg(target_os = "linux")]
    Abstract(std::os::unix::net::SocketAddr),
}

impl PrivateSocket {
    /// Opens a socket in a new folder. If there is no writable place for one: under an abstract name.
    pub fn listen() -> io::Result<(PrivateSocket, UnixListener)> {
        match listen_in_folder(&std::env::temp_dir()) {
            Ok(listening) => Ok(listening),
            #[cfg(target_os = "linux")]
            Err(_) => listen_abstract(),
            #[cfg(not(target_os = "linux"))]
            Err(error) => Err(error),
        }
    }

    pub fn connect(&self) -> io::Result<UnixStream> {
        match &self.0 {
            Location::Folder(folder) => UnixStream::connect(socket_in(folder)),
            #[cfg(target_os = "linux")]
            Location::Abstract(address) => UnixStream::connect_addr(address),
        }
    }

    /// Removes the socket. Connections that exist go on.
    pub fn close(&self) {
        match &self.0 {
            Location::Folder(folder) => remove(folder),
            #[cfg(target_os = "linux")]
            Location::Abstract(_) => {}
        }
    }
}

impl Drop for PrivateSocket {
    fn drop(&mut self) {
        self.close();
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("http")
}

fn remove(folder: &Path) {
    // If it cannot be removed, it does no harm.
    let _ = fs::remove_file(socket_in(folder));
    let _ = fs::remove_dir(folder);
}

fn listen_in_folder(parent: &Path) -> io::Result<(PrivateSocket, UnixListener)> {
    remove_left_behind(parent);
    let folder = parent.join(format!("{PREFIX}{}", random::word()?));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let private = PrivateSocket(Location::Folder(folder.clone()));
    let listener = UnixListener::bind(socket_in(&folder))?;
    Ok((private, listener))
}

/// Removes the sockets of brokers that were killed.
fn remove_left_behind(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_ours && is_left_behind(&entry.path()) {
            remove(&entry.path());
        }
    }
}

fn is_left_behind(folder: &Path) -> bool {
    let socket = socket_in(folder);
    let ours = fs::symlink_metadata(folder)
        .and_then(|folder| {
            let socket = fs::symlink_metadata(&socket)?;
            let old = folder
                .modified()?
                .elapsed()
                .is_ok_and(|age| age > LEFT_BEHIND);
            Ok(old && folder.is_dir() && socket.file_type().is_socket())
        })
        .unwrap_or(false);
    ours && UnixStream::connect(&socket)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(target_os = "linux")]
fn listen_abstract() -> io::Result<(PrivateSocket, UnixListener)> {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("{PREFIX}{}", random::word()?);
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    Ok((PrivateSocket(Location::Abstract(address)), listener))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A folder that is removed at the end of the test.
    struct Parent(PathBuf);

    impl Parent {
        fn new() -> Parent {
            let path = std::env::temp_dir().join(format!("private-{}", random::word().unwrap()));
            fs::create_dir(&path).unwrap();
            Parent(path)
        }

        fn entries(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        }
    }

    impl Drop for Parent {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn only_the_user_may_enter_the_folder_and_it_is_removed() {
        let parent = Parent::new();
        let (private, listener) = listen_in_folder(&parent.0).unwrap();
        let folder = parent.entries().remove(0);
        assert_eq!(
            fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
        private.connect().unwrap();
        drop((private, listener));
        assert!(parent.entries().is_empty());
    }

    #[test]
    fn only_sockets_of_killed_brokers_are_removed() {
        let parent = Parent::new();
        let killed = listen_in_folder(&parent.0).unwrap();
        std::mem::forget(killed.0);
        drop(killed.1);
        let long_ago = std::time::SystemTime::now() - 2 * LEFT_BEHIND;
        let folder = fs::File::open(parent.entries().remove(0)).unwrap();
        folder.set_modified(long_ago).unwrap();
        let (alive, _listener) = listen_in_folder(&parent.0).unwrap();
        assert_eq!(parent.entries().len(), 1);
        fs::create_dir(parent.0.join(format!("{PREFIX}other"))).unwrap();
        let _another = listen_in_folder(&parent.0).unwrap();
        assert_eq!(parent.entries().len(), 3);
        alive.connect().unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_abstract_name_needs_no_folder() {
        assert!(listen_in_folder(Path::new("/nowhere")).is_err());
        let (private, listener) = listen_abstract().unwrap();
        private.connect().unwrap();
        drop(listener);
        assert!(private.connect().is_err());
    }
}
