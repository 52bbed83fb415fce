//! The graph of imports between the files of a crate, read by `syn`.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use super::sources::Sources;

/// The path of a module as names, without `crate`.
type Module = Vec<String>;

/// An import of one name by a `use`.
#[derive(Clone, Debug)]
struct Import {
    path: Vec<String>,
    /// The name in this module; `None` for a glob.
    name: Option<String>,
    /// Whether the name is re-exported to other modules.
    hands_on: bool,
}

/// The parts of a file that concern imports.
#[derive(Debug, Default)]
struct Contents {
    imports: Vec<Import>,
    /// Paths in code; a single name is a path, too.
    paths: BTreeSet<Vec<String>>,
    /// Names of the items that are defined here.
    items: BTreeSet<String>,
    /// Names of the types among them, and of types in modules inside of the file.
    types: BTreeSet<String>,
}

/// The graph of imports.
pub struct Graph {
    /// The file of each module.
    modules: BTreeMap<Module, String>,
    contents: BTreeMap<Module, Contents>,
    /// The files of exported macros, which are at the root wherever they are defined.
    macros: BTreeMap<String, String>,
    /// For each file, the files that it imports and a path by which it does.
    edges: BTreeMap<String, BTreeMap<String, String>>,
}

/// Returns the module of a file: `text`, `pass` for `text/pass.rs`.
fn module_of(file: &str) -> Module {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut names: Module = stem.split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|last| last == "mod") || names == ["lib"] {
        names.pop();
    }
    names
}

impl Graph {
    pub fn new(sources: &Sources) -> Self {
        let mut graph = Self {
            modules: BTreeMap::new(),
            contents: BTreeMap::new(),
            macros: BTreeMap::new(),
            edges: BTreeMap::new(),
        };
        for (file, text) in sources {
            let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
            let mut reader = Reader::default();
            reader.visit_file(&parsed);
            for name in reader.exported_macros {
                graph.macros.insert(name, file.clone());
            }
            let module = module_of(file);
            graph.modules.insert(module.clone(), file.clone());
            graph.contents.insert(module, reader.contents);
            graph.edges.insert(file.clone(), BTreeMap::new());
        }
        for (module, contents) in &graph.contents {
            let file = &graph.modules[module];
            let mut targets = BTreeMap::new();
            let mut add = |path: &[String], words: &[String]| {
                if let Some(target) =
                    graph.definition(module, path, 0).filter(|target| target != file)
                {
                    targets.entry(target).or_insert_with(|| words.join("::"));
                }
            };
            for import in contents.imports.iter().filter(|import| !import.hands_on) {
                add(&import.path, &import.path);
            }
            for path in &contents.paths {
                if let Some(import) = contents.import_of(&path[0]) {
                    add(&[&import.path[..], &path[1..]].concat(), path);
                } else if path.len() > 1 && graph.is_of_crate(module, &path[0]) {
                    add(path, path);
                }
            }
            graph.edges.insert(file.clone(), targets);
        }
        graph
    }

    pub fn files(&self) -> impl Iterator<Item = &String> {
        self.edges.keys()
    }

    fn child(&self, module: &[String], name: &str) -> Option<Module> {
        let child = [module, &[name.to_owned()]].concat();
        self.modules.contains_key(&child).then_some(child)
    }

    /// Returns whether a path that begins with `first` can lead to an item of the crate.
    fn is_of_crate(&self, module: &[String], first: &str) -> bool {
        matches!(first, "crate" | "self" | "super")
            || self.child(module, first).is_some()
            || self.is_the_crate_for_its_program(module, first)
    }

    /// Returns whether `first` is the name of the library in a program of `src/bin/`.
    fn is_the_crate_for_its_program(&self, module: &[String], first: &str) -> bool {
        module.first().is_some_and(|folder| folder == "bin") && first == "patchlet"
    }

