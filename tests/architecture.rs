//! The order of the library's modules: data flows one way, and no two files need each other.
//!
//! A folder of `src` (or a file beside it) is a step of the pipeline. A file imports only from steps
//! above its own in [`STEPS`] and from files of its own folder, and no chain of imports leads back
//! to where it began. Where an import names a folder, it means the file that the folder's `mod.rs`
//! takes the name from. Tests may import anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The steps, each of which imports only from those before it.
const STEPS: &[&str] = &[
    "base",         // errors, checks, seeds, files, progress, tables, charts
    "metrics",      // accuracy, target, latency
    "ops",          // operations of layers, on any device and fast on a CPU
    "data",         // images and their parts
    "ann",          // typed networks, training, weights
    "simulate",     // neurons, codes, the event engine, spiking networks
    "convert",      // thresholds from activations
    "through_time", // the oracle, surrogate gradients, attacks
    "stdp",         // a layer that learns without labels
    "nir",          // files of spiking networks
    "onnx",         // files of trained networks
    "evolve",       // neuroevolution
    "explain",      // what evolution changed
    "sweep",        // grids of experiments
    "reproduce",    // the paper's experiments
    "command_line", // networks, images and experiments by their arguments
    "main",         // the command line
];

/// Files that only re-export what others define, or only document it.
const FACADES: &[&str] = &["guide", "lib", "plot", "report"];

/// Code of the library: the files, by their module's path, without tests and comments.
fn modules() -> BTreeMap<String, String> {
    fn read(folder: &Path, path: &str, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let inner = if path.is_empty() { name.clone() } else { format!("{path}::{name}") };
            if file.is_dir() {
                read(&file, &inner, found);
            } else if file.extension().is_some_and(|e| e == "rs") && name != "tests" {
                let path = if name == "mod" { path.to_owned() } else { inner };
                found.insert(path, code(&fs::read_to_string(file).unwrap()));
            }
        }
    }
    let mut found = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    found
}

/// A file without its tests and comments.
fn code(text: &str) -> String {
    let end = text
        .find("\n#[cfg(test)]\nmod tests")
        .or(text.find("\n#[cfg(test)]\npub(crate) mod tests"));
    let (text, tests) = text.split_at(end.unwrap_or(text.len()));
    if let Some((_, after)) = tests.split_once("mod tests;") {
        assert_eq!(after.trim(), "", "code behind the tests would not be read");
    }
    let lines = text.lines();
    lines.map(|line| line.split("//").next().unwrap_or("").to_owned() + "\n").collect()
}

/// The paths of a tree such as `a::{b, c::{d, self}}`.
fn flat(tree: &str) -> Vec<String> {
    let Some((prefix, inner)) = tree.split_once('{') else {
        return vec![tree.trim().split(" as ").next().unwrap().to_owned()];
    };
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inner.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => (),
        }
        parts.last_mut().unwrap().push(c);
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| flat(&format!("{}{}", prefix.trim(), part.trim()))).collect()
}

/// What a file names of the crate: the paths behind `crate::` and `super::`.
fn imports(module: &str, code: &str) -> Vec<String> {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            // `$crate` is another's code; `super` within a module of the file is the file itself.
            let nested = start == "super::"
                && code[..at].rsplit('\n').next().unwrap().starts_with("    use");
            if before.is_some_and(|c| c == '$' || c == ':' || c.is_alphanumeric()) || nested {
                continue;
            }
            let rest = &code[at + start.len()..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
            let mut tree = rest[..end.unwrap_or(rest.len())].to_owned();
            if tree.ends_with("::") && rest[tree.len()..].starts_with('{') {
                let end = rest.find(';').unwrap_or(rest.len());
                tree = rest[..end].to_owned();
            }
            let base = if start == "crate::" { "" } else { parent };
            let whole = |path: String| {
                if base.is_empty() { path } else { format!("{base}::{path}") }
            };
            found.extend(flat(&tree).into_iter().map(whole));
        }
    }
    found
}

