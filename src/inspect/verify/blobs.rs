//! The checks of blobs. The code of a blob is decoded from the start of each stretch of code on, in
//! the mode that the records say: every instruction, and with it every operand, stands where the CPU
//! finds it. So it is proven that a hole is an operand that a number can fill.

use std::collections::{HashMap, HashSet};

use iced_x86::{Decoder, DecoderOptions, EncodingKind, Instruction, OpKind, Register};

use super::patchlets::{missing, place as place_of};
use super::reference::Reference;
use crate::contract::Meaning;
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::formats::{HoleImage, PatchletImage, PlaceImage, PlaceMode};
use crate::inspect::model::Model;

const BY_MACROS: &str =
    "define places by the macros of patchlet.h only, and link the objects of one build";

pub(super) fn check(model: &Model<'_>, reference: &Reference<'_>, findings: &mut Findings) {
    for blob in model.patchlets.iter().filter(|patchlet| patchlet.is_blob) {
        BlobCheck { blob, findings }.all();
    }
    for contract in &reference.blobs {
        let blob =
            model.patchlets.iter().find(|found| found.is_blob && found.name == contract.name);
        let Some(blob) = blob else {
            missing(&contract.name, "the contracts", findings);
            continue;
        };
        let (holes, offsets): (Vec<_>, Vec<_>) =
            named(blob).partition(|place| place.hole.is_some());
        described(blob, "hole", &holes, &contract.holes, findings);
        described(blob, "place", &offsets, &contract.offsets, findings);
    }
}

fn named<'p, 'd>(blob: &'p PatchletImage<'d>) -> impl Iterator<Item = &'p PlaceImage<'d>> {
    blob.places.iter().filter(|place| !place.name.is_empty())
}

/// Checks that the comment above a blob describes all of its holes, or of its places, and no others.
fn described(
    blob: &PatchletImage<'_>,
    what: &str,
    there: &[&PlaceImage<'_>],
    described: &[Meaning],
    findings: &mut Findings,
) {
    let mut add = |what: String| {
        findings.add(
            FindingCode::Contract,
            Some(blob.address),
            place_of(blob),
            what,
            "correct the comment above PATCHLET_BLOB: a line `name = meaning` for each",
        );
    };
    for place in there {
        if !described.iter().any(|meaning| meaning.name == place.name) {
            add(format!("has a {what} `{}` that its comment does not describe", place.name));
        }
    }
    for Meaning { name, .. } in described {
        if !there.iter().any(|place| place.name == name) {
            add(format!("has no {what} `{name}`, which its comment describes"));
        }
    }
}

/// The check of one blob.
struct BlobCheck<'c, 'd> {
    blob: &'c PatchletImage<'d>,
    findings: &'c mut Findings,
}

/// The operand with which an instruction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastOperand {
    /// A number of so many bytes. `extended`: its sign is extended, because the CPU computes with
    /// more bytes.
    Number { width: usize, extended: bool },
    /// A distance from the instruction, of so many bytes.
    Distance { width: usize },
}

/// The instructions of a blob.
#[derive(Default)]
struct Decoded {
    /// The offsets at which instructions start.
    starts: HashSet<usize>,
    /// For the offset behind each instruction that ends with an operand: that operand.
    operands: HashMap<usize, LastOperand>,
}

impl BlobCheck<'_, '_> {
    fn all(mut self) {
        let blob = self.blob;
        let len = blob.bytes.len();
        if blob.places.is_empty() {
            let what = "the section patchlet_places says nothing of it".to_owned();
            let fix = "keep the section in the link script, as patchlet.ld does";
            self.add(FindingCode::BlobPlace, 0_u64, what, fix);
            return;
        }
        // The stretches of code and data, in their order: offset and mode.
        let stretches: Vec<(usize, PlaceMode)> = blob
            .places
            .iter()
            .filter(|place| place.name.is_empty())
            .map(|place| (place.offset.into(), place.mode))
            .collect();
        if !stretches.is_sorted_by_key(|stretch| stretch.0)
            || stretches.first().is_none_or(|first| first.0 != 0)
            || stretches.iter().any(|stretch| stretch.0 > len)
        {
            let what = "its records of PATCHLET_CODE are not in their order".to_owned();
            self.add(FindingCode::BlobPlace, 0_u64, what, BY_MACROS);
            return;
        }
        let mut decoded = Decoded::default();
        for (at, &(start, mode)) in stretches.iter().enumerate() {
            let end = stretches.get(at + 1).map_or(len, |next| next.0);
            if let Some(bits) = mode.bits() {
                self.decode(start, end, bits, &mut decoded);
            }
        }
        let mut seen: HashMap<&str, &PlaceImage<'_>> = HashMap::new();
        for place in named(blob) {
            if seen.insert(place.name, place).is_some() {
                let what = format!("has two places or holes that are called `{}`", place.name);
                self.add(FindingCode::BlobPlace, place.offset, what, "give each another name");
            }
            let at = usize::from(place.offset);
            let behind = stretches.partition_point(|stretch| stretch.0 <= at);
            let mode = behind.checked_sub(1).and_then(|last| stretches.get(last));
            let mode = mode.map_or(PlaceMode::Data, |stretch| stretch.1);
            match place.hole {
                Some(hole) => self.hole(place, hole, mode, &decoded),
                None => self.place(place, mode, &decoded),
            }
        }
        self.apart();
    }

