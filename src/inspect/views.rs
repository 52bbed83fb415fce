//! What the tool shows of a patchlet, a site, and a planned change: the same
//! values as text and as JSON.

use serde::Serialize;

use super::disassemble::{bytes_in_hex, disassemble};
use super::image::Image;
use super::model::Model;
use super::patchlets::Patchlet;
use super::plan::Outcome;
use super::records::Record;
use crate::insn::InsnBuffer;

/// `patchlet list`
#[derive(Clone, Debug, Serialize)]
pub(super) struct PatchletView<'v> {
    pub name: &'v str,
    pub address: String,
    pub section: &'v str,
    pub length: usize,
    pub bytes: String,
    pub instructions: String,
}

impl<'v> PatchletView<'v> {
    pub fn new(image: &Image<'v>, patchlet: &Patchlet<'v>) -> Self {
        let bytes = patchlet.bytes;
        Self {
            name: patchlet.name,
            address: format!("{:#x}", patchlet.address),
            section: image.section(patchlet.section).map_or("?", |section| section.name),
            length: bytes.len(),
            bytes: bytes_in_hex(bytes),
            instructions: disassemble(image.width(), patchlet.address, bytes, |_| None),
        }
    }

    pub fn row(self) -> Vec<String> {
        vec![
            self.address,
            self.length.to_string(),
            self.name.to_owned(),
            self.section.to_owned(),
            self.bytes,
            self.instructions,
        ]
    }
}

/// `patchlet sites`
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
    pub fn new(model: &Model<'_>, record: &Record) -> Self {
        let present = model.present(record);
        let present = present.as_ref().map_or(&[][..], InsnBuffer::bytes);
        Self {
            address: format!("{:#x}", record.site),
            function: model.function(record.site),
            op: op_name(model, record),
            kind: kind(record),
            capacity: record.capacity,
            state: model.state(record).words(),
            bytes: bytes_in_hex(present),
            instructions: instructions(model, record, present),
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

/// `patchlet plan`
#[derive(Clone, Debug, Serialize)]
pub(super) struct OutcomeView {
    pub address: String,
    pub function: String,
    pub op: String,
    pub gets: &'static str,
    pub changes: bool,
    pub before: Code,
    pub after: Code,
}

/// Bytes, and what they mean.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Code {
    pub bytes: String,
    pub instructions: String,
}

impl OutcomeView {
    pub fn new(model: &Model<'_>, outcome: &Outcome<'_>) -> Self {
        let code = |buffer: &InsnBuffer| Code {
            bytes: buffer.to_string(),
            instructions: instructions(model, outcome.record, buffer.bytes()),
        };
        Self {
            address: format!("{:#x}", outcome.record.site),
            function: model.function(outcome.record.site),
            op: model.op_name(outcome.op),
            gets: outcome.gets,
            changes: outcome.before != outcome.after,
            before: code(&outcome.before),
            after: code(&outcome.after),
        }
    }
}

pub(super) fn op_name(model: &Model<'_>, record: &Record) -> String {
    model.op(record).map_or_else(|| "?".to_owned(), |op| model.op_name(op))
}

const fn kind(record: &Record) -> &'static str {
    match record.kind {
        0 => "call",
        1 => "jump",
        _ => "?",
    }
}

fn instructions(model: &Model<'_>, record: &Record, bytes: &[u8]) -> String {
    let name = |target: u64| {
        // Inside of the site there is no name worth telling.
        let outside = !(record.site..record.end()).contains(&target);
        let known = model.image().section_at(target).is_some_and(|section| section.is_executable());
        (outside && known).then(|| model.function(target))
    };
    disassemble(model.image().width(), record.site, bytes, name)
}