/// The file that a path leads to: by its longest part that is a file, or through a table of contents.
fn file(path: &str, modules: &BTreeMap<String, String>) -> Option<String> {
    let names: Vec<&str> = path.split("::").filter(|name| !name.is_empty()).collect();
    let longest =
        (1..=names.len()).rev().find(|&n| modules.contains_key(&names[..n].join("::")))?;
    let found = names[..longest].join("::");
    let is_folder = modules.keys().any(|module| module.starts_with(&format!("{found}::")));
    let (true, Some(name)) = (is_folder, names.get(longest)) else {
        return Some(found);
    };
    // `pub use file::{Name, ...};` or `pub use file::*;` of the folder's table of contents.
    let uses = modules[&found].split("use ").skip(1);
    let taken = uses.filter_map(|tree| tree.split(';').next()).flat_map(flat);
    let mut files = taken.filter_map(|taken| {
        let (inner, last) = taken.rsplit_once("::")?;
        let file = inner.strip_prefix("crate::").map_or(format!("{found}::{inner}"), str::to_owned);
        let all = last == "*" && defines(modules.get(&file)?, name);
        (last == *name || all).then_some(file)
    });
    files.next()
}

/// Whether a file defines an item of this name, or a macro makes one of it.
fn defines(code: &str, name: &str) -> bool {
    let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let kinds = ["fn", "struct", "enum", "trait", "type", "const", "parts"];
    let item = |pair: &[&str]| kinds.contains(&pair[0]) && pair[1] == name;
    let mut lines = code.lines().map(str::trim);
    words.windows(2).any(item) || lines.any(|line| line.starts_with(&format!("{name} ")))
}

fn step(module: &str) -> Option<usize> {
    let first = module.split("::").next().unwrap();
    STEPS.iter().position(|step| *step == first)
}

#[test]
fn data_flows_one_way() {
    let modules = modules();
    let mut faults = Vec::new();
    let mut edges: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (module, code) in &modules {
        if FACADES.contains(&&**module) || module.is_empty() {
            continue;
        }
        let Some(own) = step(module) else {
            faults.push(format!("{module}: a file of no step"));
            continue;
        };
        let folder = STEPS.contains(&&**module)
            && modules.keys().any(|m| m.starts_with(&format!("{module}::")));
        if folder {
            let items = ["fn ", "struct ", "enum ", "impl", "trait "];
            if let Some(line) = code.lines().find(|line| {
                let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
                items.iter().any(|item| line.starts_with(item))
            }) {
                faults.push(format!("{module}/mod.rs: `{line}` in a table of contents"));
            }
            continue;
        }
        for path in imports(module, code) {
            let Some(target) = file(&path, &modules) else {
                faults.push(format!("{module} imports {path}, which no table of contents has"));
                continue;
            };
            if FACADES.contains(&&*target) {
                faults.push(format!("{module} imports {path} of a facade"));
            } else if step(&target).is_none_or(|other| other > own) {
                faults.push(format!("{module} imports {path} of a later step"));
            } else if target != *module {
                edges.entry(module).or_default().insert(target);
            }
        }
    }
    // A file that comes again on the way from it is part of a circle.
    for module in edges.keys() {
        let (mut seen, mut left) = (BTreeSet::new(), vec![*module]);
        while let Some(at) = left.pop() {
            for next in edges.get(at).into_iter().flatten() {
                if next == module {
                    faults.push(format!("{module} is imported by what it imports: {at}"));
                }
                if seen.insert(next.as_str()) {
                    left.push(next);
                }
            }
        }
    }
    assert!(edges.len() > 60, "only {} files were read", edges.len());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_guide_has_the_same_order() {
    let guide = include_str!("../src/guide/architecture.md");
    let rows = guide.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(','));
    let names: Vec<&str> = names.map(|name| name.trim().trim_matches('`')).collect();
    assert_eq!(names, STEPS);
}

#[test]
fn faults_are_seen() {
    let mut modules = modules();
    let resolved = |path: &str| file(path, &modules);
    assert_eq!(resolved("base::error::Error").as_deref(), Some("base::error"));
    assert_eq!(resolved("simulate::Snn").as_deref(), Some("simulate::network"));
    assert_eq!(resolved("ann::Nothing"), None);
    let code = "use crate::base::{Error, error::Result};\nuse crate::evolve::run as other;\nsuper::x::y();";
    let found = imports("base::files", code);
    assert!(found.contains(&"base::error::Result".into()) && found.contains(&"evolve::run".into()));
    assert!(found.contains(&"base::x::y".into()));
    modules.insert("base::late".into(), String::new());
    assert!(step("evolve::run") > step("base::late"));
}
