//! The checks of the records of branch sites, each by itself, and of keys.

use super::records::{self, BY_MACROS, BY_MACROS_ALONE, RELINK};
use super::reference::Reference;
use crate::inspect::elf::SymbolKind;
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::formats::{BRANCH_SIZE, BranchImage, KEY_WORD};
use crate::inspect::hex::bytes_in_hex;
use crate::inspect::model::{BranchForm, Model};
use crate::inspect::sweep::TextSite;

/// Checks all records and keys; returns the sites in executable sections.
pub(super) fn check<'m>(
    model: &'m Model<'_>,
    reference: &Reference<'_>,
    findings: &mut Findings,
) -> Vec<TextSite<'m>> {
    let table = ("table of branch sites", FindingCode::BranchCount);
    records::as_many_as_expected(table, model.branches().len(), reference.branches, findings);
    records::table_is_not_relocated(model, model.branches.range, findings);
    keys(model, findings);
    let mut sites = Vec::new();
    for record in model.branches() {
        if record_alone(model, record, findings) {
            sites.push(TextSite::of_branch(record));
        }
    }
    sites
}

/// Returns the place of a finding, such as `branch site 0x1234 (TRACE, main+0x4)`.
pub(super) fn place(model: &Model<'_>, record: &BranchImage) -> String {
    let (key, function) = (model.key_name_of(record), model.function(record.site));
    format!("branch site {:#x} ({key}, {function})", record.site)
}

/// Returns whether a branch of a module is by a key of the kernel's: whether a symbol that the kernel
/// is to export is at the address.
fn is_kernels_key(model: &Model<'_>, record: &BranchImage) -> bool {
    model.image.is_outside(record.key) && !model.image.symbols().at(record.key).is_empty()
}

/// Checks one record and its site. Returns whether the site lies in an executable section.
fn record_alone(model: &Model<'_>, record: &BranchImage, findings: &mut Findings) -> bool {
    let mut add = |code, what, fix| {
        findings.add(code, Some(record.site), place(model, record), what, fix);
    };
    let (capacity, direction, number) = (record.capacity, record.direction, record.number);
    let possible = capacity == BRANCH_SIZE && direction <= 1 && number == 0;
    if !possible {
        add(
            FindingCode::BranchRecord,
            format!(
                "its capacity is {capacity}, its direction {direction} and its number {number}, \
                 where {BRANCH_SIZE}, 0 or 1, and 0 are possible"
            ),
            RELINK,
        );
    }
    let key = model.key(record);
    // Where records of keys are damaged, that is the finding.
    if key.is_none() && model.knows_all_keys && !is_kernels_key(model, record) {
        add(
            FindingCode::BranchKey,
            format!("{:#x} is the address of no key", record.key),
            "define keys by the macros of patchlet, and keep the section patchlet_keys as \
             patchlet.ld does",
        );
    }
    if let Some(what) = records::outside_text(model, record.site, BRANCH_SIZE) {
        add(FindingCode::SiteOutsideText, what, RELINK);
        return false;
    }
    for what in records::written_by_loader(model, record.site, BRANCH_SIZE) {
        add(FindingCode::Relocation, what, BY_MACROS);
    }
    if let Err(what) = target(model, record) {
        add(FindingCode::BranchTarget, what, "let a branch go to a label of its own function only");
        return true;
    }
    if !possible {
        return true;
    }
    let form = model.branch_form(record);
    let expected = key.and_then(|key| Some(key.state? != 0));
    let jumps = expected.map(|is_on| record.jumps_when() == Some(is_on));
    match (form, jumps) {
        (BranchForm::Foreign, _) => {
            let present = model.branch_bytes(record);
            let bytes = |is_on| match model.branch_bytes_for(record, is_on) {
                Ok(bytes) => bytes.to_string(),
                Err(error) => format!("(none: {error})"),
            };
            add(
                FindingCode::SiteBytes,
                format!(
                    "it holds {}, where {} (off) or {} (on) must be",
                    bytes_in_hex(present.as_ref().map_or(&[], |present| present.bytes())),
                    bytes(false),
                    bytes(true)
                ),
                BY_MACROS_ALONE,
            );
        }
        (BranchForm::Nop, Some(true)) | (BranchForm::Jump, Some(false)) => {
            let state = if expected == Some(true) { "on" } else { "off" };
            add(
                FindingCode::BranchState,
                format!("it is a {}, and its key is {state} in the file", form.words()),
                "set keys by `patchlet apply --key`, which changes the key and all of its sites",
            );
        }
        (BranchForm::Nop | BranchForm::Jump, _) => {}
    }
    true
}

