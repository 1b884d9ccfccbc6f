//! What is set about a model behind an address.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// How a service is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// `POST {url}/embeddings` as OpenAI has it, and many others after it.
    #[default]
    OpenAi,
    /// `POST {url}/embed` of text-embeddings-inference.
    Tei,
}

/// A model behind an address, and how it is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteOptions {
    /// What the model is called here.
    pub name: String,
    /// Base address, for example `https://api.openai.com/v1` or, for TEI,
    /// `http://127.0.0.1:8080`.
    pub url: String,
    /// How it is asked.
    pub protocol: Protocol,
    /// What the model is called there; empty: as here.
    pub model: String,
    /// Name of the environment variable that holds the key; empty: none is sent.
    pub api_key_env: String,
    /// Length of the vectors to ask for; 0 leaves it to the service.
    pub dimensions: usize,
    /// Tokens the model reads of a text; longer ones are cut there. Estimated.
    pub max_tokens: usize,
    /// What is put before a text that is looked for.
    pub query_prompt: String,
    /// What is put before a text that is to be found.
    pub passage_prompt: String,
    /// Further fields of a request whose texts are looked for, for example
    /// `input_type`.
    pub query_fields: Map<String, Value>,
    /// The same for texts that are to be found.
    pub passage_fields: Map<String, Value>,
    /// Texts of a request at most.
    pub batch_texts: usize,
    /// Tokens of a request at most. Estimated.
    pub batch_tokens: usize,
    /// Requests on their way at once.
    pub in_flight: usize,
    /// Requests that are begun in a minute at most; 0 is no limit.
    pub requests_per_minute: usize,
    /// Time for one request and its answer. Milliseconds.
    pub timeout_ms: u64,
    /// How often a request is sent again that failed for a while.
    pub retries: u32,
    /// Time for a batch, with all waiting and sending again. Milliseconds.
    pub give_up_ms: u64,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        RemoteOptions {
            name: String::new(),
            url: String::new(),
            protocol: Protocol::OpenAi,
            model: String::new(),
            api_key_env: String::new(),
            dimensions: 0,
            max_tokens: 512,
            query_prompt: String::new(),
            passage_prompt: String::new(),
            query_fields: Map::new(),
            passage_fields: Map::new(),
            batch_texts: 32,
            batch_tokens: 16_384,
            in_flight: 4,
            requests_per_minute: 0,
            timeout_ms: 30_000,
            retries: 4,
            give_up_ms: 60_000,
        }
    }
}

impl RemoteOptions {
    /// Whether they can be used.
    ///
    /// # Errors
    /// [`Error::Option`] names the first that cannot.
    pub fn check(&self) -> Result<()> {
        let refuse = |option, value: &dyn ToString, want| {
            Err(Error::Option { option, value: value.to_string(), want })
        };
        if self.name.trim().is_empty() {
            return refuse("models.remote.name", &"empty", "what the model is called");
        }
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return refuse("models.remote.url", &self.url, "an address that begins with http:// or https://");
        }
        for (option, value) in [
            ("models.remote.max_tokens", self.max_tokens),
            ("models.remote.batch_texts", self.batch_texts),
            ("models.remote.batch_tokens", self.batch_tokens),
            ("models.remote.in_flight", self.in_flight),
            ("models.remote.timeout_ms", self.timeout_ms as usize),
            ("models.remote.give_up_ms", self.give_up_ms as usize),
        ] {
            if value == 0 {
                return refuse(option, &value, "1 or more");
            }
        }
        Ok(())
    }

    /// What the model is called there.
    pub(super) fn model(&self) -> &str {
        if self.model.is_empty() { &self.name } else { &self.model }
    }
}

#[cfg(test)]
mod tests {
    use super::RemoteOptions;
    use crate::Error;

    #[test]
    fn options_that_cannot_be_used_are_named() {
        let refused = |change: fn(&mut RemoteOptions)| {
            let mut options = RemoteOptions {
                name: "far".into(),
                url: "http://127.0.0.1:9".into(),
                ..RemoteOptions::default()
            };
            change(&mut options);
            match options.check().err() {
                Some(Error::Option { option, .. }) => option,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(|options| options.name.clear()), "models.remote.name");
        assert_eq!(refused(|options| options.url = "localhost".into()), "models.remote.url");
        assert_eq!(refused(|options| options.in_flight = 0), "models.remote.in_flight");
        assert_eq!(refused(|options| options.batch_texts = 0), "models.remote.batch_texts");
    }
}
