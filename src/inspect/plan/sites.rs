//! The plan of the sites of ops: which replacement each would get on a platform.

use std::collections::HashMap;

use super::platform::PlatformSpec;
use crate::insn::{InsnBuffer, Kind, Replacement};
use crate::inspect::elf::readable;
use crate::inspect::error::FileError;
use crate::inspect::formats::{SiteImage, VariantImage};
use crate::inspect::model::{Model, OpImage, SiteState};

/// The plan for one site.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SitePlan<'m> {
    /// Record of the site.
    pub record: &'m SiteImage,
    /// Op of the site.
    pub op: &'m OpImage,
    /// The variant of the op that the platform's CPU selects, if it selects one and nothing else is
    /// put into the slot.
    pub variant: Option<&'m VariantImage<'m>>,
    /// Kind of the replacement, in one word as the tool prints it.
    pub gets: &'static str,
    /// Bytes that the site holds.
    pub before: InsnBuffer,
    /// Bytes that the site would get.
    pub after: InsnBuffer,
}

/// Makes [`verify`](crate::inspect::verify()), [`plan_revert`] and [`Model::state`] compare the sites of a
/// file with their replacements on this platform, instead of those on bare metal.
///
/// # Errors
/// Returns an error if the file has no such slot or target.
pub fn on_platform<'d>(
    mut model: Model<'d>,
    platform: &PlatformSpec,
) -> Result<Model<'d>, FileError> {
    model.held =
        targets(&model, platform)?.into_iter().map(|(slot, held)| (slot, held.target)).collect();
    Ok(model)
}

/// Makes the plan that patches every site of a file for a platform.
///
/// # Errors
/// Returns an error if the file has no such slot or target, and for the first site that cannot be
/// patched.
pub fn plan<'m>(
    model: &'m Model<'_>,
    platform: &PlatformSpec,
) -> Result<Vec<SitePlan<'m>>, FileError> {
    let targets = targets(model, platform)?;
    let mut site_plans = Vec::new();
    for record in model.records() {
        let (op, kind, before) = known(model, record)?;
        let held = targets.get(&record.slot);
        let target = held.map_or(op.native.unwrap_or(0), |held| held.target);
        let replacement = model.replacement(op, target, kind);
        let after = model
            .composed(record, &replacement)
            .map_err(|error| bad(model, record, &error.to_string()))?;
        let variant = held.and_then(|held| held.variant);
        site_plans.push(SitePlan { record, op, variant, gets: words(&replacement), before, after });
    }
    Ok(site_plans)
}

/// Makes the plan that gives every site its indirect call or jump back.
///
/// # Errors
/// Returns an error for the first site that holds other bytes than the crate puts there.
pub fn plan_revert<'m>(model: &'m Model<'_>) -> Result<Vec<SitePlan<'m>>, FileError> {
    let mut site_plans = Vec::new();
    for record in model.records() {
        let (op, kind, before) = known(model, record)?;
        let after =
            model.indirect(record, kind).map_err(|error| bad(model, record, &error.to_string()))?;
        site_plans.push(SitePlan { record, op, variant: None, gets: "indirect", before, after });
    }
    Ok(site_plans)
}

/// Returns the kind of a replacement as the tool prints it.
const fn words(replacement: &Replacement<'_>) -> &'static str {
    match replacement {
        Replacement::Indirect(..) => "indirect",
        Replacement::Patchlet(_) => "patchlet",
        Replacement::Call(_) => "call",
        Replacement::Jump(_) => "jump",
        Replacement::Nops | Replacement::Nop(_) => "nothing",
        Replacement::Identity(_) => "identity",
        Replacement::Zero(_) => "zero",
        Replacement::Trap(_) => "trap",
    }
}

fn bad(model: &Model<'_>, record: &SiteImage, why: &str) -> FileError {
    FileError::new(format!("site {:#x} ({}): {why}", record.site, model.function(record.site)))
}

/// Returns the op, the kind and the bytes of a site, or an error if it does not hold bytes that
/// the crate puts there.
fn known<'m>(
    model: &'m Model<'_>,
    record: &SiteImage,
) -> Result<(&'m OpImage, Kind, InsnBuffer), FileError> {
    let in_text = model.image.section_at(record.site).filter(|section| section.is_executable());
    let (Some(op), Some(before), Some(_)) = (model.op(record), model.present(record), in_text)
    else {
        return Err(bad(model, record, "it is not inside an executable section"));
    };
    if model.state(record) == SiteState::Foreign {
        let why = format!(
            "it holds {before}, which is neither its indirect call or jump nor its native form: run `patchlet verify`"
        );
        return Err(bad(model, record, &why));
    }
    let kind = record.kind().ok_or_else(|| bad(model, record, "its kind is not possible"))?;
    Ok((op, kind, before))
}

