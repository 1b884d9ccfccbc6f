//! A model behind an address: an OpenAI-compatible service, or
//! text-embeddings-inference (TEI).
//!
//! Texts go there in batches, several requests at a time and no more than the
//! service is to bear (`pace`); what fails for a while is sent again
//! (`client`). How long vectors are is learned from the first answer, and every
//! later one must agree. Which requests and answers the services understand is
//! in `wire`. There is no tokenizer here: tokens of a text are estimated
//! (`estimate`), those that were fed are what the service says, if it does.

mod client;
mod estimate;
mod options;
mod pace;
mod wire;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use self::client::Client;
pub use self::options::{Protocol, RemoteOptions};
use self::wire::{Answer, Item};
use crate::{Cancel, Embeddings, Error, Input, Result, TextKind};

/// A model behind an address.
///
/// It can be shared between threads; calls at the same time share its limits.
pub struct Remote {
    options: RemoteOptions,
    client: Client,
    dim: OnceLock<usize>,
}

/// A call with at most this many tokens is short: it overtakes others.
const SHORT_TOKENS: usize = 256;

impl Remote {
    /// A model as the options have it. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Option`] for options that cannot be used.
    pub fn new(options: RemoteOptions) -> Result<Remote> {
        options.check()?;
        let client = Client::new(&options);
        Ok(Remote { options, client, dim: OnceLock::new() })
    }

    /// The address of the service.
    pub fn url(&self) -> &str {
        &self.options.url
    }

    /// The dimensions of a vector. Where no answer has told yet, one is asked
    /// for.
    ///
    /// # Errors
    /// Those of [`Remote::embed_inputs`].
    pub fn dim(&self) -> Result<usize> {
        if let Some(&dim) = self.dim.get() {
            return Ok(dim);
        }
        let found = self.embed_inputs(&[Input::Text("dimensions")], TextKind::Query, &Cancel::new())?;
        Ok(found.vectors[0].len())
    }

    /// The tokens of a text the model reads.
    pub fn max_tokens(&self) -> usize {
        self.options.max_tokens
    }

    /// About how many tokens a text has.
    pub fn count_tokens(&self, text: &str) -> usize {
        estimate::tokens(text.trim())
    }

    /// About how many tokens an input has, its prompt included.
    pub fn input_tokens(&self, input: &Input<'_>, kind: TextKind) -> usize {
        match input {
            Input::Text(text) | Input::End(text) => {
                estimate::tokens(self.prompt(kind)) + self.count_tokens(text)
            }
            Input::Ids(ids) => ids.len(),
        }
    }

