//! Checks that the documentation in `src/` keeps to the rules of RFC 1574. The sources are read by
//! `syn`. The rules are:
//!
//! - the summary of a function or macro begins with a verb in the third person ("Returns …"),
//!   so that it is a whole sentence with the function as its subject;
//! - the summary of a type or trait does not begin with a question word ("What …", "How …"),
//!   but with the noun that the type is;
//! - an `# Errors` section is a list of errors, or says in a sentence what the function returns;
//! - a `# Safety` section is a list: each bullet is one condition that a caller can check.
//!
//! Text in the bodies of macros is not seen: for `syn` it is a sequence of tokens.

mod support {
    pub mod sources;
}

use std::path::Path;

use support::sources::read;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, Ident, Lit, Meta};

/// The kind of a documented item, on which its rules depend.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Function,
    Macro,
    Type,
}

/// A visitor that collects the violations in one file.
struct Checker<'a> {
    file: &'a str,
    violations: Vec<String>,
    /// The number of items with documentation.
    documented: usize,
}

impl Checker<'_> {
    fn check(&mut self, kind: Kind, name: &Ident, attributes: &[Attribute]) {
        let lines: Vec<String> = attributes.iter().filter_map(doc_line).collect();
        let Some(summary) = lines.iter().find(|line| !line.trim().is_empty()) else { return };
        self.documented += 1;
        let first = first_word(summary);
        let wrong = match kind {
            Kind::Function | Kind::Macro if !is_verb(first) => {
                Some("does not begin with a verb in the third person (`Returns …`)")
            }
            Kind::Type if QUESTION_WORDS.contains(&first) => {
                Some("begins with a question word: begin with the noun that the type is")
            }
            _ => None,
        };
        let mut report = |what: String| {
            self.violations.push(format!("{}: `{name}`: {what}", self.file));
        };
        if let Some(wrong) = wrong {
            report(format!("the summary \"{}\" {wrong}", summary.trim()));
        }
        if let Some(errors) = section(&lines, "# Errors")
            && kind == Kind::Function
        {
            let first = errors.iter().map(|line| line.trim()).find(|line| !line.is_empty());
            let is_list = |line: &str| line.starts_with("- ");
            let is_sentence = |line| is_verb(first_word(line)) || first_word(line) == "Can";
            if !first.is_some_and(|line| is_list(line) || is_sentence(line)) {
                report("the section `# Errors` is neither a list nor begins with a verb".into());
            }
        }
        if let Some(safety) = section(&lines, "# Safety")
            && !safety.iter().any(|line| line.trim_start().starts_with("- "))
        {
            report("the section `# Safety` has no bullets that a caller can check".into());
        }
    }
}

/// Words with which the summary of a type cannot begin.
const QUESTION_WORDS: [&str; 8] =
    ["How", "What", "When", "Where", "Whether", "Which", "Who", "Why"];

/// Words that end like a verb in the third person and are none.
const NO_VERBS: [&str; 9] = ["Addresses", "As", "Does", "Has", "Is", "Its", "Sites", "This", "Was"];

/// Returns whether a word can be a verb in the third person.
fn is_verb(word: &str) -> bool {
    word.ends_with('s') && !NO_VERBS.contains(&word)
}

/// Returns the first word of a line, without punctuation behind it.
fn first_word(line: &str) -> &str {
    let word = line.split_whitespace().next().unwrap_or_default();
    word.trim_end_matches(|c: char| c.is_ascii_punctuation())
}

/// Returns one line of documentation, if an attribute is one.
fn doc_line(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { return None };
    pair.path.is_ident("doc").then(|| text.value())
}

/// Returns the lines of a section, up to the next heading.
fn section<'l>(lines: &'l [String], heading: &str) -> Option<&'l [String]> {
    let start = lines.iter().position(|line| line.trim() == heading)? + 1;
    let rest = &lines[start..];
    let end = rest.iter().position(|line| line.trim().starts_with("# ")).unwrap_or(rest.len());
    Some(&rest[..end])
}

impl<'a> Visit<'a> for Checker<'_> {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.check(Kind::Function, &item.sig.ident, &item.attrs);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.check(Kind::Function, &item.sig.ident, &item.attrs);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        self.check(Kind::Function, &item.sig.ident, &item.attrs);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_foreign_item_fn(&mut self, item: &'a syn::ForeignItemFn) {
        self.check(Kind::Function, &item.sig.ident, &item.attrs);
    }

    fn visit_item_macro(&mut self, item: &'a syn::ItemMacro) {
        if let Some(name) = &item.ident {
            self.check(Kind::Macro, name, &item.attrs);
        }
    }

    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.check(Kind::Type, &item.ident, &item.attrs);
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        self.check(Kind::Type, &item.ident, &item.attrs);
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        self.check(Kind::Type, &item.ident, &item.attrs);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'a syn::ItemType) {
        self.check(Kind::Type, &item.ident, &item.attrs);
    }
}

/// Checks the text of one file. Returns the violations and the number of items documented.
fn check(file: &str, text: &str) -> (Vec<String>, usize) {
    let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut checker = Checker { file, violations: vec![], documented: 0 };
    checker.visit_file(&parsed);
    (checker.violations, checker.documented)
}

#[test]
fn documentation_is_in_sentences() {
    let sources = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let (mut violations, mut documented) = (vec![], 0);
    for (file, text) in &sources {
        let (found, items) = check(file, text);
        violations.extend(found);
        documented += items;
    }
    assert!(documented > 500, "only {documented} documented items were seen");
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

/// Tries documentation that breaks each rule, and expects it to be named.
#[test]
fn every_violation_is_seen() {
    for (text, named) in [
        ("/// Whether it is.\nfn is() -> bool { true }", "`is`: the summary"),
        ("struct S; impl S { /// The size.\nfn size(&self) {} }", "`size`: the summary"),
        ("trait T { /// Of its number.\nfn from(); }", "`from`: the summary"),
        ("/// The operand.\nmacro_rules! operand { () => {} }", "`operand`: the summary"),
        ("/// What a slot holds.\nstruct Target;", "`Target`: the summary"),
        ("/// Reads it.\n///\n/// # Errors\n/// An unknown word.\nfn read() {}", "`# Errors`"),
        ("/// Reads it.\n///\n/// # Safety\n/// It is there.\nunsafe fn read() {}", "`# Safety`"),
    ] {
        let (violations, _) = check("made_up.rs", text);
        assert_eq!(violations.len(), 1, "{text}: {violations:?}");
        assert!(violations[0].contains(named), "{text}: {}", violations[0]);
    }
    let right = "/// Reads it.\n///\n/// # Errors\n/// Returns why not.\n///\n/// # Safety\n/// - it is \
                 there.\nunsafe fn read() {}\n/// The target.\nstruct Target;\nfn undocumented() {}";
    assert_eq!(check("made_up.rs", right), (vec![], 2));
}