/// The content of a slot on a platform, where that is not its native function.
struct Held<'m> {
    /// Address of the function, or 0 for null.
    target: u64,
    /// The variant that was selected, if this is its function for that reason.
    variant: Option<&'m VariantImage<'m>>,
}

/// Returns, for each slot that does not hold its native function, what it holds: what the platform
/// says, or else the variant that its CPU selects.
fn targets<'m>(
    model: &'m Model<'_>,
    platform: &PlatformSpec,
) -> Result<HashMap<u64, Held<'m>>, FileError> {
    let mut targets = HashMap::new();
    if let Some(cpu) = &platform.cpu {
        let features = cpu.features(model.variants())?;
        for op in &model.ops {
            if let Some(variant) = features.select(model.variants_of(op.slot)) {
                let variant: &VariantImage<'m> = variant;
                let held = Held { target: variant.function, variant: Some(variant) };
                targets.insert(op.slot, held);
            }
        }
    }
    for (slot, target) in &platform.overrides {
        let op = op_named(model, slot)?;
        let target = target_named(model, op, target)?;
        targets.insert(op.slot, Held { target, variant: None });
    }
    Ok(targets)
}

/// Returns an op by its name with or without its group, `table.name` or `table[index]`.
fn op_named<'m>(model: &'m Model<'_>, words: &str) -> Result<&'m OpImage, FileError> {
    let mut found = model.ops.iter().filter(|op| model.is_meant(op, words));
    match (found.next(), found.next()) {
        (Some(op), None) => Ok(op),
        (Some(one), Some(other)) => {
            let full = |op| format!("`{}.{}`", model.table_words(op), model.op_name(op));
            Err(FileError::new(format!(
                "`{words}` is the name of two ops: say {} or {}",
                full(one),
                full(other)
            )))
        }
        (None, _) => Err(model.no_such_op(words)),
    }
}

/// Returns the address of a target, which is given as a symbol, as `0x…`, or as one of the words
/// `null`, `nop`, `native` and `ident`.
fn target_named(model: &Model<'_>, op: &OpImage, words: &str) -> Result<u64, FileError> {
    match words {
        "null" => return Ok(0),
        "nop" => return Ok(model.nop),
        "native" => return Ok(op.native.unwrap_or(0)),
        "ident" => return Ok(model.ident),
        _ => {}
    }
    if let Some(digits) = words.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16)
            .map_err(|error| FileError::new(format!("`{words}` is no address: {error}")));
    }
    let symbols = model.image.symbols();
    if let Some(symbol) = symbols.find(words) {
        return Ok(symbol.address);
    }
    let mut readables = symbols.list().iter().filter(|symbol| {
        let name = symbols.name(symbol);
        // Mangled names of Rust begin with an underscore. Demangling all others would be slow.
        name.starts_with("_") && readable(name) == words
    });
    match (readables.next(), symbols.is_empty()) {
        (Some(symbol), _) => Ok(symbol.address),
        (None, true) => Err(FileError::new(format!(
            "no symbol `{words}`, as all are stripped: give the target's address as 0x…"
        ))),
        (None, false) => Err(FileError::new(format!(
            "no symbol `{words}`; a target is a symbol, 0x…, or one of nop, ident, null, native"
        ))),
    }
}
