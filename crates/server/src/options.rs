//! How the service listens and what it allows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize, Serializer};

/// How the service listens and what it allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerOptions {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// The key that allows everything, and that tokens are signed with.
    pub api_key: Option<Secret>,
    /// A key that allows reading.
    pub read_only_api_key: Option<Secret>,
    /// Whether tokens (HS256, signed with `api_key`) are taken too.
    pub tokens: bool,
    /// Listen beyond this machine although there is no key: whoever reaches the
    /// port may read and delete everything.
    pub open_to_all_without_key: bool,
    /// Web pages that may use the service, by origin; `*` for all of them. Pages
    /// of this machine always may.
    pub cors_origins: Vec<String>,
    /// Names that the service is called by. Without any, and without a key, only
    /// addresses and names of this machine, so that no web page reaches it
    /// through a name of its own.
    pub allowed_hosts: Vec<String>,
    /// Largest request body. Bytes.
    pub max_body_bytes: usize,
    /// Time for a request. Milliseconds.
    pub request_timeout_ms: u64,
    /// Requests worked on at once; more are answered 429.
    pub max_concurrent_requests: usize,
    /// Threads that searches run on; 0 is one for each core.
    pub search_threads: usize,
    /// Searches that may wait for a thread; more are answered 429.
    pub max_waiting_searches: usize,
    /// Whether collections that clients create take any string as a point's id,
    /// unless `string_ids` of the request says otherwise.
    pub string_ids: bool,
    /// Time that open requests get to finish at shutdown. Milliseconds.
    pub shutdown_timeout_ms: u64,
    /// Uploads that nobody waits for.
    pub jobs: JobOptions,
}

/// How many uploads may wait for their turn, and how long is known what became
/// of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobOptions {
    /// Uploads that may wait; more are answered 429.
    pub max_waiting: usize,
    /// Bytes of all uploads that wait; more are answered 429.
    pub max_waiting_bytes: u64,
    /// Largest upload. Bytes.
    pub max_upload_bytes: u64,
    /// Jobs that have ended and can still be asked about.
    pub keep: usize,
    /// Days that those can be asked about; 0 is without end.
    pub keep_days: u64,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            max_waiting: 64,
            max_waiting_bytes: 8 << 30,
            max_upload_bytes: 1 << 30,
            keep: 1000,
            keep_days: 7,
        }
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 6333,
            api_key: None,
            read_only_api_key: None,
            tokens: true,
            open_to_all_without_key: false,
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            max_body_bytes: 32 << 20,
            request_timeout_ms: 60_000,
            max_concurrent_requests: 256,
            search_threads: 0,
            max_waiting_searches: 1024,
            string_ids: false,
            shutdown_timeout_ms: 30_000,
            jobs: JobOptions::default(),
        }
    }
}

/// A key. It is never printed: not in logs, not in the settings in force.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The key itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(key: String) -> Self {
        Self(key)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(set)")
    }
}
