//! The configuration: defaults compiled in, overridden by a file, then by
//! `CAIRN__…` variables, then by flags. A key that does not exist is an error.

use std::path::{Path, PathBuf};

use cairn_index::Options as IndexOptions;
use cairn_rag::{ModelOptions, RagOptions};
use cairn_server::ServerOptions;
use config::{Config, Environment, File, FileFormat};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The defaults, with what every key means.
pub(crate) const DEFAULTS: &str = include_str!("../../../config/cairn.toml");

/// All settings. Each part belongs to the crate that uses it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) log: LogOptions,
    pub(crate) server: ServerOptions,
    pub(crate) index: IndexOptions,
    pub(crate) models: ModelOptions,
    pub(crate) rag: RagOptions,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("cairn-data"),
            log: LogOptions::default(),
            server: ServerOptions::default(),
            index: IndexOptions::default(),
            models: ModelOptions::default(),
            rag: RagOptions::default(),
        }
    }
}

/// What is logged, on standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogOptions {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            level: "warn,cairn=info,cairn_server=info,cairn_rag=info,cairn_index=info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Settings {
    /// Defaults, then the file, then the environment.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let environment =
            Environment::with_prefix("CAIRN").prefix_separator("__").separator("__").try_parsing(true);
        Self::from_sources(file, environment)
    }

    fn from_sources(file: Option<&Path>, environment: Environment) -> Result<Self, Failure> {
        let mut builder = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(file) = file {
            builder = builder.add_source(File::from(file).format(FileFormat::Toml));
        }
        let settings = builder.add_source(environment).build().and_then(Config::try_deserialize);
        let settings: Self = settings.map_err(|error| Failure::Settings(error.to_string()))?;
        settings.models.check().map_err(|error| Failure::Settings(error.to_string()))?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn with_env(variables: &[(&str, &str)]) -> Result<Settings, Failure> {
        let variables: HashMap<String, String> =
            variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let environment = Environment::with_prefix("CAIRN")
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .source(Some(variables));
        Settings::from_sources(None, environment)
    }

    fn as_json(settings: &Settings) -> serde_json::Value {
        serde_json::to_value(settings).unwrap()
    }

    #[test]
    fn the_file_of_defaults_says_what_the_code_does() {
        assert_eq!(as_json(&with_env(&[]).unwrap()), as_json(&Settings::default()));
    }

    #[test]
    fn the_file_of_defaults_names_every_key_with_a_value_or_as_unset() {
        fn check(prefix: &str, value: &serde_json::Value) {
            for (key, value) in value.as_object().unwrap() {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                if let Some(section) = value.as_object() {
                    let has_keys = section.values().any(|value| !value.is_object());
                    assert!(
                        !has_keys || DEFAULTS.contains(&format!("[{path}]")),
                        "section {path} is missing"
                    );
                    check(&path, value);
                } else {
                    let set = format!("\n{key} = ");
                    let unset = format!("\n# {key} = ");
                    assert!(DEFAULTS.contains(&set) || DEFAULTS.contains(&unset), "key {path} is missing");
                }
            }
        }
        check("", &as_json(&Settings::default()));
    }

    #[test]
    fn the_environment_overrides_and_keeps_kinds() {
        let settings = with_env(&[
            ("CAIRN__SERVER__PORT", "7000"),
            ("CAIRN__DATA_DIR", "/data"),
            ("CAIRN__RAG__GENERATOR__MODEL", "123"),
            ("CAIRN__RAG__EXTRACT__MIN_CONFIDENCE", "0.7"),
        ])
        .unwrap();
        assert_eq!(settings.server.port, 7000);
        assert_eq!(settings.data_dir, Path::new("/data"));
        assert_eq!(settings.rag.generator.model, "123");
        assert!((settings.rag.extract.min_confidence - 0.7).abs() < f32::EPSILON);
    }

    #[test]
    fn a_key_that_does_not_exist_is_named() {
        let error = with_env(&[("CAIRN__SERVER__PROT", "7000")]).unwrap_err().to_string();
        assert!(error.contains("prot"), "{error}");
    }

    #[test]
    fn models_behind_addresses_are_read_and_checked() {
        let dir = std::env::temp_dir().join(format!("cairn-remotes-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("cairn.toml");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Settings::from_sources(Some(&file), Environment::with_prefix("CAIRN_TEST_NONE"))
        };
        let one = "[[models.remote]]\nname = \"Org/far-1.5\"\nurl = \"http://127.0.0.1:1\"\nprotocol = \"tei\"\n\
                   query_fields = { input_type = \"query\" }\n";
        let [remote] = &load(one).unwrap().models.remote[..] else { panic!("one model") };
        assert_eq!((&remote.name[..], remote.batch_texts), ("Org/far-1.5", 32));
        assert_eq!(remote.query_fields["input_type"], "query");
        let error = load(&one.repeat(2)).unwrap_err().to_string();
        assert!(error.contains("another one for each model"), "{error}");
        let error = load("[[models.remote]]\nname = \"far\"\n").unwrap_err().to_string();
        assert!(error.contains("models.remote.url"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_overrides_the_defaults_and_its_mistakes_are_named() {
        let dir = std::env::temp_dir().join(format!("cairn-settings-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("cairn.toml");
        std::fs::write(&file, "[server]\nport = 1234\n").unwrap();
        let load = || Settings::from_sources(Some(&file), Environment::with_prefix("CAIRN_TEST_NONE"));
        assert_eq!(load().unwrap().server.port, 1234);
        std::fs::write(&file, "[index]\nindexing_treshold = 5\n").unwrap();
        let error = load().unwrap_err().to_string();
        assert!(error.contains("indexing_treshold"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
