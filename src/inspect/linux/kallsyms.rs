//! The names that a kernel carries for its own messages (kallsyms). A `vmlinuz` has no symbol
//! table, but nearly every kernel has these: they give a name to an address, and they say where
//! the variables are that decide what the text should be.
//!
//! In read-only data lie, in an order that has changed over the years:
//!
//! - *tokens*: 256 texts, each with a zero behind it, and 256 offsets of two bytes into them;
//! - *names*: for each symbol a length and as many bytes, each the number of a token; the first
//!   character is the type, as `nm` prints it;
//! - *markers*: the offset in *names* of each 256th symbol;
//! - *offsets*: for each symbol a number of four bytes, from which its address follows.
//!
//! Nothing names these tables, so they are found by what they must be: the digits stand for
//! themselves in *tokens*; the offsets into *tokens* lead to its texts; *markers* lead to where
//! symbols begin; the addresses increase.

use crate::inspect::elf::{Image, Section, little_endian};

/// A symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelSymbol {
    pub address: u64,
    pub name: String,
}

/// Returns the symbols in the order of the file, or `None` if the kernel has none, or in a form
/// that is not known.
pub(crate) fn read(image: &Image<'_>) -> Option<Vec<KernelSymbol>> {
    let section = image.section_named(".rodata")?;
    let size = usize::try_from(image.width().pointer_size()).ok()?;
    // Newer kernels align the tables to four bytes, older ones to a pointer.
    let (tables, addresses) = [size, 4].into_iter().find_map(|align| {
        let tables = Tables::find(section.data, align)?;
        let addresses = addresses(image, section, &tables, align)?;
        Some((tables, addresses))
    })?;
    let mut symbols = Vec::with_capacity(addresses.len());
    let mut rest = section.data.get(tables.names..)?;
    for address in addresses {
        let (name, behind) = next_name(rest)?;
        rest = behind;
        let mut text = String::new();
        for &token in name {
            text.push_str(std::str::from_utf8(tables.tokens.get(usize::from(token))?).ok()?);
        }
        // The first character is the type.
        let mut characters = text.chars();
        characters.next()?;
        let name = characters.as_str().replace(char::is_control, "?");
        symbols.push(KernelSymbol { address, name });
    }
    Some(symbols)
}

/// The places of the tables in read-only data.
struct Tables<'d> {
    tokens: Vec<&'d [u8]>,
    /// Offset of the names.
    names: usize,
    /// How many symbols there are.
    count: usize,
    /// Offset of the number of symbols, if it stands in front of the names.
    front: usize,
    /// Offset behind the offsets of the tokens.
    behind_tokens: usize,
}

impl<'d> Tables<'d> {
    fn find(data: &'d [u8], align: usize) -> Option<Self> {
        /// The digits, as they stand in the tokens.
        const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
        /// How many names one way to find the tables may read: some hundred times as many as there
        /// are in the largest kernels.
        const LIMIT: u64 = 100_000_000;
        let mut from = 0;
        while let Some(at) = data.get(from..)?.windows(DIGITS.len()).position(|w| w == DIGITS) {
            let digits = from + at;
            from = digits + 1;
            let Some((tokens, start, behind)) = tokens(data, digits, align) else { continue };
            for find in [count_in_front, markers_before_tokens] {
                if let Some((names, count)) = find(data, &tokens, start, align, &mut Steps(LIMIT)) {
                    let front = names.saturating_sub(align);
                    return Some(Self { tokens, names, count, front, behind_tokens: behind });
                }
            }
        }
        None
    }
}

