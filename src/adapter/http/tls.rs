//! Whom a client trusts, and who it is itself: read again when the files change, as certificates are replaced while the broker
//! runs.

use crate::adapter::Settings;
use crate::trust;

use rustls::ClientConfig;
use rustls::crypto::ring;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The settings `ca`, `certificate` and `key`.
pub struct Files {
    ca: Option<PathBuf>,
    /// A certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

/// Tells one state of the files from another one.
pub type Stamp = Vec<Option<(SystemTime, u64, u64)>>;

/// Which setting will not do, and why.
pub type Wrong = (&'static str, String);

impl Files {
    /// What is wrong is reported to the settings.
    pub fn read(settings: &Settings<'_>) -> Files {
        let path = |key| Some(settings.folder().join(settings.string(key)?));
        let (ca, certificate, key) = (path("ca"), path("certificate"), path("key"));
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (is_there, _) => {
                let (missing, other) = match is_there {
                    Some(_) => ("key", "certificate"),
                    None => ("certificate", "key"),
                };
                // What will not do was complained about.
                if settings.value(missing).is_none() {
                    settings.error(
                        missing,
                        format!("found nothing beside {other:?}, wanted a file in PEM"),
                    );
                }
                None
            }
        };
        Files { ca, identity }
    }

    /// The first setting that is there.
    pub fn any(&self) -> Option<&'static str> {
        let ca = self.ca.as_ref().map(|_| "ca");
        ca.or(self.identity.as_ref().map(|_| "certificate"))
    }

    /// The files as they are now.
    pub fn stamp(&self) -> Stamp {
        let identity = self
            .identity
            .iter()
            .flat_map(|(certificate, key)| [certificate, key]);
        let stamp = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len(), found.ino()))
        };
        self.ca.iter().chain(identity).map(stamp).collect()
    }

    pub fn client(&self) -> Result<Arc<ClientConfig>, Wrong> {
        let roots = match &self.ca {
            Some(path) => trust::roots(path),
            None => trust::system()
                .map_err(|error| format!("found nothing, and of the system's authorities {error}"))
                .and_then(|path| trust::roots(&path)),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ("ca", error.to_string()))?
            .with_root_certificates(roots.map_err(|error| ("ca", error))?);
        let client = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain =
                    trust::certificates(certificate).map_err(|error| ("certificate", error))?;
                let key_der = trust::key(key).map_err(|error| ("key", error))?;
                let wrong = |error| ("certificate", unfit(certificate, key, &error));
                builder
                    .with_client_auth_cert(chain, key_der)
                    .map_err(wrong)?
            }
        };
        Ok(Arc::new(client))
    }
}

fn unfit(certificate: &Path, key: &Path, error: &rustls::Error) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    format!("{certificate} with the key {key}: {error}")
}
