//! The values that the tool shows of a patchlet, a site, a planned change and a raw instruction.
//! Those of branches and keys are in `branch_views.rs`.
//! They are the same in text and in JSON.

use std::ops::Range;

use serde::Serialize;

use super::places::{self, PlaceView, places};
use crate::disassemble::disassemble;
use crate::insn::InsnBuffer;
use crate::inspect::elf::Image;
use crate::inspect::formats::{PatchletImage, SiteImage};
use crate::inspect::hex::bytes_in_hex;
use crate::inspect::model::Model;
use crate::inspect::plan::SitePlan;
use crate::inspect::raw::RawInstruction;

/// A patchlet as `patchlet list` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PatchletView<'v> {
    pub name: &'v str,
    pub address: String,
    pub section: &'v str,
    pub length: usize,
    pub bytes: String,
    pub instructions: String,
    /// Those of a blob.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlaceView<'v>>,
}

impl<'v> PatchletView<'v> {
    pub fn new(image: &Image<'v>, patchlet: &PatchletImage<'v>) -> Self {
        let bytes = patchlet.bytes;
        let instructions = if patchlet.is_blob {
            places::words(patchlet)
        } else {
            disassemble(image.width(), patchlet.address, bytes, |_| None)
        };
        Self {
            name: patchlet.name,
            address: format!("{:#x}", patchlet.address),
            section: image.section(patchlet.section).map_or("?", |section| section.name),
            length: bytes.len(),
            bytes: bytes_in_hex(bytes),
            instructions,
            places: places(patchlet).collect(),
        }
    }

    pub fn row(self) -> Vec<String> {
        /// The most characters of a blob's bytes that are shown.
        const SHOWN: usize = 24;
        let bytes = match self.bytes.get(..SHOWN) {
            Some(first) if !self.places.is_empty() => format!("{} …", first.trim_end()),
            _ => self.bytes,
        };
        vec![
            self.address,
            self.length.to_string(),
            self.name.to_owned(),
            self.section.to_owned(),
            bytes,
            self.instructions,
        ]
    }
}

/// A site as `patchlet sites` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SiteView {
    pub address: String,
    pub function: String,
    pub op: String,
    pub kind: &'static str,
    pub capacity: u8,
    pub state: &'static str,
    pub bytes: String,
    pub instructions: String,
}

impl SiteView {
    /// Makes the view of a site. `moved` is the distance from the addresses that the file was
    /// linked for to those at which it is loaded.
    pub fn new(model: &Model<'_>, record: &SiteImage, moved: u64) -> Self {
        let present = model.present(record);
        let present = present.as_ref().map_or(&[][..], InsnBuffer::bytes);
        Self {
            address: format!("{:#x}", record.site.wrapping_add(moved)),
            function: model.function(record.site),
            op: model.op_name_of(record),
            kind: record.kind_words(),
            capacity: record.capacity,
            state: model.state(record).words(),
            bytes: bytes_in_hex(present),
            instructions: instructions(model, record, present, moved),
        }
    }

    pub fn row(self) -> Vec<String> {
        vec![
            self.address,
            self.op,
            self.kind.to_owned(),
            self.capacity.to_string(),
            self.bytes,
            self.instructions,
            self.function,
        ]
    }
}

/// The plan for a site as `patchlet plan` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SitePlanView {
    pub address: String,
    pub function: String,
    pub op: String,
    pub gets: &'static str,
    /// Condition of the variant that the platform's CPU selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    pub changes: bool,
    pub before: CodeView,
    pub after: CodeView,
}

/// Bytes in hexadecimal, and the instructions that they are.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CodeView {
    pub bytes: String,
    pub instructions: String,
}

impl SitePlanView {
    pub fn new(model: &Model<'_>, site_plan: &SitePlan<'_>) -> Self {
        let code = |buffer: &InsnBuffer| CodeView {
            bytes: bytes_in_hex(buffer.bytes()),
            instructions: instructions(model, site_plan.record, buffer.bytes(), 0),
        };
        Self {
            address: format!("{:#x}", site_plan.record.site),
            function: model.function(site_plan.record.site),
            op: model.op_name(site_plan.op),
            gets: site_plan.gets,
            condition: site_plan.variant.map(|variant| variant.condition.to_owned()),
            changes: site_plan.before != site_plan.after,
            before: code(&site_plan.before),
            after: code(&site_plan.after),
        }
    }
}

/// A raw instruction as `patchlet raw` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RawView {
    pub address: String,
    pub function: String,
    pub op: String,
    pub bytes: String,
    pub instructions: String,
}

impl RawView {
    pub fn new(model: &Model<'_>, raw: &RawInstruction) -> Self {
        let image = model.image();
        let bytes = image.bytes_at(raw.address, raw.len.into()).unwrap_or_default();
        Self {
            address: format!("{:#x}", raw.address),
            function: model.function(raw.address),
            op: Self::op_of(model, raw).to_owned(),
            bytes: bytes_in_hex(bytes),
            instructions: disassemble(image.width(), raw.address, bytes, |_| None),
        }
    }

    /// Returns the name of the op that would replace a raw instruction.
    pub fn op_of<'m>(model: &'m Model<'_>, raw: &RawInstruction) -> &'m str {
        let patchlet = usize::try_from(raw.patchlet).ok();
        patchlet
            .and_then(|at| model.patchlets().get(at))
            .map_or("?", |patchlet| model.op_name_of_patchlet(patchlet))
    }

    pub fn row(self) -> Vec<String> {
        vec![self.address, self.op, self.bytes, self.instructions, self.function]
    }
}

/// Returns the instructions of a site as text, with the names of branch targets.
fn instructions(model: &Model<'_>, record: &SiteImage, bytes: &[u8], moved: u64) -> String {
    code_at(model, record.site..record.end(), bytes, moved)
}

/// Returns the instructions that a site has with these bytes, as text, with the names of branch
/// targets.
pub(super) fn code_at(model: &Model<'_>, site: Range<u64>, bytes: &[u8], moved: u64) -> String {
    let name = |target: u64| {
        let target = target.wrapping_sub(moved);
        // A target inside of the site would only get the name of the function that has the site.
        let outside = !site.contains(&target);
        let known = model.image().section_at(target).is_some_and(|section| section.is_executable());
        (outside && known).then(|| model.function(target))
    };
    disassemble(model.image().width(), site.start.wrapping_add(moved), bytes, name)
}