/// Reads the tokens around the one of the digit 0. Returns them, where they start, and the offset
/// behind their offsets.
fn tokens(data: &[u8], digits: usize, align: usize) -> Option<(Vec<&[u8]>, usize, usize)> {
    const ZERO: usize = b'0' as usize;
    let mut end = digits;
    for _ in ZERO..256 {
        end += data.get(end..)?.iter().take(1024).position(|&byte| byte == 0)? + 1;
    }
    let table = end.next_multiple_of(align);
    let behind = table + 512;
    let offsets: Vec<usize> =
        data.get(table..behind)?.chunks_exact(2).map(|two| little_endian(two) as usize).collect();
    let start = digits.checked_sub(*offsets.get(ZERO)?)?;
    let mut tokens = Vec::with_capacity(256);
    let mut expected = 0;
    for offset in offsets {
        if offset != expected {
            return None;
        }
        let rest = data.get(start + offset..end)?;
        let token = rest.get(..rest.iter().position(|&byte| byte == 0)?)?;
        expected += token.len() + 1;
        tokens.push(token);
    }
    Some((tokens, start, behind))
}

/// Returns the first name, and what follows it. A length of 128 and more has two bytes.
fn next_name(names: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = names.split_first()?;
    let (len, rest) = match first & 0x80 {
        0 => (usize::from(first), rest),
        _ => {
            let (&second, rest) = rest.split_first()?;
            (usize::from(first & 0x7f) | usize::from(second) << 7, rest)
        }
    };
    rest.split_at_checked(len)
}

/// The names that may still be read while the tables are looked for. Without a limit, damaged files
/// could take a time that grows with the square of their size.
struct Steps(u64);

impl Steps {
    /// Reads `count` names, and returns what follows them.
    fn skip<'d>(&mut self, mut names: &'d [u8], count: usize) -> Option<&'d [u8]> {
        for _ in 0..count {
            self.0 = self.0.checked_sub(1)?;
            names = next_name(names)?.1;
        }
        Some(names)
    }
}

/// Returns whether the first of the names begins with a type, which is a letter.
fn begins_with_type(data: &[u8], names: usize, tokens: &[&[u8]]) -> bool {
    let first = || {
        let (name, _) = next_name(data.get(names..)?)?;
        tokens.get(usize::from(*name.first()?))?.first()
    };
    first().is_some_and(u8::is_ascii_alphabetic)
}

/// How far before the tokens the names can start.
const FAR: usize = 32 << 20;

/// Finds the names by the number of symbols in front of them.
fn count_in_front(
    data: &[u8],
    tokens: &[&[u8]],
    start: usize,
    align: usize,
    steps: &mut Steps,
) -> Option<(usize, usize)> {
    let first = start / align * align;
    let candidates = (1..).map_while(|step| first.checked_sub(step * align));
    candidates.take_while(|at| start - at < FAR).find_map(|at| {
        let names = at + align;
        let number = data.get(at..names)?;
        // Four bytes, then zeros up to the alignment.
        let count = usize::try_from(little_endian(number)).ok()?;
        // With one block there would be one marker, a zero, which could be any zero.
        if count <= 256 || count > (start - names) / 2 {
            return None;
        }
        if !begins_with_type(data, names, tokens) {
            return None;
        }
        let (mut rest, mut markers) = (data.get(names..start)?, Vec::new());
        let whole = rest.len();
        for block in 0..count.div_ceil(256) {
            markers.push(whole - rest.len());
            rest = steps.skip(rest, (count - block * 256).min(256))?;
        }
        let table = (start - rest.len()).next_multiple_of(align);
        let mut table = data.get(table..)?.chunks_exact(4);
        let fits = markers
            .iter()
            .all(|&at| table.next().is_some_and(|marker| little_endian(marker) == at as u64));
        fits.then_some((names, count))
    })
}

