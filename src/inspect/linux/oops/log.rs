//! Reads the oopses in a kernel's log: where each was, and the bytes that the kernel printed from
//! there. A log comes by a serial line, by `dmesg`, by a journal: lines can have anything in front
//! of them, and bytes can be lost.

use std::borrow::Cow;

/// The place in text that an oops names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// The function, with the distance from its start and its size.
    pub symbol: Option<(String, u64, u64)>,
    /// The address in the running kernel.
    pub address: Option<u64>,
    /// The module that the function is in.
    pub module: Option<String>,
    /// Whether it is in a program and not in the kernel.
    pub is_user: bool,
}

/// One oops of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoggedOops {
    /// Number of the line with the bytes, from 1.
    pub line: usize,
    pub pointer: Pointer,
    /// The bytes. `None` for one that cannot be read.
    pub code: Vec<Option<u8>>,
    /// Position in `code` of the byte at the address of the oops.
    pub at: usize,
}

/// All oopses of a log, and what else it says of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub oopses: Vec<LoggedOops>,
    /// How far the kernel was moved when it was loaded, if a line says it.
    pub kernel_offset: Option<u64>,
    /// The kernel's release, if a line says it.
    pub release: Option<String>,
    /// Lines with an oops whose bytes the kernel could not read, or whose mark is missing.
    pub unusable: usize,
}

/// The largest number of bytes of one oops. A kernel prints 64, some 128.
const LARGEST: usize = 256;

/// Reads a log.
pub(crate) fn read(log: &[u8]) -> Log {
    /// Lines are longer only in what is no log.
    const LONGEST: usize = 4096;
    let mut read = Log::default();
    let mut pointer = Pointer::default();
    // The bytes of a line that a terminal wrapped go on in the next.
    let mut open: Option<LoggedOops> = None;
    for (number, line) in log.split(|&byte| byte == b'\n').enumerate() {
        let line = clean(line.get(..LONGEST).unwrap_or(line));
        if let Some(mut oops) = open.take() {
            let go_on = oops.code.len() < 64 && bytes_only(&line);
            if go_on {
                append(&mut oops, &line);
                open = Some(oops);
                continue;
            }
            close(&mut read, oops);
        }
        if let Some(rest) = behind(&line, "Kernel Offset: 0x") {
            let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
            read.kernel_offset = u64::from_str_radix(&digits, 16).ok().or(read.kernel_offset);
        }
        if read.release.is_none() {
            read.release = release(&line);
        }
        if let Some(rest) = behind(&line, "RIP: ").or_else(|| behind(&line, "EIP: ")) {
            pointer = read_pointer(rest);
        } else if let Some(rest) = behind(&line, "IP is at ") {
            // Older kernels name the function in a line of its own.
            pointer.symbol = read_pointer(rest).symbol.or(pointer.symbol);
        } else if let Some(rest) = behind(&line, "Code: ") {
            let mut oops = LoggedOops {
                line: number + 1,
                pointer: pointer.clone(),
                code: vec![],
                at: usize::MAX,
            };
            append(&mut oops, rest);
            open = Some(oops);
        }
    }
    if let Some(oops) = open {
        close(&mut read, oops);
    }
    read
}

/// Puts an oops on the list, if its bytes can be used and it was not there before: kernels print
/// the last lines again at the end.
fn close(log: &mut Log, oops: LoggedOops) {
    let is_usable = oops.at < oops.code.len() && oops.code.iter().any(Option::is_some);
    if !is_usable {
        log.unusable += 1;
        return;
    }
    let is_new = |other: &LoggedOops| other.pointer != oops.pointer || other.code != oops.code;
    if log.oopses.iter().all(is_new) {
        log.oopses.push(oops);
    }
}

/// Returns a line as text without control characters and the sequences that colour a terminal.
fn clean(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if !text.contains(char::is_control) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\x1b' && characters.next_if_eq(&'[').is_some() {
            // A sequence ends with a letter (ECMA-48, "Control sequences").
            while characters.next().is_some_and(|of| !('@'..='~').contains(&of)) {}
        } else if !character.is_control() {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Returns what stands behind a mark in a line, if the mark is a word of its own.
fn behind<'l>(line: &'l str, mark: &str) -> Option<&'l str> {
    let at = line.find(mark)?;
    let before = line.get(..at)?.chars().next_back();
    // "EIP: " stands in no other word; "IP is at" does.
    let is_word = before.is_none_or(|before| !before.is_ascii_lowercase());
    line.get(at + mark.len()..).filter(|_| is_word)
}

/// Reads the place of an oops: `0010:name+0x12/0x340 [module]`, with the address in brackets in
/// front of the name in older kernels.
fn read_pointer(rest: &str) -> Pointer {
    let mut pointer = Pointer::default();
    let mut rest = rest;
    if let Some((selector, behind)) = rest.split_once(':')
        && selector.len() == 4
        && let Ok(selector) = u16::from_str_radix(selector, 16)
    {
        // The lowest two bits are the privilege level (Intel SDM vol. 3A, "Segment Selectors").
        pointer.is_user = selector & 3 == 3;
        rest = behind;
    }
    for word in rest.split_whitespace() {
        let bare = word.trim_start_matches("[<").trim_end_matches(">]");
        if word.starts_with("[<") || word.starts_with("0x") {
            let digits = bare.trim_start_matches("0x");
            pointer.address = pointer.address.or(u64::from_str_radix(digits, 16).ok());
        } else if pointer.symbol.is_none() {
            pointer.symbol = symbol(word);
        } else if let Some(name) = word.strip_prefix('[') {
            pointer.module = name.strip_suffix(']').map(str::to_owned);
            break;
        }
    }
    pointer
}

