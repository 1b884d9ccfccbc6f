//! Snapshots on their way in: received or fetched into a file of the data
//! directory, checked, and made a collection.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_index::{Database, Error};
use sha2::{Digest, Sha256};

use crate::error::{ApiError, ApiResult};

/// A snapshot that is being received; its file goes away with it.
pub(crate) struct Incoming {
    file: Temporary,
    out: File,
    digest: Sha256,
}

/// A snapshot that is here as a whole.
pub(crate) enum Source {
    Received(Incoming),
    /// A file or a folder that stays where it is.
    Here(PathBuf),
}

struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn failed(error: &std::io::Error) -> ApiError {
    ApiError::internal(format!("the snapshot cannot be kept: {error}"))
}

impl Incoming {
    pub(crate) fn new(db: &Database) -> ApiResult<Self> {
        let folder = db.path().join("incoming");
        std::fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
        let path = folder.join(uuid::Uuid::new_v4().to_string());
        let out = File::create(&path).map_err(|error| failed(&error))?;
        Ok(Self { file: Temporary(path), out, digest: Sha256::new() })
    }

    /// Takes the next bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> ApiResult<()> {
        self.digest.update(bytes);
        self.out.write_all(bytes).map_err(|error| failed(&error))
    }

    /// Makes a collection of it, in place of one of this name.
    pub(crate) fn restore(self, db: &Database, name: &str, checksum: Option<&str>) -> ApiResult<bool> {
        check(checksum, self.digest)?;
        restore(db, name, &self.file.0)
    }
}

impl Source {
    pub(crate) fn restore(self, db: &Database, name: &str, checksum: Option<&str>) -> ApiResult<bool> {
        match self {
            Self::Received(incoming) => incoming.restore(db, name, checksum),
            Self::Here(path) => {
                if checksum.is_some() {
                    check(checksum, digest_of(&path)?)?;
                }
                restore(db, name, &path)
            }
        }
    }
}

fn digest_of(path: &Path) -> ApiResult<Sha256> {
    let unreadable = |error: std::io::Error| ApiError::bad_request(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(unreadable)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(digest),
            read => digest.update(&buffer[..read]),
        }
    }
}

fn check(checksum: Option<&str>, digest: Sha256) -> ApiResult<()> {
    let Some(want) = checksum else { return Ok(()) };
    let got: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if want.eq_ignore_ascii_case(&got) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!("Snapshot checksum mismatch: expected {want}, got {got}")))
}

fn restore(db: &Database, name: &str, path: &Path) -> ApiResult<bool> {
    match db.restore(name, path) {
        Ok(_) => Ok(true),
        // What is wrong with a snapshot is wrong with the request.
        Err(error @ (Error::Corrupt { .. } | Error::NewerFormat { .. } | Error::Io { .. })) => {
            let text = format!("the snapshot cannot be restored: {}", crate::error::with_causes(&error));
            Err(ApiError::bad_request(text))
        }
        Err(error) => Err(error.into()),
    }
}

/// What a location names: a file here, or one to be fetched.
pub(crate) fn from(location: &str, key: Option<&str>, db: &Database) -> ApiResult<Source> {
    if let Some(path) = location.strip_prefix("file://") {
        let path = PathBuf::from(path);
        if !path.exists() {
            return Err(ApiError::bad_request(format!("Snapshot file {} does not exist", path.display())));
        }
        return Ok(Source::Here(path));
    }
    if location.starts_with("http://") || location.starts_with("https://") {
        return fetch(location, key, db).map(Source::Received);
    }
    Err(ApiError::bad_request(format!(
        "`{location}` is not a location: it begins with http, https or file://"
    )))
}

/// Silence after which a download is given up.
const PATIENCE: Duration = Duration::from_secs(30);

fn fetch(url: &str, key: Option<&str>, db: &Database) -> ApiResult<Incoming> {
    let cannot = |error: &dyn std::fmt::Display| {
        ApiError::bad_request(format!("the snapshot cannot be fetched from {url}: {error}"))
    };
    let config =
        ureq::Agent::config_builder().timeout_connect(Some(PATIENCE)).timeout_recv_response(Some(PATIENCE));
    let mut request = config.build().new_agent().get(url);
    if let Some(key) = key {
        request = request.header("api-key", key);
    }
    let mut response = request.call().map_err(|error| cannot(&error))?;
    let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut incoming = Incoming::new(db)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match body.read(&mut buffer).map_err(|error| cannot(&error))? {
            0 => return Ok(incoming),
            read => incoming.take(&buffer[..read])?,
        }
    }
}
