//! Tests the commands `plan`, `apply`, `apply --revert` and `diff`.

use std::fs;

use patchlet::Width;
use patchlet::inspect::{Exit, Model, SiteState, parse};

use crate::sample::Sample;
use crate::tool::{file, findings, folder, tool};

fn all() -> Vec<(String, Sample)> {
    let mut all = Vec::new();
    for width in [Width::Bits64, Width::Bits32] {
        let sample = Sample::new(width).with_op_records();
        all.push((format!("{width:?}"), sample.clone()));
        all.push((format!("{width:?}-stripped"), sample.clone().stripped()));
        if width == Width::Bits64 {
            all.push((format!("{width:?}-pie"), sample.clone().position_independent()));
            all.push((format!("{width:?}-pie-stripped"), sample.position_independent().stripped()));
        }
    }
    all
}

/// Returns the bytes of each site on bare metal, written by hand.
fn native_bytes(width: Width) -> Vec<Vec<u8>> {
    let wide = width == Width::Bits64;
    let tick_distance = |sample: &Sample| {
        let site = sample.sites[3].1;
        sample.address_of("tick").wrapping_sub(site + 5) as u32
    };
    let mut call = vec![0xe8];
    call.extend(tick_distance(&Sample::new(width)).to_le_bytes());
    call.push(0x90);
    let invlpg = if wide { 0x3f } else { 0x38 };
    vec![
        vec![0x9c, 0x58, 0x0f, 0x1f, 0x40, 0x00],
        vec![0xfa, 0x0f, 0x1f, 0x44, 0x00, 0x00],
        vec![0x0f, 0x01, invlpg, 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
        call,
        if wide {
            [&[0x48, 0x89, 0xf8][..], &NOP9, &[0x0f, 0x1f, 0x40, 0x00]].concat()
        } else {
            [&NOP9[..], &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00]].concat()
        },
        if wide {
            vec![0x0f, 0x01, 0xf8, 0x48, 0x0f, 0x07]
        } else {
            vec![0xcf, 0x0f, 0x1f, 0x44, 0x00, 0x00]
        },
    ]
}

const NOP9: [u8; 9] = [0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00];

#[test]
fn apply_writes_the_native_form_and_nothing_else() {
    for (name, sample) in all() {
        let original = sample.bytes();
        let path = file("apply", &name, &original);
        let out = format!("{path}.native");
        let output = tool(&["apply", &path, "-o", &out]);
        assert_eq!(output.exit, Exit::Holds, "{name}: {}{}", output.out, output.err);
        assert!(output.out.ends_with("6 sites, 6 patched\n"), "{}", output.out);
        let patched = fs::read(&out).expect("it was written");

        let mut expected = sample.clone();
        for ((_, address), bytes) in sample.sites.iter().zip(native_bytes(sample.width)) {
            expected.at(*address)[..bytes.len()].copy_from_slice(&bytes);
        }
        assert_eq!(patched, expected.bytes(), "{name}");
        assert_eq!(findings(&patched), [], "{name}");

        // Patching again changes nothing, and a revert gives the original byte for byte.
        let output = tool(&["apply", &out, "-o", &out]);
        assert!(output.out.ends_with("6 sites, 0 patched\n"), "{}", output.out);
        assert_eq!(fs::read(&out).expect("still there"), patched);
        let back = format!("{path}.back");
        let output = tool(&["apply", "--revert", &out, "-o", &back]);
        assert!(output.out.ends_with("6 sites, 6 reverted\n"), "{}", output.out);
        assert_eq!(fs::read(&back).expect("it was written"), original, "{name}");
    }
}

/// Returns the bytes of each site on bare metal in a 32-bit file for CPUs without NOPL.
fn native_bytes_with_lea() -> Vec<Vec<u8>> {
    const LEA5: [u8; 5] = [0x90, 0x8d, 0x74, 0x26, 0x00];
    const LEA7: [u8; 7] = [0x8d, 0xb4, 0x26, 0x00, 0x00, 0x00, 0x00];
    let mut sites = native_bytes(Width::Bits32);
    sites[0] = vec![0x9c, 0x58, 0x8d, 0x74, 0x26, 0x00];
    sites[1] = [&[0xfa][..], &LEA5].concat();
    sites[2] = vec![0x0f, 0x01, 0x38, 0x8d, 0xb6, 0x00, 0x00, 0x00, 0x00];
    sites[4] = [&LEA7[..], &LEA7, &[0x89, 0xf6]].concat();
    sites[5] = [&[0xcf][..], &LEA5].concat();
    sites
}

