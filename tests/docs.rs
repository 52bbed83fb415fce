//! README and docs: short, complete, and without a dead link; and the repository stands alone.

use std::path::{Path, PathBuf};
use std::{fs, iter};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns all pages for people, by their paths.
fn pages() -> Vec<PathBuf> {
    let top = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| repository().join(name));
    let docs = fs::read_dir(repository().join("docs")).expect("docs");
    let docs = docs.map(|entry| entry.expect("an entry of docs").path());
    let pages = top.into_iter().chain(docs.filter(|path| path.extension() == Some("md".as_ref())));
    let pages: Vec<_> = pages.collect();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// Returns where the links of a page lead: `](here)` and `[name]: here`.
fn links(page: &str) -> Vec<&str> {
    let inline = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let defined = page.lines().filter(|line| line.starts_with('['));
    let defined = defined.filter_map(|line| Some(line.split_once("]: ")?.1));
    inline.chain(defined).filter(|link| !link.is_empty()).collect()
}

#[test]
fn the_readme_is_short_and_leads_to_every_page() {
    let readme = read(&repository().join("README.md"));
    let words = readme.split_whitespace().count();
    assert!(words <= 1200, "README.md has {words} words");
    let links = links(&readme);
    for page in pages() {
        let name = page.strip_prefix(repository()).expect("a page of the repository");
        let name = name.to_str().expect("a name");
        // `make report` writes the last one; CONTRIBUTING.md says so.
        let is_linked = links.contains(&name) || ["README.md", "docs/report.md"].contains(&name);
        assert!(is_linked, "README.md has no link to {name}");
    }
}

#[test]
fn no_link_is_dead() {
    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let target = page.parent().expect("a folder").join(link);
            assert!(target.exists(), "{}: {link}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} links");
}

/// Returns all files below a folder, but for what is built there.
fn files(folder: PathBuf) -> Box<dyn Iterator<Item = PathBuf>> {
    if folder.is_file() {
        return Box::new(iter::once(folder));
    }
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let entries: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    let is_ours = |path: &PathBuf| !path.ends_with("target") && !path.ends_with("corpus");
    Box::new(entries.into_iter().filter(is_ours).flat_map(files))
}

/// Checks that files cite nothing outside of the repository, which a reader could not look up.
#[test]
fn the_repository_stands_alone() {
    // Put together, so that this file does not name them.
    let elsewhere = ["SPEC", "DESIGN", "STYLE"].map(|name| format!("{name}.md"));
    let parts = ["asm", "benches", "build.rs", "docs", "fuzz", "src", "tests", "Makefile"];
    let mut read = 0;
    for file in parts.iter().flat_map(|part| files(repository().join(part))).chain(pages()) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for name in &elsewhere {
            assert!(!text.contains(name.as_str()), "{} cites {name}", file.display());
        }
        read += 1;
    }
    assert!(read > 200, "only {read} files");
}
