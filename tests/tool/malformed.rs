//! Runs the tool on files that cannot be read. Each gives one sentence that names what is wrong,
//! nothing on standard output, and no panic.

use patchlet::Width;
use patchlet::inspect::{Exit, Model, parse};

use crate::sample::{Sample, TEXT};
use crate::tool::{file, folder, tool};

/// Checks that every command refuses these bytes with this error.
#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    let error = parse(bytes).and_then(Model::new).map(|_| ()).expect_err(why).to_string();
    assert!(error.contains(why), "`{error}` does not say `{why}`");
    assert_eq!(error.lines().count(), 1);
}

/// Returns the file with a number overwritten.
fn with(mut bytes: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

fn good(width: Width) -> Vec<u8> {
    Sample::new(width).bytes()
}

/// Returns the offset of the section headers, and the size of one.
fn headers(bytes: &[u8]) -> (usize, usize) {
    let wide = bytes[4] == 2;
    let at = if wide { &bytes[0x28..0x30] } else { &bytes[0x20..0x24] };
    let at = at.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte));
    (at, if wide { 64 } else { 40 })
}

#[test]
fn the_header() {
    refused(b"", "not an ELF file");
    refused(b"#!/bin/sh\n", "not an ELF file: it starts with the bytes [23, 21, 2f, 62]");
    refused(b"\x7fELF", "truncated: 4 bytes");
    for width in [Width::Bits64, Width::Bits32] {
        let good = good(width);
        refused(&good[..40], "truncated: 40 bytes");
        refused(&with(good.clone(), 5, &[2]), "big-endian");
        refused(&with(good.clone(), 5, &[7]), "byte 5 (endianness) is 7");
        refused(&with(good.clone(), 4, &[3]), "byte 4 (class) is 3");
        refused(&with(good.clone(), 18, &[183]), "for machine 183");
        refused(&with(good.clone(), 16, &[4]), "of type 4");
        refused(&with(good.clone(), 6, &[9]), "unusable ELF header");
        // A machine that does not fit the class, as in x32.
        let other = if width == Width::Bits64 { [3, 0] } else { [62, 0] };
        refused(&with(good.clone(), 18, &other), "bit x86 is machine");
    }
}

#[test]
fn sections_outside_of_the_file() {
    for width in [Width::Bits64, Width::Bits32] {
        let good = good(width);
        let (at, _) = headers(&good);
        refused(&good[..at], "unusable section headers");
        refused(&good[..good.len() - 1], "unusable section headers");
        // e_shnum, e_shoff
        let count = if width == Width::Bits64 { 0x3c } else { 0x30 };
        refused(&with(good.clone(), count, &[0xff, 0xfe]), "unusable section headers");
        let offset = if width == Width::Bits64 { 0x28 } else { 0x20 };
        refused(&with(good.clone(), offset, &[0xff; 4]), "unusable section headers");
        // e_phnum
        let segments = if width == Width::Bits64 { 0x38 } else { 0x2c };
        refused(&with(good.clone(), segments, &[0xfe, 0xff]), "program headers");

        let mut sample = Sample::new(width);
        sample.section_mut("patchlet_index").size = Some(0x7fff_ffff);
        refused(&sample.bytes(), "is not inside the file");
        let mut sample = Sample::new(width);
        sample.section_mut("patchlet_index").offset = Some(0x7fff_ffff);
        refused(&sample.bytes(), "section patchlet_index");
    }
}

#[test]
fn no_section_headers() {
    let good = good(Width::Bits64);
    // e_shoff, then e_shnum and e_shstrndx
    let none = with(good, 0x28, &[0; 8]);
    refused(&with(none, 0x3c, &[0; 4]), "no section headers: they were stripped");
}

#[test]
fn overlapping_sections() {
    let mut sample = Sample::new(Width::Bits64);
    sample.section_mut(".rodata.patchlets").address = TEXT + 8;
    refused(&sample.bytes(), "overlap in memory");
    let mut sample = Sample::new(Width::Bits64);
    let at = 64 + 5 * 56 + 16;
    sample.section_mut(".data").offset = Some(at);
    refused(&sample.bytes(), "overlap in the file");
    let mut sample = Sample::new(Width::Bits64);
    sample.section_mut(".data").address = u64::MAX - 8;
    refused(&sample.bytes(), "reaches beyond the last address");
}

