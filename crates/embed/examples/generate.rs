//! How fast a language model reads and writes.
//!
//! ```text
//! cargo run --release -p cairn-embed --example generate FILE.gguf [PROMPT_TOKENS [TOKENS]]
//! ```

#![allow(clippy::print_stdout)]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use cairn_embed::{Cancel, Generated, Generator, GeneratorOptions, Prompt, Result, Sampling};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().unwrap_or_else(|| "model.gguf".to_owned());
    let mut number = |usual| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (reads, writes) = (number(512), number(64));

    let start = Instant::now();
    let generator = Generator::load(Path::new(&file), &GeneratorOptions::default())?;
    println!("{}: loaded in {:.2} s", generator.architecture(), start.elapsed().as_secs_f64());

    let prompt: Vec<u32> = (0..reads as u32).map(|at| 5 + at * 7 % 200).collect();
    // The first time weights are laid out anew; then all is read, then half is there.
    for prompt in [&prompt[..64.min(reads)], &prompt[..], &prompt[..reads / 2]] {
        let run = |max_tokens: usize| -> Result<(Generated, f64)> {
            let sampling = Sampling { max_tokens, ..Sampling::default() };
            let start = Instant::now();
            let prompt = Prompt::Tokens(prompt);
            let made =
                generator.generate(prompt, &sampling, &Cancel::new(), &mut |_| ControlFlow::Continue(()))?;
            Ok((made, start.elapsed().as_secs_f64()))
        };
        let (Generated { cached_tokens, .. }, first) = run(1)?;
        // All but the last token of the prompt is there now.
        let (Generated { tokens, .. }, all) = run(writes)?;
        let read = prompt.len() - cached_tokens;
        println!(
            "  {read} tokens read and {cached_tokens} kept: {first:.2} s to the first token, {:.0} tokens/s read, \
             {:.1} tokens/s written",
            read as f64 / first,
            tokens.len() as f64 / all
        );
    }
    Ok(())
}