/// Finds the names by the markers, which end where the tokens begin.
fn markers_before_tokens(
    data: &[u8],
    tokens: &[&[u8]],
    start: usize,
    align: usize,
    steps: &mut Steps,
) -> Option<(usize, usize)> {
    let number = |at: usize| Some(little_endian(data.get(at..at + 4)?) as usize);
    let mut at = start.checked_sub(4)? / 4 * 4;
    // Zeros up to the alignment of the tokens.
    while number(at)? == 0 && start - at < 2 * align {
        at = at.checked_sub(4)?;
    }
    let mut markers = vec![];
    loop {
        let marker = number(at)?;
        if markers.last().is_some_and(|&next| next <= marker) {
            return None;
        }
        markers.push(marker);
        if marker == 0 {
            break;
        }
        at = at.checked_sub(4)?;
    }
    markers.reverse();
    let last = *markers.last()?;
    // The last block has between 1 and 256 names of at most 256 bytes, and zeros behind it.
    for end in (0..256 * 256usize).map(|more| last + more) {
        let Some(names) = at.checked_sub(end) else { break };
        if names % 4 != 0 || !begins_with_type(data, names, tokens) {
            continue;
        }
        let mut names_fit = |pair: &[usize]| {
            let &[from, to] = pair else { return false };
            let block = data.get(names + from..names + to);
            block.and_then(|block| steps.skip(block, 256)).is_some_and(<[u8]>::is_empty)
        };
        if markers.len() < 2 || !markers.windows(2).all(&mut names_fit) {
            continue;
        }
        let mut count = (markers.len() - 1) * 256;
        let mut rest = data.get(names + last..at)?;
        // A name has at least a type and a character; a length of 0 is a zero of the alignment.
        while let Some((name, behind)) = next_name(rest)
            && !name.is_empty()
        {
            count += 1;
            rest = behind;
        }
        return Some((names, count));
    }
    None
}

/// Returns the addresses of all symbols. There are three forms, and the table stands in front of
/// the names or behind the tokens.
fn addresses(
    image: &Image<'_>,
    section: &Section<'_>,
    tables: &Tables<'_>,
    align: usize,
) -> Option<Vec<u64>> {
    let size = usize::try_from(image.width().pointer_size()).ok()?;
    let bytes = tables.count.checked_mul(4)?;
    let behind = tables.behind_tokens.next_multiple_of(align);
    let base_behind = behind + bytes.next_multiple_of(align);
    let base_in_front = tables.front.checked_sub(size);
    let in_front = base_in_front.and_then(|base| base.checked_sub(bytes.next_multiple_of(align)));
    let forms =
        [(Some(behind), Some(base_behind)), (in_front, base_in_front), (Some(behind), None)];
    forms.into_iter().find_map(|(offsets, base)| {
        let offsets = offsets?;
        let table = section.data.get(offsets..offsets.checked_add(bytes)?)?;
        let base = match base {
            Some(base) => Some(little_endian(section.data.get(base..base + size)?)),
            None => None,
        };
        let mut addresses = Vec::with_capacity(tables.count);
        for (at, number) in table.chunks_exact(4).enumerate() {
            let number = little_endian(number) as u32 as i32;
            addresses.push(match base {
                // A negative one counts from the base on; another is the address itself, of the
                // data of each CPU. Without such data all of them count from the base on.
                Some(base) if number < 0 => base.wrapping_add((-1 - i64::from(number)) as u64),
                Some(_) => i64::from(number) as u64,
                None => image
                    .relative(section.address + (offsets + at * 4) as u64, number.cast_unsigned()),
            });
        }
        if let Some(base) = base
            && !addresses.iter().any(|&address| address >= base)
        {
            for address in &mut addresses {
                *address = base.wrapping_add(*address & 0xffff_ffff);
            }
        }
        is_plausible(image, &addresses).then_some(addresses)
    })
}

/// Returns whether addresses may be those of symbols: most of them increase, and most are in
/// sections.
fn is_plausible(image: &Image<'_>, addresses: &[u64]) -> bool {
    let lowest = image
        .sections()
        .iter()
        .map(|section| section.address)
        .filter(|&address| address >= 0x10_0000)
        .min()
        .unwrap_or(0);
    let highest = image.sections().iter().map(Section::end).max().unwrap_or(0);
    let inside =
        addresses.iter().filter(|&&address| lowest <= address && address <= highest).count();
    let falling = addresses.windows(2).filter(|pair| pair.first() > pair.get(1)).count();
    inside * 10 >= addresses.len() * 8 && falling * 100 <= addresses.len()
}