/// A 32-bit file says whether its CPUs have NOPL, as the kernel knows it by the same rule. One that
/// says nothing runs everywhere; and the command line decides against both.
#[test]
fn nops_are_those_of_the_file_or_a_choice() {
    let silent = Sample::new(Width::Bits32);
    let long = silent.clone().with_op_records();
    let mut lea = long.clone();
    lea.op_record(3)[10] |= 0x80;
    for (name, sample, is_long) in
        [("silent", silent, false), ("long", long, true), ("lea", lea, false)]
    {
        let path = file("nops", name, &sample.bytes());
        for (choice, is_long) in [(None, is_long), (Some("long"), true), (Some("lea"), false)] {
            let more = choice.map_or(vec![], |family| vec!["--nops", family]);
            let out = format!("{path}.{}", choice.unwrap_or("default"));
            let output = tool(&[&["apply", &path, "-o", &out][..], &more].concat());
            assert_eq!(output.exit, Exit::Holds, "{name} {choice:?}: {}{}", output.out, output.err);
            let sites = if is_long { native_bytes(Width::Bits32) } else { native_bytes_with_lea() };
            let mut expected = sample.clone();
            for ((_, address), bytes) in sample.sites.iter().zip(&sites) {
                expected.at(*address)[..bytes.len()].copy_from_slice(bytes);
            }
            assert!(
                fs::read(&out).expect("it was written") == expected.bytes(),
                "{name} {choice:?}"
            );
            // Verified and reverted without knowing which.
            assert_eq!(findings(&expected.bytes()), [], "{name} {choice:?}");
            let back = format!("{path}.back");
            assert_eq!(tool(&["apply", "--revert", &out, "-o", &back]).exit, Exit::Holds);
            assert!(fs::read(&back).expect("it was written") == sample.bytes());
            // With the other kind: all sites but the one without NOPs of more than a byte.
            let other = if is_long { "lea" } else { "long" };
            let output = tool(&["apply", &out, "-o", &back, "--nops", other]);
            assert!(output.out.ends_with("6 sites, 5 patched\n"), "{}", output.out);
            let plan = [&["plan", &path, "--platform", "native"][..], &more].concat();
            let gets = if is_long { "+ 9c 58 0f 1f 40 00" } else { "+ 9c 58 8d 74 26 00" };
            assert!(tool(&plan).out.contains(gets), "{name} {choice:?}");
        }
    }
    let path = file("nops", "64", &Sample::new(Width::Bits64).bytes());
    for command in [&["plan", &path, "--platform", "native"][..], &["apply", &path, "-o", &path]] {
        let output = tool(&[command, &["--nops", "lea"]].concat());
        assert_eq!(output.exit, Exit::Failed);
        assert!(output.err.contains("every 64-bit CPU has NOPL"), "{}", output.err);
        let output = tool(&[command, &["--nops", "long"]].concat());
        assert_eq!(output.exit, Exit::Holds, "{}", output.err);
    }
}

/// Checks patching for a hypervisor: `plan` shows it, and `verify` and `--revert` accept it.
#[test]
fn apply_for_another_platform() {
    const PLATFORM: &str = "save_fl=tick,irq_disable=nop,usergs_sysret64=null";
    const PLATFORM_32: &str = "save_fl=tick,irq_disable=nop,iret=null";
    for width in [Width::Bits64, Width::Bits32] {
        let platform = if width == Width::Bits64 { PLATFORM } else { PLATFORM_32 };
        let sample = Sample::new(width).with_op_records();
        let path = file("platform", &format!("{width:?}"), &sample.bytes());
        let (out, back) = (format!("{path}.patched"), format!("{path}.back"));
        let output = tool(&["apply", &path, "-o", &out, "--platform", platform]);
        assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
        let mut expected = sample.clone();
        let mut bytes = native_bytes(width);
        let call = sample.address_of("tick").wrapping_sub(sample.sites[0].1 + 5) as u32;
        bytes[0] = [&[0xe8][..], &call.to_le_bytes(), &[0x90]].concat();
        bytes[1] = vec![0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00];
        bytes[5] = vec![0x0f, 0x0b, 0x0f, 0x1f, 0x40, 0x00];
        for ((_, address), bytes) in sample.sites.iter().zip(bytes) {
            expected.at(*address)[..bytes.len()].copy_from_slice(&bytes);
        }
        assert_eq!(fs::read(&out).expect("it was written"), expected.bytes(), "{width:?}");

        let output = tool(&["verify", &out, "--platform", platform]);
        assert_eq!(output.exit, Exit::Holds, "{}", output.out);
        let output = tool(&["verify", &out]);
        assert_eq!(output.exit, Exit::Finding);
        assert_eq!(output.out.matches("site-bytes: ").count(), 3, "{}", output.out);
        assert_eq!(tool(&["apply", &out, "-o", &back]).exit, Exit::Finding);
        let output = tool(&["apply", "--revert", &out, "-o", &back, "--platform", platform]);
        assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
        assert_eq!(fs::read(&back).expect("it was written"), sample.bytes(), "{width:?}");
        for command in [&["apply", &path, "-o", &back][..], &["verify", &path]] {
            let output = tool(&[command, &["--platform", "nothing=nop"]].concat());
            assert_eq!((output.exit, &*output.out), (Exit::Failed, ""));
            assert!(output.err.contains("no site is of an op `nothing`"), "{}", output.err);
        }
    }
}

