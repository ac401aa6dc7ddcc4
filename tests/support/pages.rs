//! README and the pages behind it.

use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page for people: its path from the top, and its text.
pub struct Page {
    pub path: PathBuf,
    pub text: String,
}

pub fn page(path: &str) -> Page {
    let text = std::fs::read_to_string(root().join(path));
    Page {
        path: path.into(),
        text: text.unwrap_or_else(|error| panic!("{path}: {error}")),
    }
}

pub fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "examples"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let path = path.strip_prefix(root()).unwrap();
                pages.push(page(path.to_str().unwrap()));
            }
        }
    }
    assert!(pages.len() > 10);
    pages
}

/// A fenced block: its language, its text, and whether it follows the block before it directly.
pub struct Block<'t> {
    pub language: &'t str,
    pub text: &'t str,
    pub follows: bool,
}

pub fn blocks(text: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut rest, mut follows) = (Vec::new(), text, false);
    while let Some((before, after)) = rest.split_once("```") {
        assert!(
            before.is_empty() || before.ends_with('\n'),
            "a fence within a line: {before}"
        );
        follows &= before.trim().is_empty();
        let (language, after) = after.split_once('\n').unwrap();
        let (text, after) = after
            .split_once("```")
            .unwrap_or_else(|| panic!("a block of {language} is not closed"));
        blocks.push(Block {
            language,
            text,
            follows,
        });
        (rest, follows) = (after, true);
    }
    blocks
}

/// What stands outside of the fenced blocks.
pub fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The text below a heading, up to the next one of the same level.
pub fn chapter<'t>(text: &'t str, heading: &str) -> &'t str {
    let (_, rest) = text
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("there is no chapter {heading:?}"));
    let level = heading.split_inclusive(' ').next().unwrap();
    let next = format!("\n{level}");
    rest.split_once(&next).map_or(rest, |(chapter, _)| chapter)
}