    /// Returns the file that defines the item which a path in a module names.
    fn definition(&self, module: &[String], path: &[String], depth: usize) -> Option<String> {
        /// The longest chain of re-exports that is followed.
        const DEEP: usize = 20;
        if depth > DEEP {
            return None;
        }
        let mut at: Module = module.to_vec();
        let mut rest = path;
        let first = path.first()?;
        match first.as_str() {
            "crate" => (at, rest) = (vec![], &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            other if self.is_the_crate_for_its_program(module, other) => {
                (at, rest) = (vec![], &path[1..]);
            }
            other if self.child(module, other).is_some() => {}
            _ => return None,
        }
        while let Some(name) = rest.first() {
            if let Some(child) = self.child(&at, name) {
                (at, rest) = (child, &rest[1..]);
                continue;
            }
            let contents = self.contents.get(&at)?;
            if contents.items.contains(name) {
                break;
            }
            if let Some(import) = contents.import_of(name) {
                let path = [&import.path[..], &rest[1..]].concat();
                return self.definition(&at, &path, depth + 1);
            }
            let globs = contents.imports.iter().filter(|import| import.name.is_none());
            for import in globs {
                let path = [&import.path[..], rest].concat();
                let found = self.definition(&at, &path, depth + 1);
                // A glob of another crate, or of a module that has no such name.
                if let Some(file) = found.filter(|file| self.defines(file, name)) {
                    return Some(file);
                }
            }
            if let Some(file) = self.macros.get(name).filter(|_| at.is_empty()) {
                return Some(file.clone());
            }
            break;
        }
        self.modules.get(&at).cloned()
    }

    fn defines(&self, file: &str, name: &str) -> bool {
        self.contents.get(&module_of(file)).is_some_and(|contents| contents.items.contains(name))
    }

    /// Returns a description of each circle: its files, and who imports whom by which path.
    pub fn circles(&self) -> Vec<String> {
        let reach: BTreeMap<&String, BTreeSet<&String>> =
            self.files().map(|file| (file, self.reachable(file))).collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for file in self.files() {
            let circle: Vec<&String> =
                reach[file].iter().copied().filter(|other| reach[other].contains(file)).collect();
            if circle.is_empty() || !seen.insert(circle.clone()) {
                continue;
            }
            let mut lines = vec![format!("a circle of {} files:", circle.len())];
            for file in &circle {
                for (target, path) in self.edges[*file].iter().filter(|(to, _)| circle.contains(to))
                {
                    lines.push(format!("  {file} → {target}: {path}"));
                }
            }
            circles.push(lines.join("\n"));
        }
        circles
    }

    fn reachable(&self, file: &str) -> BTreeSet<&String> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&String> = self.edges[file].keys().collect();
        while let Some(next) = open.pop() {
            if found.insert(next) {
                open.extend(self.edges[next].keys());
            }
        }
        found
    }

    /// Returns the names that types in different files share.
    pub fn types_of_one_name(&self) -> Vec<String> {
        let mut files: BTreeMap<&String, Vec<&str>> = BTreeMap::new();
        for (module, contents) in &self.contents {
            for name in &contents.types {
                files.entry(name).or_default().push(&self.modules[module]);
            }
        }
        let twice = files.into_iter().filter(|(_, files)| files.len() > 1);
        twice.map(|(name, files)| format!("`{name}` is in {}", files.join(" and "))).collect()
    }

    /// Returns the imports that no layer allows, and the files that belong to no layer.
    pub fn violations(&self, layers: &[(&str, &[&str])]) -> Vec<String> {
        let layer_of = |file: &str| {
            let module = module_of(file).join("::");
            let fits = |name: &str| {
                module
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            layers.iter().filter(|(name, _)| fits(name)).max_by_key(|(name, _)| name.len())
        };
        let mut lines = Vec::new();
        for (file, targets) in self.edges.iter().filter(|(file, _)| *file != "lib.rs") {
            let Some((layer, may)) = layer_of(file) else {
                lines.push(format!("{file} is in no layer: say in LAYERS where it stands"));
                continue;
            };
            for (target, path) in targets {
                let Some((other, _)) = layer_of(target) else { continue };
                if other != layer && !may.contains(other) {
                    lines.push(format!(
                        "{file} imports {target}: {path}, but {layer} may not import {other}"
                    ));
                }
            }
        }
        lines
    }
}

impl Contents {
    /// Returns the import that gives a name to this module.
    fn import_of(&self, name: &str) -> Option<&Import> {
        self.imports.iter().find(|import| import.name.as_deref() == Some(name))
    }
}

/// Collects a file's imports, paths and items. Modules inside of a file belong to it.
#[derive(Default)]
struct Reader {
    contents: Contents,
    exported_macros: Vec<String>,
    /// The number of modules inside of the file around this place.
    depth: usize,
    /// The number of functions around this place.
    functions: usize,
}

impl Reader {
    fn path(&mut self, mut path: Vec<String>) {
        // In a module inside of the file, the first `super` is the file.
        for _ in 0..self.depth {
            if path.first().is_some_and(|name| name == "super") {
                path[0] = "self".to_owned();
                if path.get(1).is_some_and(|name| name == "super") {
                    path.remove(0);
                }
            }
        }
        self.contents.paths.insert(path);
    }

