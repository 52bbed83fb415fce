//! Checks that the files of `src/` import one way, and that a name stands for one thing. The
//! sources are read by `syn`. The rules are:
//!
//! - no circle: no two files need each other, directly or through others;
//! - layers: a file imports only from the layers that [`LAYERS`] allows to its own;
//! - names: no two types in different files have the same name.
//!
//! An import counts as one of the file that *defines* the name. If a parent only re-exports `Model`
//! of `file.rs`, `use super::Model` is an import of `file.rs`. A `pub use` is an import only if its
//! own file uses the name, too.

mod support {
    pub mod imports;
    pub mod sources;
}

use std::path::Path;

use support::imports::Graph;
use support::sources::read;

/// A layer, named by the path of its module, and the layers that it may import. A file belongs to
/// the layer with the longest path that fits. Within a layer, any file may import any other, as
/// long as there is no circle.
type Layer = (&'static str, &'static [&'static str]);

/// All layers. Each may import only layers that stand above it in this list.
const LAYERS: &[Layer] = &[
    // The core.
    ("insn", &[]),
    ("error", &["insn"]),
    ("site", &["insn"]),
    ("text", &["error", "insn", "site"]),
    ("live", &["error", "insn", "site", "text"]),
    ("branch", &["insn", "site", "text"]),
    ("patchlet", &[]),
    ("blob", &["patchlet"]),
    ("choose", &["insn"]),
    ("cpu", &[]),
    ("ops", &["choose", "cpu", "insn", "patchlet", "site", "text"]),
    // For build scripts, and code that they share with the tool.
    ("labels", &[]),
    ("assemble", &["labels"]),
    // The tool.
    ("disassemble", &["insn"]),
    ("contract", &["disassemble", "insn"]),
    ("inspect::error", &[]),
    ("inspect::hex", &[]),
    ("inspect::near", &[]),
    ("inspect::finding", &["inspect::hex"]),
    ("inspect::elf", &["disassemble", "insn", "inspect::error"]),
    ("inspect::explain", &["insn", "inspect::elf", "inspect::error"]),
    (
        "inspect::formats",
        &[
            "contract",
            "disassemble",
            "insn",
            "inspect::elf",
            "inspect::error",
            "inspect::finding",
            "labels",
            "site",
        ],
    ),
    (
        "inspect::model",
        &[
            "choose",
            "insn",
            "inspect::elf",
            "inspect::error",
            "inspect::finding",
            "inspect::formats",
        ],
    ),
    ("inspect::cpu", &["cpu", "insn", "inspect::error", "inspect::formats", "inspect::near"]),
    (
        "inspect::plan",
        &[
            "insn",
            "inspect::cpu",
            "inspect::elf",
            "inspect::error",
            "inspect::formats",
            "inspect::model",
            "site",
        ],
    ),
    (
        "inspect::apply",
        &["insn", "inspect::error", "inspect::formats", "inspect::model", "inspect::plan"],
    ),
    ("inspect::diff", &["inspect::formats", "inspect::hex", "inspect::model"]),
    (
        "inspect::sweep",
        &["disassemble", "insn", "inspect::elf", "inspect::formats", "inspect::model", "site"],
    ),
    (
        "inspect::linux",
        &[
            "cpu",
            "disassemble",
            "insn",
            "inspect::cpu",
            "inspect::elf",
            "inspect::error",
            "inspect::explain",
            "inspect::near",
            "inspect::sweep",
        ],
    ),
    (
        "inspect::raw",
        &["disassemble", "insn", "inspect::formats", "inspect::model", "inspect::sweep"],
    ),
    (
        "inspect::verify",
        &[
            "contract",
            "disassemble",
            "error",
            "insn",
            "inspect::elf",
            "inspect::finding",
            "inspect::formats",
            "inspect::hex",
            "inspect::model",
            "inspect::sweep",
            "site",
        ],
    ),
    (
        "inspect::running",
        &[
            "insn",
            "inspect::elf",
            "inspect::error",
            "inspect::explain",
            "inspect::formats",
            "inspect::model",
        ],
    ),
    (
        "inspect::tool",
        &[
            "contract",
            "disassemble",
            "insn",
            "inspect::apply",
            "inspect::cpu",
            "inspect::diff",
            "inspect::elf",
            "inspect::error",
            "inspect::explain",
            "inspect::finding",
            "inspect::formats",
            "inspect::hex",
            "inspect::linux",
            "inspect::model",
            "inspect::plan",
            "inspect::raw",
            "inspect::running",
            "inspect::verify",
        ],
    ),
    // This module only re-exports.
    ("inspect", &[]),
    ("bin", &["inspect::tool"]),
];

fn sources() -> Graph {
    Graph::new(&read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")))
}

#[test]
fn there_is_no_circle() {
    let graph = sources();
    assert!(graph.files().count() > 50, "only {} files", graph.files().count());
    let circles = graph.circles();
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
}

#[test]
fn layers_import_downwards() {
    let violations = sources().violations(LAYERS);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn no_two_types_have_one_name() {
    let twice = sources().types_of_one_name();
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

#[test]
fn the_list_of_layers_is_in_order() {
    for (at, (layer, may)) in LAYERS.iter().enumerate() {
        for other in *may {
            let above = LAYERS[..at].iter().any(|(name, _)| name == other);
            assert!(above, "{layer} may import {other}, which does not stand above it");
        }
    }
}

/// Makes the graph of a made-up crate from paths and texts of its files.
fn graph(files: &[(&str, &str)]) -> Graph {
    Graph::new(&files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect())
}

/// Tries all ways to import: `a.rs` imports `b.rs` in one of them, and `b.rs` imports `a.rs`.
#[test]
fn a_circle_is_seen_however_it_is_written() {
    const LIB: &str = "mod a; mod b; pub mod outer; pub use b::B; pub use outer::*;";
    const OUTER: &str = "mod inner; pub use inner::{Inner, made};";
    const INNER: &str = "pub struct Inner; pub fn made() {}";
    let circles = |a: &'static str, inner: &'static str| {
        let b = "use crate::a::A; pub struct B; pub fn f() {}";
        let files = [
            ("lib.rs", LIB),
            ("a.rs", a),
            ("b.rs", b),
            ("outer/mod.rs", OUTER),
            ("outer/inner.rs", inner),
        ];
        graph(&files).circles()
    };
    for a in [
        "use crate::b::B; pub struct A;",
        "use crate::b; pub struct A; fn f() { b::f() }",
        "use super::{b::{self, B as Other}}; pub struct A;",
        "pub struct A(crate::b::B);",
        "pub struct A; fn f() { super::b::f() }",
        "pub struct A; fn f() { println!(\"{}\", crate::b::f()) }",
        // Through the root, which re-exports it.
        "use crate::B; pub struct A;",
        "pub struct A(super::B);",
        // Re-exported, and used here as well.
        "pub use crate::b::B; pub struct A(B);",
    ] {
        let found = circles(a, INNER);
        assert_eq!(found.len(), 1, "{a}: {found:?}");
        assert!(
            found[0].contains("a.rs → b.rs") && found[0].contains("b.rs → a.rs"),
            "{}",
            found[0]
        );
    }
    // No circles: a re-export of a parent, a child that imports a sibling's item through the
    // parent, a macro whose text is expanded elsewhere, a comment.
    for (a, inner) in [
        ("pub use crate::b::B; pub struct A;", INNER),
        ("pub struct A; macro_rules! m { () => { $crate::b::f() } } // crate::b::f()", INNER),
        ("pub struct A;", "use super::made as other; pub struct Inner; pub fn made() {}"),
        ("use crate::outer::Inner; pub struct A;", INNER),
        ("use crate::made; pub struct A;", INNER),
    ] {
        let found = circles(a, inner);
        assert!(found.is_empty(), "{a}, {inner}: {found:?}");
    }
    // A child that imports its parent, by path and by a glob, while the parent imports the child.
    for inner in ["use super::helper; pub fn made() {}", "use super::*; pub fn made() { helper() }"]
    {
        let outer = "mod inner; pub fn helper() {} fn f() { inner::made() }";
        let found =
            graph(&[("lib.rs", "mod outer;"), ("outer/mod.rs", outer), ("outer/inner.rs", inner)])
                .circles();
        assert_eq!(found.len(), 1, "{inner}: {found:?}");
    }
}

#[test]
fn an_import_upwards_is_seen() {
    const TWO: &[Layer] = &[("low", &[]), ("high", &["low"])];
    let files = |low: &'static str| {
        [
            ("lib.rs", "mod low; mod high; pub use high::H;"),
            ("low/mod.rs", "mod part;"),
            ("low/part.rs", low),
            ("high.rs", "use crate::low; pub struct H;"),
        ]
    };
    assert!(graph(&files("")).violations(TWO).is_empty());
    for low in ["use crate::high::H;", "fn f(_: crate::H) {}", "use crate::{H};"] {
        let found = graph(&files(low)).violations(TWO);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("low/part.rs imports high.rs: "), "{}", found[0]);
    }
    // A file that belongs to no layer.
    let found = graph(&files("")).violations(&TWO[..1]);
    assert!(found.iter().any(|line| line.contains("high.rs is in no layer")), "{found:?}");
}

#[test]
fn two_types_of_one_name_are_seen() {
    let found = graph(&[
        ("lib.rs", "mod a; mod b; pub use a::One;"),
        ("a.rs", "pub struct One; enum Two { One } fn f() { struct Local; }"),
        ("b.rs", "trait Two {} fn one() { struct Local; } mod inside { type One = u8; }"),
    ])
    .types_of_one_name();
    assert_eq!(found, ["`One` is in a.rs and b.rs", "`Two` is in a.rs and b.rs"]);
}