    fn add(&mut self, code: FindingCode, at: impl Into<u64>, what: String, fix: &'static str) {
        let address = self.blob.address.saturating_add(at.into());
        self.findings.add(code, Some(address), place_of(self.blob), what, fix);
    }

    /// Decodes a stretch of code. It must consist of instructions, which refer to nothing outside of
    /// the blob by a distance.
    fn decode(&mut self, start: usize, end: usize, bits: u32, decoded: &mut Decoded) {
        let blob = self.blob;
        let bytes = blob.bytes.get(start..end).unwrap_or_default();
        // Offsets in the blob stand for addresses. In 16-bit code they wrap where addresses would.
        let mut decoder = Decoder::with_ip(bits, bytes, start as u64, DecoderOptions::NONE);
        while decoder.can_decode() {
            let at = start + decoder.position();
            let instruction = decoder.decode();
            decoded.starts.insert(at);
            if instruction.is_invalid() {
                self.add(
                    FindingCode::BlobCode,
                    at as u64,
                    format!("its bytes at offset {at:#x} are no instruction of {bits}-bit code"),
                    "write PATCHLET_DATA before data, and PATCHLET_CODE before code of another mode",
                );
                return;
            }
            let distance = distance(&instruction);
            if let Some(target) = distance
                && target >= blob.bytes.len() as u64
            {
                self.add(
                    FindingCode::BlobCode,
                    at as u64,
                    format!(
                        "the instruction at offset {at:#x} refers to something outside of the blob, at \
                         a distance that is another one in a copy"
                    ),
                    "give the address in a hole, and go there by a register",
                );
            }
            let constants = decoder.get_constant_offsets(&instruction);
            // The field of the operand that stands last.
            let (field, width, is_displacement) = if constants.has_immediate2() {
                (constants.immediate_offset2(), constants.immediate_size2(), false)
            } else if constants.has_immediate() {
                (constants.immediate_offset(), constants.immediate_size(), false)
            } else if constants.has_displacement() {
                (constants.displacement_offset(), constants.displacement_size(), true)
            } else {
                continue;
            };
            // The opcode of a 3DNow! instruction stands behind its displacement. An EVEX instruction
            // counts a displacement of one byte in units of its memory operand.
            let is_scaled = is_displacement && width == 1 && is_evex(&instruction);
            if field + width != instruction.len() || is_scaled {
                continue;
            }
            let is_distance = if is_displacement {
                instruction.is_ip_rel_memory_operand()
            } else {
                is_near(&instruction)
            };
            let operand = if is_distance {
                LastOperand::Distance { width }
            } else {
                let extended = if is_displacement {
                    is_extended_displacement(&instruction, width)
                } else {
                    is_extended_immediate(&instruction)
                };
                LastOperand::Number { width, extended }
            };
            decoded.operands.insert(at + instruction.len(), operand);
        }
    }