#[test]
fn names() {
    for (name, why) in [(&b"\xff"[..], "not UTF-8"), (b"\x1b", "control characters")] {
        let mut bytes = good(Width::Bits64);
        let at = bytes.windows(6).position(|window| window == b".text\0").expect("the name");
        bytes[at..at + name.len()].copy_from_slice(name);
        refused(&bytes, why);
    }
    let bytes = good(Width::Bits64);
    let (at, size) = headers(&bytes);
    refused(&with(bytes.clone(), at + size, &[0xff; 4]), "has no usable name");
}

#[test]
fn symbols_and_relocations() {
    let sample = Sample::new(Width::Bits64);
    let bytes = sample.bytes();
    let (at, size) = headers(&bytes);
    let symtab = at + size * (1 + sample.sections.len());
    // An sh_size of .symtab that is no multiple of a symbol, and an sh_link to no section.
    refused(&with(bytes.clone(), symtab + 32, &[23]), "unusable symbol table");
    refused(&with(bytes.clone(), symtab + 40, &[99]), "unusable symbol table");
    let sample = Sample::new(Width::Bits64).position_independent();
    let bytes = sample.bytes();
    let (at, size) = headers(&bytes);
    let relocations = at + size * sample.sections.len();
    refused(&with(bytes, relocations + 32, &[23]), "unusable relocations in section");
}

#[test]
fn every_prefix_and_every_changed_byte_is_survived() {
    for width in [Width::Bits64, Width::Bits32] {
        let good = good(width);
        for len in (0..good.len()).step_by(7) {
            crate::replay::everything(&good[..len]);
        }
        for at in (0..good.len()).step_by(5) {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            crate::replay::everything(&bytes);
        }
    }
}

#[test]
fn each_command_says_what_it_cannot_read() {
    let path = file("unreadable", "text", b"#!/bin/sh\n");
    for arguments in [
        &["list", &path][..],
        &["sites", &path],
        &["verify", &path],
        &["plan", &path, "--platform", "native"],
        &["apply", &path, "-o", "/nowhere"],
        &["diff", &path, &path],
    ] {
        let output = tool(arguments);
        assert_eq!((output.exit, &*output.out), (Exit::Failed, ""), "{arguments:?}");
        let expected = format!("patchlet: {path}: not an ELF file");
        assert!(output.err.starts_with(&expected), "{arguments:?}: {}", output.err);
        assert_eq!(output.err.lines().count(), 1);
    }
    let folder = folder("unreadable");
    let output = tool(&["list", folder.to_str().expect("UTF-8"), "/nowhere"]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(
        output.err.contains("not a regular file") && output.err.contains("/nowhere: cannot read")
    );
}

#[test]
fn archives() {
    let member = |name: &str, bytes: &[u8]| {
        let size = bytes.len();
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644);
        let mut all = header.into_bytes();
        all.extend(bytes);
        if !size.is_multiple_of(2) {
            all.push(b'\n');
        }
        all
    };
    let object = good(Width::Bits32);
    let archive = [
        b"!<arch>\n".to_vec(),
        member("odd/", b"1"),
        member("kernel.o/", &object),
        member("text/", b"no ELF"),
    ]
    .concat();
    let path = file("archive", "lib.a", &archive);
    let output = tool(&["list", &path]);
    assert_eq!((output.exit, &*output.err), (Exit::Holds, ""));
    assert!(output.out.starts_with(&format!("{path}(kernel.o): ELF32 executable, 14 patchlets\n")));
    for (bytes, why) in [
        (b"!<thin>\n".to_vec(), "a thin archive"),
        (archive[..archive.len() - 3].to_vec(), "unusable archive"),
        (with(archive.clone(), 8 + 58, b"xx"), "unusable archive"),
    ] {
        let path = file("archive", "bad.a", &bytes);
        let output = tool(&["list", &path]);
        assert_eq!(output.exit, Exit::Failed, "{why}");
        assert!(output.err.contains(why), "{why}: {}", output.err);
    }
}
