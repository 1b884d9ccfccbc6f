//! One request to a service and its answer, sent again after a while where
//! that may help. This is where it is spoken to; the key goes nowhere else.

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use ureq::Agent;

use super::pace::{Not, Pace};
use super::{Protocol, RemoteOptions, wire};
use crate::{Error, Result};

/// The longest answer that is read.
const MAX_ANSWER: u64 = 256 << 20;

/// Time to be connected.
const CONNECT: Duration = Duration::from_secs(10);

/// The first wait before a request is sent again; each further one is twice as
/// long, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(20);

pub(super) struct Client {
    agent: Agent,
    name: String,
    endpoint: String,
    key_env: String,
    pace: Pace,
    timeout: Duration,
    give_up: Duration,
    retries: u32,
}

/// An answer as it came.
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    /// The tokens that its head tells.
    pub(super) tokens: Option<usize>,
}

/// Why there is no answer.
struct Refusal {
    status: Option<u16>,
    reason: String,
    /// Whether it may go well later.
    again: bool,
    /// How long the service asks to wait.
    wait: Option<Duration>,
}

impl Client {
    pub(super) fn new(options: &RemoteOptions) -> Client {
        let agent = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .new_agent();
        let path = match options.protocol {
            Protocol::OpenAi => "/embeddings",
            Protocol::Tei => "/embed",
        };
        let base = options.url.trim_end_matches('/');
        let base = base.strip_suffix(path).unwrap_or(base);
        Client {
            agent,
            name: options.name.clone(),
            endpoint: format!("{base}{path}"),
            key_env: options.api_key_env.clone(),
            pace: Pace::new(options.in_flight, options.requests_per_minute),
            timeout: Duration::from_millis(options.timeout_ms),
            give_up: Duration::from_millis(options.give_up_ms),
            retries: options.retries,
        }
    }

    /// A failure of this service.
    pub(super) fn failed(&self, status: Option<u16>, reason: String) -> Error {
        Error::Remote { model: self.name.clone(), url: self.endpoint.clone(), status, reason }
    }

    /// Sends a request until it is answered, cannot be, or its time is up.
    /// Urgent ones overtake others; once `going` says no, nothing is begun.
    pub(super) fn post(&self, body: &Value, urgent: bool, going: &dyn Fn() -> bool) -> Result<Sent> {
        let until = Instant::now() + self.give_up;
        let mut last: Option<Refusal> = None;
        let mut tried = 0;
        loop {
            let permit = self.pace.enter(urgent, going, until).map_err(|not| match not {
                Not::Wanted => Error::Cancelled,
                Not::InTime => {
                    let waited = format!("there was no answer within {} ms", self.give_up.as_millis());
                    let (status, reason) = match last.take() {
                        Some(last) => (last.status, format!("{waited}, last: {}", last.reason)),
                        None => (None, format!("{waited}, other requests being on their way")),
                    };
                    self.failed(status, reason)
                }
            })?;
            let left = until.saturating_duration_since(Instant::now());
            let refusal = match self.send(body, left.min(self.timeout)) {
                Ok(sent) => return Ok(sent),
                Err(refusal) => refusal,
            };
            drop(permit);
            if !refusal.again || tried >= self.retries {
                let times = if tried == 0 { String::new() } else { format!(" ({} times tried)", tried + 1) };
                return Err(self.failed(refusal.status, refusal.reason + &times));
            }
            let wait = refusal.wait.unwrap_or_else(|| usual(tried));
            let then = Instant::now() + wait;
            if then >= until {
                let asks = if refusal.wait.is_some() { "it asks to wait" } else { "the next try is in" };
                let reason = format!(
                    "{}; {asks} {:.1} s, and {} ms is all a request has",
                    refusal.reason,
                    wait.as_secs_f32(),
                    self.give_up.as_millis()
                );
                return Err(self.failed(refusal.status, reason));
            }
            tracing::debug!(model = self.name, reason = refusal.reason, ?wait, "asking again");
            if refusal.status == Some(429) || refusal.wait.is_some() {
                // What one was told holds for all.
                self.pace.hold(then);
            } else {
                sleep(then, going)?;
            }
            last = Some(refusal);
            tried += 1;
        }
    }

