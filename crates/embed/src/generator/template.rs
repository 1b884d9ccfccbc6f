//! A conversation as the text a model was trained to continue.
//!
//! The template is the model's own: of the GGUF file, or of the files beside it.
//! It is a program by whoever made the file, so it runs with a limit of steps and
//! reaches nothing but what it is given.

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;

use super::gguf::Gguf;
use crate::{Error, Result};

/// Steps of a template: far more than a long conversation takes.
const STEPS: u64 = 5_000_000;

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// Whose it is: `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl ChatMessage {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> ChatMessage {
        ChatMessage { role: role.into(), content: content.into() }
    }
}

pub(super) struct Template {
    environment: Environment<'static>,
    /// None where no file has one: then names and texts, line by line.
    source: Option<String>,
    path: PathBuf,
    begin: String,
    end: String,
}

impl Template {
    /// The template of a model whose texts begin and end with these tokens.
    pub(super) fn load(gguf: &Gguf, (begin, end): (String, String)) -> Result<Template> {
        let (source, path) = match gguf.optional_text("tokenizer.chat_template")? {
            Some(source) => (Some(source.to_owned()), gguf.path().to_owned()),
            None => beside(gguf.path())?,
        };
        let template = Template { environment: environment()?, source, path, begin, end };
        if let Some(source) = &template.source {
            let parsed = template.environment.template_from_str(source);
            parsed.map_err(|error| template.unusable(&error))?;
        }
        Ok(template)
    }

    /// The prompt of a conversation, up to where the answer begins.
    pub(super) fn render(&self, messages: &[ChatMessage]) -> Result<String> {
        let Some(source) = &self.source else { return Ok(lines(messages)) };
        self.apply(source, messages).or_else(|error| {
            // Some models have no turn of the system.
            match without_system(messages) {
                Some(messages) => self.apply(source, &messages).map_err(|_| self.unusable(&error)),
                None => Err(self.unusable(&error)),
            }
        })
    }

    fn apply(&self, source: &str, messages: &[ChatMessage]) -> Result<String, minijinja::Error> {
        let given = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => true,
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
            // Models that can think aloud answer at once.
            enable_thinking => false,
            tools => (),
            documents => (),
        };
        self.environment.render_str(source, given)
    }

    fn unusable(&self, error: &minijinja::Error) -> Error {
        let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
        Error::ChatTemplate { path: self.path.clone(), reason: format!("{line}{error}") }
    }
}

fn environment() -> Result<Environment<'static>> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    let mut environment = Environment::new();
    environment.set_syntax(syntax.map_err(|error| Error::Compute { reason: error.to_string() })?);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.set_fuel(Some(STEPS));
    environment.add_function("raise_exception", |reason: String| -> Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
    });
    Ok(environment)
}

/// The template in the files beside a model, and the file.
fn beside(model: &Path) -> Result<(Option<String>, PathBuf)> {
    let path = model.with_file_name("chat_template.jinja");
    if path.is_file() {
        let source = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        return Ok((Some(source), path));
    }
    let path = model.with_file_name("tokenizer_config.json");
    if !path.is_file() {
        return Ok((None, model.to_owned()));
    }
    let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
    let config: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.clone(), source })?;
    let found = match &config["chat_template"] {
        // Several by name: that without a purpose of its own.
        serde_json::Value::Array(several) => several
            .iter()
            .find(|one| one["name"] == "default")
            .or_else(|| several.first())
            .and_then(|one| one["template"].as_str()),
        one => one.as_str(),
    };
    Ok((found.map(str::to_owned), path))
}

/// What the system says put before what the user says first.
fn without_system(messages: &[ChatMessage]) -> Option<Vec<ChatMessage>> {
    let (system, rest) = messages.split_first().filter(|(first, _)| first.role == "system")?;
    let mut rest = rest.to_vec();
    let user = rest.iter_mut().find(|message| message.role == "user")?;
    user.content = format!("{}\n\n{}", system.content, user.content);
    Some(rest)
}

/// For models without a template.
fn lines(messages: &[ChatMessage]) -> String {
    let line = |message: &ChatMessage| format!("{}: {}\n\n", message.role, message.content);
    let turns: String = messages.iter().map(line).collect();
    format!("{turns}assistant:")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{%- for message in messages %}
        {{- '<|im_start|>' + message.role + '\\n' + message['content'].strip() + '<|im_end|>' + '\\n' }}
    {%- endfor %}
    {%- if add_generation_prompt %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if enable_thinking is defined and not enable_thinking %}{{- '<think></think>' }}{%- endif %}
    {%- endif %}";

    const ALTERNATING: &str = "{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('turns must alternate') }}
{% endif %}
{% if message.role == 'user' %}[INST] {{ message.content }} [/INST]{% else %}{{ message.content }}{{ eos_token }}{% endif %}
{% endfor %}";

    fn template(source: Option<&str>) -> Template {
        Template {
            environment: environment().unwrap(),
            source: source.map(str::to_owned),
            path: PathBuf::from("model.gguf"),
            begin: "<s>".into(),
            end: "</s>".into(),
        }
    }

    fn said() -> Vec<ChatMessage> {
        vec![ChatMessage::new("system", "Be short."), ChatMessage::new("user", " Why? ")]
    }

    #[test]
    fn methods_of_python_and_trimmed_blocks_work_as_models_expect() {
        let want = "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n\
            <|im_start|>assistant\n<think></think>";
        assert_eq!(template(Some(CHATML)).render(&said()).unwrap(), want);
    }

    #[test]
    fn where_the_system_has_no_turn_its_words_go_to_the_user() {
        let rendered = template(Some(ALTERNATING)).render(&said()).unwrap();
        assert_eq!(rendered, "<s>[INST] Be short.\n\n Why?  [/INST]");
    }

    #[test]
    fn a_template_that_refuses_or_never_ends_is_an_error_that_says_so() {
        let twice = [ChatMessage::new("user", "a"), ChatMessage::new("user", "b")];
        let error = template(Some(ALTERNATING)).render(&twice).unwrap_err().to_string();
        assert!(error.contains("turns must alternate") && error.contains("model.gguf"), "{error}");
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
        let error = template(Some(endless)).render(&said()).unwrap_err().to_string();
        assert!(error.contains("fuel"), "{error}");
    }

    #[test]
    fn without_a_template_turns_become_lines() {
        let rendered = template(None).render(&said()).unwrap();
        assert_eq!(rendered, "system: Be short.\n\nuser:  Why? \n\nassistant:");
    }
}
