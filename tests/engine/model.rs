//! The model: choosing and composing once more, in the most naive way. NOPs are in hex as the
//! manuals print them, arithmetic is done in 128 bits, and the fewest NOPs are found by trying.

use patchlet::Replacement;
use patchlet::{ComposeError, Kind, Nops, Width};

/// A replacement, without the bytes.
#[cfg(not(miri))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Trap,
    Nops,
    Identity,
    Zero,
    Patchlet,
    Call,
    Jump,
}

/// What choosing goes by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub width: Width,
    /// The op's own patchlets: the native function of each, and its bytes.
    pub own: &'a [(u64, &'a [u8])],
    pub nop: u64,
    pub ident: u64,
    pub zero: u64,
}

/// The six rules.
pub fn choose<'a>(facts: &Facts<'a>, slot: u64, kind: Kind) -> Replacement<'a> {
    if slot == 0 {
        return Replacement::Trap(TRAP);
    }
    if slot == facts.nop {
        return Replacement::Nops;
    }
    if slot == facts.ident {
        return match facts.width {
            Width::Bits64 => Replacement::Identity(IDENTITY),
            Width::Bits32 => Replacement::Nops,
        };
    }
    for &(native, patchlet) in facts.own {
        if slot == native {
            return Replacement::Patchlet(patchlet);
        }
    }
    if slot == facts.zero {
        return Replacement::Zero(ZERO);
    }
    if kind == Kind::Call { Replacement::Call(slot) } else { Replacement::Jump(slot) }
}

/// The kind of a replacement, for reports; `None` is the indirect call or jump.
#[cfg(not(miri))]
pub fn what(replacement: &Replacement<'_>) -> Option<What> {
    Some(match replacement {
        Replacement::Indirect(..) => return None,
        Replacement::Patchlet(_) => What::Patchlet,
        Replacement::Call(_) => What::Call,
        Replacement::Jump(_) => What::Jump,
        Replacement::Nops | Replacement::Nop(_) => What::Nops,
        Replacement::Identity(_) => What::Identity,
        Replacement::Zero(_) => What::Zero,
        Replacement::Trap(_) => What::Trap,
    })
}

pub fn hex(digits: &str) -> Vec<u8> {
    digits.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

pub const TRAP: &[u8] = &[0x0f, 0x0b];
pub const IDENTITY: &[u8] = &[0x48, 0x89, 0xf8];
pub const ZERO: &[u8] = &[0x31, 0xc0];

const LONG: [&str; 9] = [
    "90",
    "66 90",
    "0f 1f 00",
    "0f 1f 40 00",
    "0f 1f 44 00 00",
    "66 0f 1f 44 00 00",
    "0f 1f 80 00 00 00 00",
    "0f 1f 84 00 00 00 00 00",
    "66 0f 1f 84 00 00 00 00 00",
];
const LEA: [&str; 6] =
    ["90", "89 f6", "8d 76 00", "8d 74 26 00", "8d b6 00 00 00 00", "8d b4 26 00 00 00 00"];

/// The single instructions of a family, shortest first. 64-bit code always gets
/// the long ones.
pub fn family(width: Width, nops: Nops) -> Vec<Vec<u8>> {
    match (width, nops) {
        (Width::Bits32, Nops::Lea) => LEA.iter().map(|digits| hex(digits)).collect(),
        _ => LONG.iter().map(|digits| hex(digits)).collect(),
    }
}

/// How many instructions of the family it takes at least to fill each length up
/// to `len`.
pub fn fewest(family: &[Vec<u8>], len: usize) -> Vec<usize> {
    let mut fewest = vec![0];
    for total in 1..=len {
        let last = family.iter().filter(|nop| nop.len() <= total);
        fewest.push(1 + last.map(|nop| fewest[total - nop.len()]).min().unwrap());
    }
    fewest
}

/// Returns `len` bytes of the fewest NOPs, longest first. The `lea` family has none of five bytes:
/// there it is the NOP of one byte and then that of four.
pub fn nops(family: &[Vec<u8>], len: usize) -> Vec<u8> {
    if len == 0 {
        return Vec::new();
    }
    let fewest = fewest(family, len);
    let starts_best =
        |nop: &&Vec<u8>| nop.len() <= len && fewest[len - nop.len()] + 1 == fewest[len];
    let mut good = family.iter().filter(starts_best);
    let no_five = family.iter().all(|nop| nop.len() != 5);
    let first = if len == 5 && no_five { good.next() } else { good.next_back() }.unwrap();
    [first.clone(), nops(family, len - first.len())].concat()
}

/// The displacement from the end of an instruction to an address, if four bytes
/// hold it: that number of all those equal to it modulo the address size.
pub fn displacement(width: Width, end: i128, target: u64) -> Option<[u8; 4]> {
    let bits = if width == Width::Bits64 { 64 } else { 32 };
    if i128::from(target) >= 1 << bits {
        return None;
    }
    (-2..=2)
        .map(|wraps| i128::from(target) - end + wraps * (1 << bits))
        .find_map(|distance| i32::try_from(distance).ok())
        .map(i32::to_le_bytes)
}

/// All bytes of a site with this replacement. Where several things are wrong,
/// any of the errors will do.
pub fn compose(
    width: Width,
    nops_of: Nops,
    site: u64,
    capacity: u8,
    replacement: &Replacement<'_>,
) -> Result<Vec<u8>, Vec<ComposeError>> {
    let mut errors = Vec::new();
    if !(1..=32).contains(&capacity) {
        return Err(vec![ComposeError::Capacity { capacity }]);
    }
    let end = i128::from(site) + 5;
    let mut branch = |opcode: u8, target: u64| {
        let displacement = displacement(width, end, target).unwrap_or_else(|| {
            errors.push(ComposeError::OutOfReach { target });
            [0; 4]
        });
        [&[opcode][..], &displacement].concat()
    };
    let mut bytes = match *replacement {
        Replacement::Call(target) => branch(0xe8, target),
        Replacement::Jump(target) => branch(0xe9, target),
        Replacement::Nops => Vec::new(),
        Replacement::Indirect(kind, slot) => {
            return indirect(width, kind, site, capacity, slot).map_err(|error| vec![error]);
        }
        Replacement::Patchlet(bytes)
        | Replacement::Nop(bytes)
        | Replacement::Identity(bytes)
        | Replacement::Zero(bytes)
        | Replacement::Trap(bytes) => bytes.to_vec(),
    };
    if bytes.len() > usize::from(capacity) {
        errors.push(ComposeError::TooLong { len: bytes.len(), capacity });
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    bytes.extend(nops(&family(width, nops_of), usize::from(capacity) - bytes.len()));
    Ok(bytes)
}

/// All bytes of an unpatched site.
pub fn indirect(
    width: Width,
    kind: Kind,
    site: u64,
    capacity: u8,
    slot: u64,
) -> Result<Vec<u8>, ComposeError> {
    if !(1..=32).contains(&capacity) {
        return Err(ComposeError::Capacity { capacity });
    }
    if capacity < 6 {
        return Err(ComposeError::TooLong { len: 6, capacity });
    }
    let operand = match width {
        Width::Bits64 => displacement(width, i128::from(site) + 6, slot),
        Width::Bits32 => u32::try_from(slot).ok().map(u32::to_le_bytes),
    };
    let operand = operand.ok_or(ComposeError::OutOfReach { target: slot })?;
    let mut bytes = vec![0xff, if kind == Kind::Call { 0x15 } else { 0x25 }];
    bytes.extend(operand);
    bytes.resize(usize::from(capacity), 0x90);
    Ok(bytes)
}