    fn send(&self, body: &Value, timeout: Duration) -> Result<Sent, Refusal> {
        let key = Some(&self.key_env).filter(|name| !name.is_empty()).map(|name| {
            std::env::var(name).ok().filter(|key| !key.is_empty()).ok_or_else(|| Refusal {
                status: None,
                reason: format!("the environment variable `{name}`, which should hold its key, is not set"),
                again: false,
                wait: None,
            })
        });
        let key = key.transpose()?;
        let mut request = self.agent.post(&self.endpoint);
        if let Some(key) = &key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.config().timeout_global(Some(timeout)).build();
        let lost = |error: &ureq::Error| Refusal {
            status: None,
            reason: told(error, timeout),
            again: passes(error),
            wait: None,
        };
        let mut response = request.send_json(body).map_err(|error| lost(&error))?;
        let status = response.status();
        let head = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let wait = head("retry-after").and_then(|value| asked(value, SystemTime::now()));
        let tokens = head("x-compute-tokens").and_then(|value| value.parse().ok());
        let read = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        let status = status.as_u16();
        if !(200..300).contains(&status) {
            let mut text = wire::complaint(&read.unwrap_or_default());
            if let Some(key) = &key {
                text = text.replace(key.as_str(), "…");
            }
            let reason = format!("status {status}{}{text}", if text.is_empty() { "" } else { ": " });
            let again = matches!(status, 408 | 425 | 429) || (status >= 500 && status != 501);
            return Err(Refusal { status: Some(status), reason, again, wait });
        }
        Ok(Sent { bytes: read.map_err(|error| lost(&error))?, tokens })
    }
}

fn told(error: &ureq::Error, timeout: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("it did not answer within {} ms", timeout.as_millis()),
        error => error.to_string(),
    }
}

/// Whether what went wrong may pass.
fn passes(error: &ureq::Error) -> bool {
    use ureq::Error;
    matches!(
        error,
        Error::Io(_) | Error::Timeout(_) | Error::HostNotFound | Error::ConnectionFailed | Error::Protocol(_)
    )
}

/// How long to wait before the try after `tried` others, the more the longer,
/// and not as long as everybody else.
fn usual(tried: u32) -> Duration {
    let wait = (FIRST_WAIT * 2u32.pow(tried.min(10))).min(LONGEST_WAIT);
    wait.mul_f64(0.5 + 0.5 * fastrand::f64())
}

/// What `Retry-After` asks for: seconds, or a date.
fn asked(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// Waits until then, unless it is no longer wanted.
fn sleep(until: Instant, going: &dyn Fn() -> bool) -> Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !going() {
            return Err(Error::Cancelled);
        }
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Client, FIRST_WAIT, LONGEST_WAIT, asked, usual};
    use crate::remote::{Protocol, RemoteOptions};

    #[test]
    fn a_service_may_ask_for_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(asked(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(asked("0.5", now), Some(Duration::from_millis(500)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:07 GMT", now), Some(Duration::ZERO));
        assert_eq!((asked("-1", now), asked("soon", now)), (None, None));
    }

    #[test]
    fn waits_grow_up_to_the_longest() {
        for tried in 0..40 {
            let most = (FIRST_WAIT * 2u32.pow(tried.min(10))).min(LONGEST_WAIT);
            let wait = usual(tried);
            assert!(wait <= most && wait >= most / 2, "{tried}: {wait:?}");
        }
    }

    #[test]
    fn an_address_is_a_base_or_the_whole() {
        let endpoint = |url: &str, protocol| {
            let options = RemoteOptions { url: url.into(), protocol, ..RemoteOptions::default() };
            Client::new(&options).endpoint
        };
        for url in ["http://a/v1", "http://a/v1/", "http://a/v1/embeddings"] {
            assert_eq!(endpoint(url, Protocol::OpenAi), "http://a/v1/embeddings");
        }
        assert_eq!(endpoint("http://a", Protocol::Tei), "http://a/embed");
    }
}
