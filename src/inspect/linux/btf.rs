//! The types of a kernel in its section `.BTF` (Linux' documentation, "BPF Type Format"): which
//! member of a structure lies where in this build.
//!
//! Only structures, unions and arrays are looked at, the others are skipped. Nothing is copied: a
//! lookup goes through the section once.

use crate::inspect::elf::{little_endian, slice};

/// The types in a section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Types<'d> {
    types: &'d [u8],
    names: &'d [u8],
}

/// A member of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeMember {
    /// Offset in bytes.
    pub offset: u64,
    /// The number of elements, if it is an array.
    pub elements: Option<u32>,
}

/// A type as it stands in the section.
struct RawType<'d> {
    name: u32,
    kind: u32,
    /// Whether the offsets of members have the size of a bit field in their highest byte.
    has_bit_fields: bool,
    size: u32,
    /// What follows, as the kind says.
    rest: &'d [u8],
}

const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// How deep structures and unions without a name can lie in each other.
const DEEPEST: u32 = 2;

impl<'d> Types<'d> {
    /// Reads the header of a section.
    pub(crate) fn new(data: &'d [u8]) -> Option<Self> {
        let field = |at: u64, len: u64| slice(data, at, len).map(little_endian);
        // Magic number, version and flags; then the header's length, and offset and length of the
        // types and of the names.
        if field(0, 2)? != 0xeb9f || field(2, 1)? != 1 {
            return None;
        }
        let header = field(4, 4)?;
        let part = |at: u64| slice(data, header.checked_add(field(at, 4)?)?, field(at + 4, 4)?);
        Some(Self { types: part(8)?, names: part(16)? })
    }

    /// Returns all types, in the order of their numbers, which begin with 1.
    fn iter(self) -> impl Iterator<Item = RawType<'d>> {
        let mut rest = self.types;
        std::iter::from_fn(move || {
            let (head, behind) = rest.split_at_checked(12)?;
            let number = |at: usize| head.get(at..at + 4).map_or(0, little_endian) as u32;
            let (kind, count) = (number(4) >> 24 & 0x1f, number(4) as usize & 0xffff);
            let len = match kind {
                // Integers, variables and tags of declarations.
                1 | 14 | 17 => 4,
                ARRAY => 12,
                STRUCT | UNION | 15 | 19 => 12 * count,
                // Enumerations, and parameters of functions.
                6 | 13 => 8 * count,
                2 | 7..=12 | 16 | 18 => 0,
                _ => return None,
            };
            let (more, behind) = behind.split_at_checked(len)?;
            rest = behind;
            Some(RawType {
                name: number(0),
                kind,
                has_bit_fields: number(4) >> 31 == 1,
                size: number(8),
                rest: more,
            })
        })
    }

    /// Returns whether a name of the section is this one.
    fn is_named(self, name: u32, this: &str) -> bool {
        let rest =
            self.names.get(name as usize..).and_then(|rest| rest.strip_prefix(this.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Returns the size of a structure in bytes.
    pub(crate) fn size(self, structure: &str) -> Option<u32> {
        Some(self.structure(structure)?.size)
    }

    fn structure(self, name: &str) -> Option<RawType<'d>> {
        self.iter().find(|of| of.kind == STRUCT && self.is_named(of.name, name))
    }

    /// Returns a member of a structure, also one in a structure or union without a name in it.
    pub(crate) fn member(self, structure: &str, member: &str) -> Option<TypeMember> {
        self.member_of(&self.structure(structure)?, member, DEEPEST)
    }

    fn member_of(self, structure: &RawType<'_>, name: &str, depth: u32) -> Option<TypeMember> {
        // Each member has a name, a type, and an offset in bits.
        let members = structure.rest.chunks_exact(12).map(|member| {
            let number = |at: usize| member.get(at..at + 4).map_or(0, little_endian) as u32;
            let bits = if structure.has_bit_fields { number(8) & 0xff_ffff } else { number(8) };
            (number(0), number(4), u64::from(bits / 8))
        });
        let mut nameless = vec![];
        for (at, kind, offset) in members {
            if self.is_named(at, name) {
                let elements = self.of_number(kind).filter(|of| of.kind == ARRAY);
                // An array has the types of its elements and of its index, and its length.
                let elements = elements.and_then(|of| of.rest.get(8..12));
                let elements = elements.map(|count| little_endian(count) as u32);
                return Some(TypeMember { offset, elements });
            }
            if self.is_named(at, "") {
                nameless.push((kind, offset));
            }
        }
        // A structure has few of them; a damaged one could have many.
        nameless.into_iter().take(4).filter(|_| depth > 0).find_map(|(kind, offset)| {
            let inner = self.of_number(kind).filter(|of| matches!(of.kind, STRUCT | UNION))?;
            let found = self.member_of(&inner, name, depth - 1)?;
            Some(TypeMember { offset: offset + found.offset, ..found })
        })
    }

    fn of_number(self, number: u32) -> Option<RawType<'d>> {
        self.iter().nth((number as usize).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{TypeMember, Types};

    /// Writes a type.
    fn put(types: &mut Vec<u8>, name: u32, info: u32, size: u32, rest: &[u32]) {
        for number in [name, info, size].iter().chain(rest) {
            types.extend(number.to_le_bytes());
        }
    }

    #[test]
    fn members_are_found_by_name() {
        let names = b"\0int\0cpu\0family\0flags\0cpuu\0";
        let name = |text: &str| {
            let whole = format!("\0{text}\0");
            names.windows(whole.len()).position(|part| part == whole.as_bytes()).expect(text) as u32
                + 1
        };
        let mut types = vec![];
        // 1: an integer. 2: 24 of them. 3: a union without a name that has these. 4: another
        // structure. 5: the structure, with bit fields. 6: a function's parameters.
        put(&mut types, name("int"), 1 << 24, 4, &[32]);
        put(&mut types, 0, 3 << 24, 0, &[1, 1, 24]);
        put(&mut types, 0, 5 << 24 | 1, 96, &[name("flags"), 2, 0]);
        put(&mut types, name("cpuu"), 4 << 24 | 1, 4, &[name("family"), 1, 0]);
        put(&mut types, 0, 13 << 24 | 2, 1, &[0, 1, 0, 1]);
        let members = [name("family"), 1, 8 << 24 | 32, 0, 3, 64];
        put(&mut types, name("cpu"), 1 << 31 | 4 << 24 | 2, 104, &members);
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for number in [24, 0, types.len() as u32, types.len() as u32, names.len() as u32] {
            data.extend(number.to_le_bytes());
        }
        data.extend(&types);
        data.extend(names);
        let found = Types::new(&data).expect("a header");
        assert_eq!(found.size("cpu"), Some(104));
        assert_eq!(found.member("cpu", "family"), Some(TypeMember { offset: 4, elements: None }));
        assert_eq!(
            found.member("cpu", "flags"),
            Some(TypeMember { offset: 8, elements: Some(24) })
        );
        assert_eq!(found.member("cpu", "cpu"), None);
        assert_eq!(found.size("flags"), None);
        // Whatever is cut off, nothing more is found, and nothing panics.
        for len in 0..data.len() {
            if let Some(cut) = Types::new(&data[..len]) {
                assert_eq!(cut.member("cpu", "flags"), None);
            }
        }
        data[4 + 20 + 7] = 0x1f;
        assert_eq!(Types::new(&data).and_then(|types| types.size("cpu")), None);
    }
}
