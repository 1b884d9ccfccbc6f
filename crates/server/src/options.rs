//! How the service listens and what it allows.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// How the service listens and what it allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerOptions {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Largest request body. Bytes.
    pub max_body_bytes: usize,
    /// Time for a request. Milliseconds.
    pub request_timeout_ms: u64,
    /// Requests worked on at once; more are answered 429.
    pub max_concurrent_requests: usize,
    /// Time that open requests get to finish at shutdown. Milliseconds.
    pub shutdown_timeout_ms: u64,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 6333,
            max_body_bytes: 32 << 20,
            request_timeout_ms: 60_000,
            max_concurrent_requests: 256,
            shutdown_timeout_ms: 30_000,
        }
    }
}