/// Reads `name+0x12/0x340`.
fn symbol(word: &str) -> Option<(String, u64, u64)> {
    let (name, numbers) = word.rsplit_once("+0x")?;
    let (distance, size) = numbers.split_once("/0x")?;
    let size: String = size.chars().take_while(char::is_ascii_hexdigit).collect();
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let symbol = (name.to_owned(), number(distance)?, number(&size)?);
    (!name.is_empty()).then_some(symbol)
}

/// Returns the kernel's release from a line such as `CPU: 0 PID: 1 Comm: init Not tainted 6.1.0-amd64
/// #1 Debian`: the word before the number of the build.
fn release(line: &str) -> Option<String> {
    if !line.contains("Comm: ") {
        return None;
    }
    let (before, behind) = line.rsplit_once(" #")?;
    let is_build = behind.starts_with(|first: char| first.is_ascii_digit());
    let word = before.split_whitespace().next_back().filter(|_| is_build)?;
    word.starts_with(|first: char| first.is_ascii_digit()).then(|| word.to_owned())
}

/// Returns whether a line has nothing but bytes, behind a time in brackets.
fn bytes_only(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix('[').and_then(|of| of.split_once(']')).map_or(line, |of| of.1);
    let mut words = line.split_whitespace().peekable();
    words.peek().is_some() && words.all(|word| byte(word).is_some())
}

/// Reads one byte, `48` or `<48>`.
fn byte(word: &str) -> Option<u8> {
    let bare = word.strip_prefix('<').and_then(|of| of.strip_suffix('>')).unwrap_or(word);
    let is_pair = bare.len() == 2 && bare.bytes().all(|of| of.is_ascii_hexdigit());
    u8::from_str_radix(bare, 16).ok().filter(|_| is_pair)
}

/// Appends the bytes of a line. A word that is no byte stands for one that was damaged on its way.
fn append(oops: &mut LoggedOops, rest: &str) {
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('[').and_then(|of| of.split_once(']')).map_or(rest, |of| of.1);
    for word in rest.split_whitespace().take(LARGEST.saturating_sub(oops.code.len())) {
        if word.starts_with('<') && oops.at == usize::MAX {
            oops.at = oops.code.len();
        }
        oops.code.push(byte(word));
    }
    // Words, such as "Bad RIP value.".
    if oops.code.iter().filter(|byte| byte.is_none()).count() * 2 > oops.code.len() {
        oops.code.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    const NEW: &str = "\
[    1.5] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    1.5] CPU: 1 UID: 0 PID: 77 Comm: sh Not tainted 6.12.0-amd64 #1  Debian 6.12.1-1
[    1.5] RIP: 0010:vfs_read+0x12/0x340
[    1.5] Code: 48 89 e5 <0f> 0b 90
[    1.5] Kernel Offset: 0x1c000000 from 0xffffffff81000000 (relocation range: 0xf)
[    1.6] ---[ end trace 0000000000000000 ]---
[    1.6] RIP: 0010:vfs_read+0x12/0x340
[    1.6] Code: 48 89 e5 <0f> 0b 90
";

    #[test]
    fn the_lines_of_a_new_kernel_are_read() {
        let log = read(NEW.as_bytes());
        assert_eq!(log.kernel_offset, Some(0x1c00_0000));
        assert_eq!(log.release.as_deref(), Some("6.12.0-amd64"));
        let [oops] = &log.oopses[..] else { panic!("one oops: {log:?}") };
        assert_eq!(oops.line, 4);
        assert_eq!(oops.pointer.symbol, Some(("vfs_read".to_owned(), 0x12, 0x340)));
        assert_eq!((oops.at, oops.pointer.is_user), (3, false));
        assert_eq!(oops.code, [0x48, 0x89, 0xe5, 0x0f, 0x0b, 0x90].map(Some));
    }

    #[test]
    fn older_kernels_write_the_address() {
        let log = read(
            b"EIP: 0060:[<c1234567>] EFLAGS: 00010246 CPU: 0\nEIP is at do_it+0x7/0x20\n\
              Code: 55 <89> e5\n\
              RIP: 0010:[<ffffffff81012345>]  [<ffffffff81012345>] f.isra.0+0x5/0x9 [kvm]\n\
              Code: 90 <cc>\n",
        );
        let [old, module] = &log.oopses[..] else { panic!("two: {log:?}") };
        assert_eq!(old.pointer.address, Some(0xc123_4567));
        assert_eq!(old.pointer.symbol, Some(("do_it".to_owned(), 7, 0x20)));
        assert_eq!(module.pointer.module.as_deref(), Some("kvm"));
        assert_eq!(module.pointer.address, Some(0xffff_ffff_8101_2345));
        assert_eq!(module.pointer.symbol, Some(("f.isra.0".to_owned(), 5, 9)));
    }

    #[test]
    fn noise_is_survived() {
        // Colours, carriage returns, a byte that was damaged, a line that a terminal wrapped.
        let log = read(
            b"\x1b[31mRIP: 0010:f+0x1/0x9\x1b[0m\r\nNov 28 host kernel: [ 1.0] Code: 48 8\xff e5 <0f>\r\n0b 90\r\n\
              RIP: 0033:0x7f0011223344\nCode: 01 <02>\n\
              Code: Bad RIP value.\nCode: 01 02 03\n",
        );
        let [oops, user] = &log.oopses[..] else { panic!("two: {log:?}") };
        let expected = [Some(0x48), None, Some(0xe5), Some(0x0f), Some(0x0b), Some(0x90)];
        assert_eq!((&oops.code[..], oops.at), (&expected[..], 3));
        assert!(user.pointer.is_user && user.pointer.address == Some(0x7f00_1122_3344));
        assert_eq!(log.unusable, 2);
    }
}