/// Checks that the copy has the permissions of the original, also if it replaces the original.
#[cfg(unix)]
#[test]
fn apply_keeps_permissions() {
    use std::os::unix::fs::PermissionsExt;

    let sample = Sample::new(Width::Bits64);
    let path = file("permissions", "kernel", &sample.bytes());
    let mode = |path: &str| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    for wanted in [0o755, 0o640] {
        fs::write(&path, sample.bytes()).expect("a file below CARGO_TARGET_TMPDIR");
        fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).expect("it is ours");
        let out = format!("{path}.native");
        assert_eq!(tool(&["apply", &path, "-o", &out]).exit, Exit::Holds);
        assert_eq!(mode(&out), wanted);
        assert_eq!(tool(&["apply", &path, "-o", &path]).exit, Exit::Holds);
        assert_eq!(mode(&path), wanted);
        assert_eq!(fs::read(&path).expect("in place"), fs::read(&out).expect("the copy"));
    }
    let left = fs::read_dir(folder("permissions")).expect("the folder").count();
    assert_eq!(left, 2, "a temporary file was left");
}

#[test]
fn apply_writes_nothing_if_anything_is_wrong() {
    let mut sample = Sample::new(Width::Bits64);
    let site = sample.sites[0].1;
    sample.at(site)[1] = 0x14;
    let path = file("refuse", "kernel", &sample.bytes());
    let out = folder("refuse").join("native");
    fs::write(&out, "as it was").expect("a file below CARGO_TARGET_TMPDIR");
    let out_name = out.to_str().expect("UTF-8");
    let output = tool(&["apply", &path, "-o", out_name]);
    assert_eq!(output.exit, Exit::Finding);
    assert!(output.out.contains("nothing is written"), "{}", output.out);
    assert_eq!(fs::read_to_string(&out).expect("still there"), "as it was");
    // If the copy cannot be written, there is one sentence and no file.
    let path = file("refuse", "good", &Sample::new(Width::Bits64).bytes());
    let output = tool(&["apply", &path, "-o", "/nowhere/at/all"]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("/nowhere/at/all"), "{}", output.err);
    let left: Vec<_> = fs::read_dir(folder("refuse")).expect("the folder").collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

/// Checks that a site with a kept relocation (`--emit-relocs`) is refused: a kernel that relocates
/// itself would add to the bytes of the patchlet.
#[test]
fn apply_refuses_a_site_that_will_be_relocated() {
    let mut sample = Sample::new(Width::Bits32);
    let mut relocation = Vec::new();
    sample.put(&mut relocation, sample.sites[0].1 + 2);
    sample.put(&mut relocation, 1);
    sample.sections.push(crate::sample::Section {
        name: ".rel.text",
        kind: crate::sample::REL,
        flags: 0,
        address: 0,
        data: relocation,
        link: 0,
        info: 1,
        size: None,
        offset: None,
    });
    let path = file("relocated", "kernel", &sample.bytes());
    assert_eq!(tool(&["verify", &path]).exit, Exit::Holds);
    let output = tool(&["apply", &path, "-o", &format!("{path}.native")]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("has a relocation"), "{}", output.err);
}

#[test]
fn a_plan_changes_nothing_and_says_what_would() {
    let sample = Sample::new(Width::Bits64);
    let path = file("plan", "kernel", &sample.bytes());
    let plan = |platform: &str| tool(&["plan", &path, "--platform", platform]);
    let out = plan("native").out;
    assert!(out.ends_with("6 sites, 6 would change: 1 call, 1 identity, 4 patchlet\n"), "{out}");
    let out = plan("save_fl=nop,own_ops[1]=null,usergs_sysret64=tick").out;
    assert!(
        out.ends_with(
            "6 sites, 6 would change: 1 identity, 1 jump, 1 nothing, 2 patchlet, 1 trap\n"
        ),
        "{out}"
    );
    let out = plan("save_fl=patchlet_nop,irq_disable=patchlet_native_ident_64").out;
    assert!(out.contains("2 identity, 1 nothing, 2 patchlet"), "{out}");
    let out = plan("irq_disable=0x100010").out;
    assert!(out.contains("callq 0x100010 <patchlet_native_irq_enable>"), "{out}");
    assert_eq!(fs::read(&path).expect("still there"), sample.bytes());
    for (platform, why) in [
        ("save_fl", "is no platform"),
        ("save_fl=", "is no platform"),
        ("nothing=nop", "no site is of an op `nothing`"),
        ("save_fl=nothing", "no symbol `nothing`"),
        ("save_fl=0xg", "`0xg` is no address"),
        ("save_fl=0x7fffffffffff", "does not reach"),
    ] {
        let output = plan(platform);
        assert_eq!((output.exit, &*output.out), (Exit::Failed, ""), "{platform}");
        assert!(output.err.contains(why), "{platform}: {}", output.err);
    }
}

#[test]
fn sites_are_seen_in_the_state_they_are_in() {
    for (name, sample) in all() {
        let mut patched = sample.clone();
        for ((_, address), bytes) in sample.sites.iter().zip(native_bytes(sample.width)).take(2) {
            patched.at(*address)[..bytes.len()].copy_from_slice(&bytes);
        }
        patched.at(sample.sites[2].1)[0] = 0xcc;
        let bytes = patched.bytes();
        let model = Model::new(parse(&bytes).expect("ELF")).expect("linked");
        let states: Vec<SiteState> =
            model.records().iter().map(|record| model.state(record)).take(4).collect();
        let (native, foreign, indirect) =
            (SiteState::Native, SiteState::Foreign, SiteState::Indirect);
        assert_eq!(states, [native, native, foreign, indirect], "{name}");
    }
}

/// Checks a tool behind the linker (BOLT) that moves a function and leaves the records on the old
/// copy: every call of the new copy is found.
#[test]
fn records_on_an_old_copy_are_not_taken_for_complete() {
    for (name, mut sample) in all() {
        let start = sample.begin(&[0x55]);
        for index in 0..3 {
            // A stripped sample has no symbols to ask.
            let (at, slot) = (sample.here(), Sample::new(sample.width).slot("own_ops", index));
            let code = sample.indirect(at, slot, 0);
            sample.code(&code);
        }
        sample.code(&[0x5d, 0xc3]);
        sample.end("own_work.moved", start);
        let path = file("old-copy", &name.replace(' ', "-"), &sample.bytes());
        let output = tool(&["verify", &path]);
        assert_eq!(output.exit, Exit::Finding, "{name}");
        let found = output.out.matches("unrecorded: 0x").count();
        assert_eq!(found, 3, "{name}: {}", output.out);
    }
}

#[test]
fn diff_tells_builds_apart_and_not_addresses() {
    let a = Sample::new(Width::Bits64);
    let path = file("diff", "a", &a.bytes());
    let diff = |b: &Sample| {
        let b = file("diff", "b", &b.bytes());
        tool(&["diff", &path, &b])
    };
    assert_eq!((diff(&a).exit, &*diff(&a).out), (Exit::Holds, "no difference\n"));

    let mut b = a.clone();
    let (fb, start) = (b.address_of("patchlet_irq_enable_start"), b.begin(&[0x90]));
    b.at(fb)[0] = 0xfa;
    b.site("patchlet_pv_ops", 4, 8, 0);
    b.code(&[0xc3]);
    b.end("new_function", start);
    b.bound_records();
    let site = b.sites[0].1;
    b.at(site)[..6].copy_from_slice(&native_bytes(a.width)[0]);
    let output = diff(&b);
    assert_eq!(output.exit, Exit::Finding);
    assert_eq!(
        output.out,
        "~ patchlet irq_enable: fb → fa\n\
         + site read_cr2 in new_function: call, 8 bytes, indirect\n\
         ~ site save_fl in save_and_disable: call, 6 bytes, indirect → call, 6 bytes, native\n\
         3 differences\n"
    );
}
