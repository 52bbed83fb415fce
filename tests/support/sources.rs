//! The source files of a crate, for tests that read them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files by their path below the crate's root, with their text.
pub type Sources = BTreeMap<String, String>;

/// Reads all files of a folder.
pub fn read(folder: &Path) -> Sources {
    let mut sources = Sources::new();
    read_into(folder, folder, &mut sources);
    sources
}

fn read_into(root: &Path, folder: &Path, sources: &mut Sources) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            read_into(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("below the root");
            let name = name.to_str().expect("UTF-8").replace('\\', "/");
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            sources.insert(name, text);
        }
    }
}