    /// Checks that a hole is the operand with which an instruction ends.
    fn hole(
        &mut self,
        place: &PlaceImage<'_>,
        hole: HoleImage,
        mode: PlaceMode,
        decoded: &Decoded,
    ) {
        let (name, at) = (place.name, usize::from(place.offset));
        let end = at + usize::from(hole.width);
        let mut bad = |what: String, fix| {
            self.add(FindingCode::BlobHole, place.offset, format!("hole `{name}` {what}"), fix);
        };
        const BEHIND: &str =
            "write PATCHLET_HOLE right behind the instruction, with the width of its last operand";
        let is = match decoded.operands.get(&end) {
            _ if mode == PlaceMode::Data => {
                bad(format!("is in data, at offset {at:#x}"), BEHIND);
                return;
            }
            None => {
                bad(
                    format!("at offset {at:#x}: no instruction ends with an operand there"),
                    BEHIND,
                );
                return;
            }
            Some(&operand) => operand,
        };
        match is {
            LastOperand::Distance { .. } => bad(
                format!(
                    "at offset {at:#x} is a distance from its instruction, which is another one in \
                     each copy"
                ),
                "give the address in a hole, and go there by a register",
            ),
            LastOperand::Number { width, .. } if width != usize::from(hole.width) => bad(
                format!(
                    "at offset {at:#x} has {} byte(s), and the operand that ends there {width}",
                    hole.width
                ),
                BEHIND,
            ),
            LastOperand::Number { extended: true, .. } if !hole.signed => bad(
                format!("at offset {at:#x} is an operand whose sign the CPU extends"),
                "write PATCHLET_HOLE_SIGNED, or an instruction that takes all of its bits",
            ),
            LastOperand::Number { .. } if place.mode != mode => bad(
                format!("was made as {}, and stands in {}", place.mode.words(), mode.words()),
                "write PATCHLET_CODE instead of .code16, .code32 and .code64",
            ),
            LastOperand::Number { .. } => {}
        }
    }

    /// Checks that a place is in the blob and, in code, at the start of an instruction.
    fn place(&mut self, place: &PlaceImage<'_>, mode: PlaceMode, decoded: &Decoded) {
        let (name, at) = (place.name, usize::from(place.offset));
        let (what, fix) = if at >= self.blob.bytes.len() {
            ("is outside of the blob".to_owned(), BY_MACROS)
        } else if mode == PlaceMode::Data {
            return;
        } else if place.mode != mode {
            (
                format!("was made as {}, and stands in {}", place.mode.words(), mode.words()),
                "write PATCHLET_CODE instead of .code16, .code32 and .code64",
            )
        } else if !decoded.starts.contains(&at) {
            ("is in the middle of an instruction".to_owned(), BY_MACROS)
        } else {
            return;
        };
        let what = format!("place `{name}` at offset {at:#x} {what}");
        self.add(FindingCode::BlobPlace, place.offset, what, fix);
    }

    /// Checks that no two holes share bytes.
    fn apart(&mut self) {
        let mut holes: Vec<(usize, usize, &str)> = named(self.blob)
            .filter_map(|place| {
                let (at, width) = (usize::from(place.offset), usize::from(place.hole?.width));
                Some((at, at + width, place.name))
            })
            .collect();
        holes.sort_unstable();
        for pair in holes.windows(2) {
            if let [first, second] = pair
                && second.0 < first.1
            {
                let what = format!("holes `{}` and `{}` share bytes", first.2, second.2);
                self.add(FindingCode::BlobHole, second.0 as u64, what, "an operand is one hole");
            }
        }
    }
}

/// Returns the offset in the blob that an instruction names by the distance from itself.
fn distance(instruction: &Instruction) -> Option<u64> {
    if is_near(instruction) {
        return Some(instruction.near_branch_target());
    }
    instruction.is_ip_rel_memory_operand().then(|| instruction.ip_rel_memory_address())
}

fn is_near(instruction: &Instruction) -> bool {
    matches!(
        instruction.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    )
}

fn is_evex(instruction: &Instruction) -> bool {
    instruction.code().encoding() == EncodingKind::EVEX
}

/// Returns whether the CPU extends the sign of the instruction's immediate.
fn is_extended_immediate(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| {
        matches!(
            instruction.op_kind(operand),
            OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64
        )
    })
}

/// Returns whether the CPU extends the sign of the instruction's displacement, which has so many
/// bytes: whether addresses have more.
fn is_extended_displacement(instruction: &Instruction, width: usize) -> bool {
    let address = |register: Register| (register != Register::None).then(|| register.size());
    let of_registers = address(instruction.memory_base()).or(address(instruction.memory_index()));
    // Without a register, iced-x86 tells how many bytes the extended displacement has.
    let bytes = of_registers.unwrap_or(instruction.memory_displ_size() as usize);
    width < bytes
}