/// Checks where a branch site jumps to: an address in text, in reach, in the function of the site.
/// Whether an instruction starts there is checked with all text, in `text.rs`. Returns what is
/// wrong.
fn target(model: &Model<'_>, record: &BranchImage) -> Result<(), String> {
    let (site, target) = (record.site, record.target);
    let section = model.image.section_at(target).filter(|section| section.is_executable());
    if section.is_none() {
        return Err(format!("its target {target:#x} is not in an executable section"));
    }
    // The bytes of a jump are those for one of the two states of the key.
    for is_on in [false, true] {
        if let Err(error) = model.branch_bytes_for(record, is_on) {
            return Err(format!("its target {target:#x} is out of reach: {error}"));
        }
    }
    if in_one_function(model, site, target) {
        return Ok(());
    }
    Err(format!("its target {target:#x} is in another function, {}", model.function(target)))
}

/// Returns whether two addresses are in one function, as far as symbols tell. Where a compiler
/// puts the cold part of a function elsewhere, it is a symbol of its own, `main.cold`. In a file
/// without symbols nothing is known, and in code without functions (labels of assembly) neither.
fn in_one_function(model: &Model<'_>, one: u64, other: u64) -> bool {
    let symbols = model.image.symbols();
    let function = |address| {
        let section = model.image.section_at(address)?;
        let (symbol, _) = symbols.function(section.index, address)?;
        (symbol.kind == SymbolKind::Function).then_some(symbol)
    };
    let Some(of_one) = function(one) else { return true };
    let Some(of_other) = function(other) else { return false };
    /// The largest number of names of one function that are looked at.
    const NAMES: usize = 16;
    // One function can have several names, and so can its part.
    let names =
        |address| symbols.at(address).iter().take(NAMES).map(|symbol| whole(symbols.name(symbol)));
    of_one.address == of_other.address
        || names(of_one.address).any(|name| names(of_other.address).any(|other| name == other))
}

/// Returns the name of the function that a symbol is a part of. GCC and LLVM put cold code into
/// `main.cold` or `main.cold.1`, and LLVM other parts into `main.__part.1`.
fn whole(name: &str) -> &str {
    let end = [".cold", ".__part."].iter().filter_map(|part| name.find(part)).min();
    end.and_then(|end| name.get(..end)).unwrap_or(name)
}

/// Checks that each key is a word of its own in writable data, and that nothing but the kernel
/// writes to it.
fn keys(model: &Model<'_>, findings: &mut Findings) {
    let mut before: Option<u64> = None;
    for key in model.keys() {
        let Some(address) = key.address else { continue };
        let mut add = |code, what: String| {
            findings.add(
                code,
                Some(address),
                format!("key `{}` at {address:#x}", key.name),
                what,
                "define keys by the macros of patchlet only, as statics in writable data",
            );
        };
        let section = model.image.section_at(address);
        match (section, key.state) {
            (Some(section), Some(_)) if section.is_writable() && !section.is_executable() => {}
            (Some(section), Some(_)) => {
                add(FindingCode::Key, format!("is in {}, which is no writable data", section.name));
            }
            _ => add(FindingCode::Key, "is in no section of the file".to_owned()),
        }
        if !address.is_multiple_of(KEY_WORD) {
            add(FindingCode::Key, format!("is not aligned to {KEY_WORD} bytes"));
        }
        if before.is_some_and(|before| address - before < KEY_WORD) {
            add(FindingCode::Key, "shares bytes with another key".to_owned());
        }
        before = Some(address);
        let end = address.saturating_add(KEY_WORD);
        for relocation in model.image.relocations_in(address, end) {
            let place = relocation.address;
            add(FindingCode::Relocation, format!("has a relocation at {place:#x}"));
        }
    }
}