    fn tree(&mut self, tree: &syn::UseTree, prefix: &[String], hands_on: bool) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        let mut add = |mut path: Vec<String>, name: Option<String>| {
            // `use a::b::{self}` names `b`.
            if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let name =
                name.map(|name| if name == "self" { path[path.len() - 1].clone() } else { name });
            if self.depth == 0 {
                self.contents.imports.push(Import { path, name, hands_on });
            }
        };
        match tree {
            syn::UseTree::Path(part) => self.tree(&part.tree, &with(&part.ident), hands_on),
            syn::UseTree::Group(group) => {
                for part in &group.items {
                    self.tree(part, prefix, hands_on);
                }
            }
            syn::UseTree::Name(name) => add(with(&name.ident), Some(name.ident.to_string())),
            syn::UseTree::Rename(name) => add(with(&name.ident), Some(name.rename.to_string())),
            _ => add(prefix.to_vec(), None),
        }
    }

    /// Collects the paths in the text of a macro call. `$crate` belongs to the macro's own place.
    fn tokens(&mut self, text: &str) {
        let words = text.replace("::", " :: ");
        let is_name = |word: &str| {
            word.chars().all(|c| c.is_alphanumeric() || c == '_')
                && word.starts_with(|c: char| c.is_alphabetic() || c == '_')
        };
        let separated =
            words.replace(|c: char| !(c.is_alphanumeric() || "_:$ ".contains(c)), " ; ");
        let words: Vec<&str> = separated.split_whitespace().collect();
        let mut at = 0;
        while at < words.len() {
            if !is_name(words[at]) || at > 0 && words[at - 1] == "$" {
                at += 1;
                continue;
            }
            let mut path = vec![words[at].to_owned()];
            while words.get(at + 1) == Some(&"::")
                && words.get(at + 2).is_some_and(|word| is_name(word))
            {
                path.push(words[at + 2].to_owned());
                at += 2;
            }
            at += 1;
            self.path(path);
        }
    }
}

impl<'a> Visit<'a> for Reader {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        let hands_on = !matches!(item.vis, syn::Visibility::Inherited);
        if self.depth == 0 {
            self.tree(&item.tree, &[], hands_on);
        }
    }

    fn visit_item(&mut self, item: &'a syn::Item) {
        let name = match item {
            syn::Item::Const(item) => Some(&item.ident),
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Fn(item) => Some(&item.sig.ident),
            syn::Item::Static(item) => Some(&item.ident),
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            syn::Item::Union(item) => Some(&item.ident),
            syn::Item::Macro(item) => item.ident.as_ref(),
            syn::Item::Mod(item) => item.content.as_ref().map(|_| &item.ident),
            _ => None,
        };
        if self.depth == 0 {
            self.contents.items.extend(name.map(ToString::to_string));
        }
        let is_type = matches!(
            item,
            syn::Item::Enum(_)
                | syn::Item::Struct(_)
                | syn::Item::Trait(_)
                | syn::Item::Type(_)
                | syn::Item::Union(_)
        );
        if is_type && self.functions == 0 {
            self.contents.types.extend(name.map(ToString::to_string));
        }
        visit::visit_item(self, item);
    }

    /// Visits a block, whose items are not visible outside of its function.
    fn visit_block(&mut self, block: &'a syn::Block) {
        self.functions += 1;
        visit::visit_block(self, block);
        self.functions -= 1;
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if item.content.is_some() {
            self.depth += 1;
            visit::visit_item_mod(self, item);
            self.depth -= 1;
        }
    }

    fn visit_item_macro(&mut self, item: &'a syn::ItemMacro) {
        match &item.ident {
            Some(name) => {
                if item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) {
                    self.exported_macros.push(name.to_string());
                }
            }
            // This is a call of a macro. The text of a definition is expanded elsewhere.
            None => visit::visit_item_macro(self, item),
        }
    }

    fn visit_macro(&mut self, called: &'a syn::Macro) {
        self.visit_path(&called.path);
        self.tokens(&called.tokens.to_string());
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.leading_colon.is_none() {
            self.path(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    /// Skips attributes: documentation, lints and derives are no imports.
    fn visit_attribute(&mut self, _: &'a syn::Attribute) {}
}