    /// The vectors of texts, or of token ids of that model's own tokenizer, in
    /// their order. Texts beyond the limit of tokens are cut, by an estimate.
    ///
    /// # Errors
    /// [`Error::Remote`] when the service cannot be reached, refuses, or
    /// answers what it should not; [`Error::Cancelled`].
    pub fn embed_inputs(&self, inputs: &[Input<'_>], kind: TextKind, cancel: &Cancel) -> Result<Embeddings> {
        let items: Vec<Item<'_>> = inputs.iter().map(|input| self.item(input, kind)).collect();
        let tokens: Vec<usize> = items.iter().map(Item::tokens).collect();
        let urgent = tokens.iter().sum::<usize>() <= SHORT_TOKENS;
        let batches = self.plan(&items, &tokens);
        let answers = match &batches[..] {
            [] => Vec::new(),
            [only] => vec![self.batch(&items[only.clone()], kind, urgent, &|| !cancel.is_cancelled())?],
            several => self.at_once(&items, several, kind, cancel)?,
        };
        let mut found = Embeddings { vectors: Vec::with_capacity(items.len()), tokens: 0 };
        for answer in answers {
            found.tokens += answer.tokens;
            found.vectors.extend(answer.vectors);
        }
        Ok(found)
    }

    fn prompt(&self, kind: TextKind) -> &str {
        match kind {
            TextKind::Query => &self.options.query_prompt,
            TextKind::Passage => &self.options.passage_prompt,
        }
    }

    /// An input as it is sent: with its prompt, and cut.
    fn item<'a>(&self, input: &Input<'a>, kind: TextKind) -> Item<'a> {
        let prompt = self.prompt(kind);
        let room = self.options.max_tokens.saturating_sub(estimate::tokens(prompt)).max(1);
        match input {
            Input::Text(text) => Item::Text(format!("{prompt}{}", estimate::start(text.trim(), room))),
            Input::End(text) => Item::Text(format!("{prompt}{}", estimate::end(text.trim(), room))),
            Input::Ids(ids) => Item::Ids(&ids[..ids.len().min(self.options.max_tokens)]),
        }
    }

    /// Which inputs go together: texts or ids, in the order they came in.
    fn plan(&self, items: &[Item<'_>], tokens: &[usize]) -> Vec<Range<usize>> {
        let (mut batches, mut from, mut sum) = (Vec::new(), 0, 0);
        for (at, (item, tokens)) in items.iter().zip(tokens).enumerate() {
            let full = at - from >= self.options.batch_texts || sum + tokens > self.options.batch_tokens;
            if at > from && (full || item.is_text() != items[from].is_text()) {
                batches.push(from..at);
                (from, sum) = (at, 0);
            }
            sum += tokens;
        }
        if from < items.len() {
            batches.push(from..items.len());
        }
        batches
    }

    /// Sends batches from several threads. The first failure ends all.
    fn at_once(
        &self,
        items: &[Item<'_>],
        batches: &[Range<usize>],
        kind: TextKind,
        cancel: &Cancel,
    ) -> Result<Vec<Answer>> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let answers: Mutex<Vec<Option<Result<Answer>>>> =
            Mutex::new(std::iter::repeat_with(|| None).take(batches.len()).collect());
        let going = || !cancel.is_cancelled() && !failed.load(Ordering::Relaxed);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(at) else { break };
                let answer = self.batch(&items[batch.clone()], kind, false, &going);
                failed.fetch_or(answer.is_err(), Ordering::Relaxed);
                answers.lock().expect("nothing panics under this lock")[at] = Some(answer);
                if !going() {
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.options.in_flight.min(batches.len()) {
                scope.spawn(work);
            }
        });
        let answers = answers.into_inner().expect("nothing panics under this lock");
        let mut answers: Vec<Result<Answer>> =
            answers.into_iter().map(|answer| answer.unwrap_or(Err(Error::Cancelled))).collect();
        // What ended the others is told, not that they were ended by it.
        match answers.iter().position(|answer| matches!(answer, Err(error) if !error.is_cancelled())) {
            Some(cause) => answers.swap_remove(cause).map(|one| vec![one]),
            None => answers.into_iter().collect(),
        }
    }

    /// The answer to one batch, which is halved where the service finds it too
    /// large.
    fn batch(
        &self,
        items: &[Item<'_>],
        kind: TextKind,
        urgent: bool,
        going: &dyn Fn() -> bool,
    ) -> Result<Answer> {
        let fields = match kind {
            TextKind::Query => &self.options.query_fields,
            TextKind::Passage => &self.options.passage_fields,
        };
        let body = wire::body(&self.options, items, fields);
        let sent = self.client.post(&body, urgent, going);
        let answer = match sent {
            Err(Error::Remote { status: Some(413), .. }) if items.len() > 1 => {
                let (first, rest) = items.split_at(items.len() / 2);
                let mut answer = self.batch(first, kind, urgent, going)?;
                let rest = self.batch(rest, kind, urgent, going)?;
                answer.vectors.extend(rest.vectors);
                answer.tokens += rest.tokens;
                return Ok(answer);
            }
            sent => sent?,
        };
        let wrong = |reason: String| self.client.failed(None, reason);
        let answer = wire::answer(self.options.protocol, &answer, items).map_err(wrong)?;
        for vector in &answer.vectors {
            let want = *self.dim.get_or_init(|| match self.options.dimensions {
                0 => vector.len(),
                asked => asked,
            });
            if vector.len() != want {
                let got = vector.len();
                return Err(wrong(format!(
                    "it sent a vector of {got} dimensions, this model has {want}: it may be another one by now"
                )));
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::{Item, Remote, RemoteOptions};
    use crate::{Input, TextKind};

    fn remote(change: impl FnOnce(&mut RemoteOptions)) -> Remote {
        let mut options = RemoteOptions {
            name: "far".into(),
            url: "http://127.0.0.1:9/v1".into(),
            ..RemoteOptions::default()
        };
        change(&mut options);
        Remote::new(options).expect("they can be used")
    }

    #[test]
    fn batches_hold_no_more_than_they_may_and_no_ids_among_texts() {
        let remote = remote(|options| (options.batch_texts, options.batch_tokens) = (3, 10));
        let text = |count: usize| Item::Text("a ".repeat(count));
        let items = [text(1), text(1), text(1), text(1), text(9), text(40), Item::Ids(&[1]), text(1)];
        let tokens: Vec<usize> = items.iter().map(Item::tokens).collect();
        assert_eq!(tokens, [1, 1, 1, 1, 9, 40, 1, 1]);
        assert_eq!(remote.plan(&items, &tokens), [0..3, 3..5, 5..6, 6..7, 7..8]);
        assert!(remote.plan(&[], &[]).is_empty());
    }

    #[test]
    fn a_text_gets_its_prompt_and_is_cut_at_the_end_that_does_not_count() {
        let remote = remote(|options| {
            options.query_prompt = "find ".into();
            options.max_tokens = 3;
        });
        let item = |input, kind| match remote.item(&input, kind) {
            Item::Text(text) => text,
            Item::Ids(ids) => format!("{ids:?}"),
        };
        assert_eq!(item(Input::Text(" one two six ten "), TextKind::Query), "find one two");
        assert_eq!(item(Input::End(" one two six ten "), TextKind::Query), "find six ten");
        assert_eq!(item(Input::Text("one two six ten"), TextKind::Passage), "one two six");
        assert_eq!(item(Input::Ids(&[7, 8, 9, 10]), TextKind::Passage), "[7, 8, 9]");
    }
}
