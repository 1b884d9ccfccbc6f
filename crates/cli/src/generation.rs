//! `cairn model run`: a language model continues a prompt.

use std::ops::ControlFlow;

use cairn_embed::{
    Cancel, ChatMessage, Finish, Generated, Generator, GeneratorOptions, ModelStore, Prompt, Sampling,
};
use serde_json::json;

use crate::args::RunModel;
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::settings::Settings;

pub(crate) fn run(settings: &Settings, store: &ModelStore, wanted: &RunModel, as_json: bool) -> Outcome {
    let local = &settings.rag.generator.local;
    let (context_tokens, threads) = (local.context_tokens, local.threads);
    let options = GeneratorOptions { context_tokens, threads, ..GeneratorOptions::default() };
    let sampling = Sampling {
        max_tokens: wanted.max_tokens,
        temperature: wanted.temperature,
        top_p: local.top_p,
        top_k: local.top_k,
        repetition_penalty: local.repetition_penalty,
        seed: local.seed,
        stop: wanted.stop.clone(),
    };
    let generator = Generator::load(&store.find_gguf(&wanted.name)?, &options)?;
    let mut on_piece = |piece: &str| {
        if !as_json {
            out::write(piece.as_bytes());
        }
        ControlFlow::Continue(())
    };
    let mut generate =
        |prompt: Prompt<'_>| generator.generate(prompt, &sampling, &Cancel::new(), &mut on_piece);
    let written: Generated = if wanted.ids {
        generate(Prompt::Tokens(&ids(&wanted.prompt)?))?
    } else if wanted.raw {
        generate(Prompt::Text(&wanted.prompt))?
    } else {
        let system = wanted.system.iter().map(|text| ChatMessage::new("system", text.as_str()));
        let user = ChatMessage::new("user", wanted.prompt.as_str());
        generate(Prompt::Chat(&system.chain([user]).collect::<Vec<_>>()))?
    };
    if !as_json {
        out::line("");
        return Ok(());
    }
    let finish = match written.finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    };
    out::json(&json!({
        "text": written.text,
        "tokens": written.tokens,
        "finish": finish,
        "prompt_tokens": written.prompt_tokens,
    }));
    Ok(())
}

fn ids(prompt: &str) -> Result<Vec<u32>, Failure> {
    let id = |id: &str| id.trim().parse().map_err(|_| Failure::TokenId(id.trim().to_owned()));
    prompt.split(',').map(id).collect()
}
