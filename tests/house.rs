//! The house: which module may know which. ARCHITECTURE.md draws it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src`, the lowest floor first. A room knows only rooms of lower floors.
const HOUSE: &[&[&str]] = &[
    &[
        "current", "duration", "features", "json", "memory", "metrics", "random", "trust", "vcap",
    ],
    &["links", "log"],
    &["postgres"],
    &["catalog", "store"],
    &["adapter"],
    &["broker"],
    &["http"],
    &["config"],
    &["serve"],
    &["cli"],
    // What others may use of the library, and the program.
    &["lib", "main"],
];

/// The rooms of `src/broker`. `mod` is its `mod.rs`.
const BROKER: &[&[&str]] = &[
    &["protocol"],
    &["counts"],
    &["plans", "state"],
    &["census", "operations"],
    &["endpoint"],
    &["binding", "instance", "look", "metrics"],
    &["due"],
    &["mod"],
];

/// A source file: its modules from the crate on, and the modules and items that it names.
struct Source {
    module: Vec<String>,
    named: Vec<Vec<String>>,
}

/// From one room to another one, with the path that names it.
type Arrows = BTreeMap<(String, String), String>;

#[test]
fn every_arrow_between_rooms_points_down() {
    let sources = sources();
    for (folder, floors) in [(&[][..], HOUSE), (&["broker"], BROKER)] {
        let floor = |room: &str| {
            let floor = floors.iter().position(|rooms| rooms.contains(&room));
            floor.unwrap_or_else(|| panic!("{folder:?} has a room without a floor: {room}"))
        };
        let arrows = arrows(&sources, folder);
        assert!(arrows.len() > floors.len(), "{folder:?}: {arrows:?}");
        for ((from, to), named) in &arrows {
            assert!(
                floor(from) > floor(to),
                "{folder:?}: {from} must not know {to}, but names {named}"
            );
        }
    }
}

#[test]
fn no_folder_of_the_broker_has_a_circle() {
    let sources = sources();
    let folders: BTreeSet<&[String]> = sources
        .iter()
        .filter(|source| source.module[..].starts_with(&["broker".to_owned()]))
        .flat_map(|source| (1..source.module.len()).map(|depth| &source.module[..depth]))
        .collect();
    assert!(folders.len() > 5, "{folders:?}");
    for folder in folders {
        let folder: Vec<&str> = folder.iter().map(String::as_str).collect();
        let mut arrows = arrows(&sources, &folder);
        // Takes away the rooms that know nobody, until none is left.
        loop {
            let knowing: BTreeSet<String> = arrows.keys().map(|(from, _)| from.clone()).collect();
            let before = arrows.len();
            arrows.retain(|(_, to), _| knowing.contains(to));
            if arrows.len() == before {
                break;
            }
        }
        assert!(arrows.is_empty(), "src/{}: {arrows:#?}", folder.join("/"));
    }
}

fn arrows(sources: &[Source], folder: &[&str]) -> Arrows {
    let below = |path: &[String]| {
        let inside = path.len() >= folder.len() && path.iter().zip(folder).all(|(a, b)| a == b);
        inside.then(|| path.get(folder.len()).cloned())
    };
    let own: BTreeSet<String> = sources
        .iter()
        .filter_map(|source| below(&source.module).flatten())
        .collect();
    // What is no module of its own is in the folder's `mod.rs`.
    let room = |path: &[String]| {
        let child = below(path)?.filter(|child| own.contains(child));
        Some(child.unwrap_or_else(|| "mod".to_owned()))
    };
    let mut arrows = Arrows::new();
    for source in sources {
        for named in &source.named {
            if let (Some(from), Some(to)) = (room(&source.module), room(named))
                && from != to
                // Whoever names an item of the crate's root names no room.
                && !(folder.is_empty() && to == "mod")
            {
                arrows.insert((from, to), named.join("::"));
            }
        }
    }
    arrows
}

/// All of `src` but for the tests in it.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let modules: BTreeSet<Vec<String>> = files.iter().map(|file| module(&root, file)).collect();
    files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let module = module(&root, file);
            let named = paths(&text)
                .into_iter()
                .filter_map(|path| absolute(&module, path, &modules))
                .collect();
            Source { module, named }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_owned();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
}

fn module(root: &Path, file: &Path) -> Vec<String> {
    let path = file.strip_prefix(root).unwrap().with_extension("");
    let names = path
        .iter()
        .map(|name| name.to_str().unwrap().to_owned())
        .filter(|name| name != "mod");
    names.collect()
}

/// What a path in a file of `module` is from the crate on; `None` for another crate's.
fn absolute(
    module: &[String],
    path: Vec<String>,
    modules: &BTreeSet<Vec<String>>,
) -> Option<Vec<String>> {
    let mut at = module.to_vec();
    let mut rest = path.as_slice();
    match rest.first()?.as_str() {
        "crate" => {
            at.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|name| name == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        child => {
            at.push(child.to_owned());
            if !modules.contains(&at) {
                return None;
            }
            rest = &rest[1..];
        }
    }
    at.extend(rest.iter().cloned());
    Some(at)
}

/// Every path of a `use` line, and every other one that begins with `crate` or `super`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = Vec::new();
    for statement in code.split(';') {
        let Some(at) = statement
            .match_indices("use ")
            .map(|(at, _)| at)
            .find(|at| statement[..*at].ends_with(['\n', ' ']) || *at == 0)
        else {
            continue;
        };
        let tree: String = statement[at + 4..].split_whitespace().collect();
        if !tree.contains('=') {
            expand(&[], &tree, &mut found);
        }
    }
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let path = code[at..]
                .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                .next()
                .unwrap();
            if !code[..at].ends_with(':') {
                expand(&[], path.trim_end_matches(':'), &mut found);
            }
        }
    }
    found
}

/// Takes `a::{b, c::d}` apart.
fn expand(prefix: &[String], tree: &str, found: &mut Vec<Vec<String>>) {
    let (path, group) = match tree.split_once('{') {
        Some((path, group)) => (path, group.rsplit_once('}').map(|(group, _)| group)),
        None => (tree, None),
    };
    let mut whole = prefix.to_vec();
    let names = path.split("::").filter(|name| !name.is_empty());
    whole.extend(names.map(str::to_owned));
    let Some(group) = group else {
        found.push(whole);
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if start < at {
                    expand(&whole, &group[start..at], found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = "use crate::a::{self, b::{C, D}};\nuse super::e;\n// use crate::no;\npub use f::G;\n\
                fn x() { crate::h::i(); super::super::j() }\n#[cfg(test)]\nmod tests { use crate::k; }";
    let found: BTreeSet<String> = paths(text).iter().map(|path| path.join("::")).collect();
    let wanted = [
        "crate::a",
        "crate::a::b::C",
        "crate::a::b::D",
        "crate::a::self",
        "crate::h::i",
        "f::G",
        "super::e",
        "super::super::j",
    ];
    assert_eq!(found, BTreeSet::from(wanted.map(str::to_owned)));
}
