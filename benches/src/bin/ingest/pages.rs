//! Pages of real documentation, as Markdown files.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_rag::parse::parse;

use crate::Args;

/// Characters of a page: shorter ones say nothing, longer ones are lists.
const LENGTH: std::ops::Range<usize> = 600..6_000;

/// The folder of the pages, made when it is not there.
pub(crate) fn prepare(args: &Args) -> Result<PathBuf, Box<dyn Error>> {
    let folder = args.kept.join(args.pages.to_string());
    if folder.join("complete").exists() {
        return Ok(folder);
    }
    let docs = match &args.docs {
        Some(docs) => docs.clone(),
        None => rust_documentation()?,
    };
    let mut files = Vec::new();
    find(&docs, &mut files)?;
    files.sort();
    let mut made = 0;
    for file in &files {
        let Ok(parsed) = parse(&file.to_string_lossy(), &fs::read(file)?) else { continue };
        if !LENGTH.contains(&parsed.text.len()) {
            continue;
        }
        let page = folder.join(format!("{}/{}.md", made / 500, made % 500));
        fs::create_dir_all(page.parent().expect("it is in a folder"))?;
        fs::write(page, parsed.text)?;
        made += 1;
        if made == args.pages {
            fs::write(folder.join("complete"), "")?;
            return Ok(folder);
        }
    }
    Err(format!("{} gives only {made} pages, ask for fewer with --pages", docs.display()).into())
}

fn rust_documentation() -> Result<PathBuf, Box<dyn Error>> {
    let told = Command::new("rustc").args(["--print", "sysroot"]).output()?;
    let folder = Path::new(String::from_utf8(told.stdout)?.trim()).join("share/doc/rust/html");
    if !folder.is_dir() {
        return Err("there is no Rust documentation, get it with `rustup component add rust-docs`".into());
    }
    Ok(folder)
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_page = path.extension().is_some_and(|end| end == "html" || end == "md");
        if path.is_dir() {
            find(&path, files)?;
        } else if is_page {
            files.push(path);
        }
    }
    Ok(())
}
