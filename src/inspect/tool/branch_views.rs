//! The values that the tool shows of a variant, a key, a branch site and their planned changes. They
//! are the same in text and in JSON.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::views::{CodeView, code_at};
use crate::insn::InsnBuffer;
use crate::inspect::cpu::CpuSpec;
use crate::inspect::elf::Image;
use crate::inspect::error::FileError;
use crate::inspect::formats::{BranchImage, KeyImage, Means, VariantImage};
use crate::inspect::hex::bytes_in_hex;
use crate::inspect::model::Model;
use crate::inspect::plan::{BranchPlan, KeyPlan};

/// Returns the word for the state of a key or the side of a branch.
pub(super) const fn on_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

/// Returns the state of a key in words: of one that counts, how often it was switched on.
fn state_words(key: &KeyImage<'_>, state: u32) -> String {
    match (key.is_counted, state) {
        (true, count @ 1..) => format!("on, {count}"),
        (_, state) => on_off(state != 0).to_owned(),
    }
}

/// A variant as `patchlet list` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct VariantView {
    pub op: String,
    pub condition: String,
    pub function: String,
    pub address: String,
}

impl VariantView {
    /// Makes the view of a variant. `ops` has the name of the op for its slot, and `patchlets` that
    /// of the patchlet for its native function.
    pub fn new(
        image: &Image<'_>,
        ops: &HashMap<u64, &str>,
        patchlets: &HashMap<u64, &str>,
        variant: &VariantImage<'_>,
    ) -> Self {
        let symbols = image.symbols();
        let symbol = || symbols.at(variant.function).first();
        let function = match (variant.means, patchlets.get(&variant.function)) {
            (Means::Nothing, _) => "nothing".to_owned(),
            (Means::Patchlet, Some(patchlet)) => (*patchlet).to_owned(),
            _ => symbol().map_or("?".to_owned(), |symbol| symbols.readable(symbol).into_owned()),
        };
        let op = ops.get(&variant.slot).map(|&op| op.to_owned());
        Self {
            op: op.unwrap_or_else(|| format!("{:#x}", variant.slot)),
            condition: variant.condition.to_owned(),
            function,
            address: format!("{:#x}", variant.function),
        }
    }

    pub fn row(self) -> Vec<String> {
        let condition = if self.condition.is_empty() { "-".to_owned() } else { self.condition };
        vec![self.address, self.op, condition, self.function]
    }
}

/// The CPU of a plan: those names in the conditions of the file that hold on it, and the others.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CpuView {
    name: String,
    has: Vec<String>,
    lacks: Vec<String>,
}

impl CpuView {
    pub fn new(cpu: &CpuSpec, model: &Model<'_>) -> Result<Self, FileError> {
        let features = cpu.features(model.variants())?;
        let names = model.variants().iter().flat_map(VariantImage::requirements);
        let names: BTreeSet<&str> = names.map(|(name, _)| name).collect();
        let (has, lacks) =
            names.into_iter().map(str::to_owned).partition(|name| features.has(name));
        Ok(Self { name: cpu.name().to_owned(), has, lacks })
    }

    /// Returns the line that says so.
    pub fn line(&self) -> String {
        let list = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.join(" "),
        };
        let (name, has, lacks) = (&self.name, list(&self.has), list(&self.lacks));
        format!("{name}: of the features in conditions it has {has}, and lacks {lacks}")
    }
}

/// A key as `patchlet list` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct KeyView<'v> {
    pub name: &'v str,
    pub address: Option<String>,
    pub initially: &'static str,
    pub counted: bool,
    pub state: Option<u32>,
    pub path: Option<String>,
    #[serde(skip)]
    words: String,
}

impl<'v> KeyView<'v> {
    pub fn new(image: &Image<'_>, key: &KeyImage<'v>) -> Self {
        let symbols = image.symbols();
        let symbol = key.address.and_then(|address| symbols.at(address).first());
        Self {
            name: key.name,
            address: key.address.map(|address| format!("{address:#x}")),
            initially: on_off(key.initially_on),
            counted: key.is_counted,
            state: key.state,
            path: symbol.map(|symbol| symbols.readable(symbol).into_owned()),
            words: key.state.map_or_else(|| "?".to_owned(), |state| state_words(key, state)),
        }
    }

    pub fn row(self) -> Vec<String> {
        vec![
            self.address.unwrap_or_else(|| "-".to_owned()),
            self.name.to_owned(),
            if self.counted { "counted" } else { "plain" }.to_owned(),
            self.initially.to_owned(),
            self.words,
            self.path.unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

/// A branch site as `patchlet sites` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BranchView {
    pub address: String,
    pub function: String,
    pub key: String,
    /// The side that is behind the jump: `on` is what runs when the key is on.
    pub out_of_line: &'static str,
    pub form: &'static str,
    pub target: String,
    pub target_function: String,
    pub bytes: String,
}

impl BranchView {
    /// Makes the view of a branch site. `moved` is the distance from the addresses that the file was
    /// linked for to those at which it is loaded.
    pub fn new(model: &Model<'_>, branch: &BranchImage, moved: u64) -> Self {
        let present = model.branch_bytes(branch);
        Self {
            address: format!("{:#x}", branch.site.wrapping_add(moved)),
            function: model.function(branch.site),
            key: model.key_name_of(branch).to_owned(),
            out_of_line: branch.jumps_when().map_or("?", on_off),
            form: model.branch_form(branch).words(),
            target: format!("{:#x}", branch.target.wrapping_add(moved)),
            target_function: model.function(branch.target),
            bytes: bytes_in_hex(present.as_ref().map_or(&[], InsnBuffer::bytes)),
        }
    }

    pub fn row(self) -> Vec<String> {
        vec![
            self.address,
            self.key,
            self.out_of_line.to_owned(),
            self.form.to_owned(),
            self.bytes,
            self.target_function,
            self.function,
        ]
    }
}

/// The plan for a branch site as `patchlet plan` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BranchPlanView {
    pub address: String,
    pub function: String,
    pub key: String,
    pub gets: &'static str,
    pub changes: bool,
    pub before: CodeView,
    pub after: CodeView,
}

impl BranchPlanView {
    pub fn new(model: &Model<'_>, plan: &BranchPlan<'_>) -> Self {
        let site = plan.record.site..plan.record.end();
        let code = |buffer: &InsnBuffer| CodeView {
            bytes: bytes_in_hex(buffer.bytes()),
            instructions: code_at(model, site.clone(), buffer.bytes(), 0),
        };
        Self {
            address: format!("{:#x}", plan.record.site),
            function: model.function(plan.record.site),
            key: plan.key.name.to_owned(),
            gets: plan.gets.words(),
            changes: plan.before != plan.after,
            before: code(&plan.before),
            after: code(&plan.after),
        }
    }
}

/// The plan for a key as `patchlet plan` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct KeyPlanView<'v> {
    pub name: &'v str,
    pub address: String,
    pub before: u32,
    pub after: u32,
    #[serde(skip)]
    pub words: String,
}

impl<'v> KeyPlanView<'v> {
    pub fn new(plan: &KeyPlan<'v>) -> Self {
        let (key, before, after) = (plan.key, plan.before, plan.after);
        Self {
            name: key.name,
            address: format!("{:#x}", key.address.unwrap_or(0)),
            before,
            after,
            words: format!("{} → {}", state_words(key, before), state_words(key, after)),
        }
    }
}
