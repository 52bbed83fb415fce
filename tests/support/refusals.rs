//! Sources that `patchlet::assemble` must refuse, each with one message, by each compiler and for
//! each width.

use std::fs;

use super::script::{Outcome, assemble};

pub const TARGET_64: &str = "x86_64-unknown-none";
pub const TARGET_32: &str = "i686-unknown-linux-gnu";

/// The first patchlet of most cases, which is correct.
pub const GOOD: &str = "\
#include \"patchlet.h\"
PATCHLET(good)
	cli
END_PATCHLET(good)
";

/// Checks that the script failed with exactly this message, and left nothing to link.
pub fn refused(outcome: &Outcome, message: &str) {
    assert_eq!(outcome.errors, [message]);
    assert_eq!(outcome.linked, [""; 0], "cargo is told to link something");
    let left: Vec<_> = fs::read_dir(&outcome.out)
        .expect("OUT_DIR")
        .map(|entry| entry.expect("an entry of OUT_DIR").file_name())
        .filter(|name| name.to_string_lossy().ends_with(".a"))
        .collect();
    assert_eq!(left, [""; 0], "a library is left");
}

/// Checks that an object is refused with the same message for each compiler and width.
pub fn refused_object(case: &str, source: &str, reason: &str) {
    for (compiler, target) in
        [("gcc", TARGET_64), ("clang", TARGET_64), ("gcc", TARGET_32), ("clang", TARGET_32)]
    {
        let outcome = assemble(case, source, target, &[("CC", compiler)]);
        refused(&outcome, &format!("patchlet: src/own.S: {reason}"));
    }
}

/// Checks that each assembler refuses a source, with a message that has these words among others.
pub fn refused_source(case: &str, source: &str, target: &str, words: &[&str]) {
    for compiler in ["gcc", "clang"] {
        let outcome = assemble(case, source, target, &[("CC", compiler)]);
        let [message] = &outcome.errors[..] else { panic!("{compiler}: {:?}", outcome.errors) };
        refused(&outcome, message);
        let rest = message.strip_prefix("patchlet: src/own.S does not assemble: ");
        let found = words.iter().try_fold(rest.unwrap_or_default(), |rest, words| {
            rest.split_once(words).map(|(_, rest)| rest)
        });
        assert!(found.is_some(), "{compiler}: {words:?} are not all, in order, in: {message}");
    }
}
