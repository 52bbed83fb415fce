//! Checks the patchlets in the objects that gcc and clang make of `asm/patch_64.S` and
//! `asm/patch_32.S`, in the library that cargo links, and in this linked test: labels, order,
//! bytes, flags and relocations. Also checks that the inspection finds a fault in each of these.

mod support {
    pub mod elf;
    pub mod fixture;
    pub mod layout;
    pub mod meaning;
    pub mod script;
    pub mod table;
}

use std::path::{Path, PathBuf};
use std::{env, fs};

use support::elf::{self, Image, Label};
use support::layout::{check, inspect_linked};
use support::script::assemble;
use support::table::{Width, native};

/// Returns the source for a width, and a target of that width.
fn source(width: Width) -> (String, &'static str) {
    let (file, target) = match width {
        Width::Bits64 => ("patch_64.S", "x86_64-unknown-none"),
        Width::Bits32 => ("patch_32.S", "i686-unknown-linux-gnu"),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("asm").join(file);
    (
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        target,
    )
}

/// Assembles the native set and returns the folder of the results, OUT_DIR.
fn build(case: &str, width: Width, compiler: &str) -> PathBuf {
    let (source, target) = source(width);
    let outcome = assemble(case, &source, target, &[("CC", compiler)]);
    assert_eq!(outcome.errors, [""; 0], "{width} with {compiler}");
    assert_eq!(outcome.linked, ["static:+whole-archive=own_patchlets"]);
    outcome.out
}

/// Assembles and inspects an object, which must have exactly the native set.
fn object(case: &str, width: Width, compiler: &str) -> Image {
    let image = elf::read(&build(case, width, compiler).join("own_patchlets.o"));
    assert!(image.relocatable);
    assert_eq!(image.width, width);
    let found = check(&image).unwrap_or_else(|reason| panic!("{width} by {compiler}: {reason}"));
    assert_eq!(found.len(), native(width).len());
    image
}

#[test]
fn object_64_by_gcc() {
    object("object_64_by_gcc", Width::Bits64, "gcc");
}

#[test]
fn object_64_by_clang() {
    object("object_64_by_clang", Width::Bits64, "clang");
}

#[test]
fn object_32_by_gcc() {
    object("object_32_by_gcc", Width::Bits32, "gcc");
}

#[test]
fn object_32_by_clang() {
    object("object_32_by_clang", Width::Bits32, "clang");
}

/// Assembles by a clang whose default target is another one, as on an ARM machine.
#[test]
fn object_by_a_clang_for_arm() {
    for (case, width) in [("arm_64", Width::Bits64), ("arm_32", Width::Bits32)] {
        object(case, width, "clang --target=aarch64-unknown-linux-gnu");
    }
}

#[test]
fn the_library_holds_the_checked_object_and_no_other() {
    let out = build("library", Width::Bits64, "gcc");
    let library = fs::read(out.join("libown_patchlets.a")).expect("the library");
    let object = fs::read(out.join("own_patchlets.o")).expect("the object");
    let archive = object::read::archive::ArchiveFile::parse(&*library).expect("an archive");
    let members: Vec<_> = archive
        .members()
        .map(|member| member.and_then(|member| member.data(&*library)).expect("a member"))
        .collect();
    assert_eq!(members, [&object[..]]);
}

#[test]
fn the_table_has_the_order_of_the_source() {
    for width in [Width::Bits64, Width::Bits32] {
        let (source, _) = source(width);
        let names: Vec<_> = source
            .lines()
            .filter_map(|line| line.strip_prefix("PATCHLET(")?.strip_suffix(')'))
            .collect();
        assert_eq!(names, native(width).iter().map(|row| row.name).collect::<Vec<_>>(), "{width}");
    }
}

#[test]
fn this_very_test_as_it_was_linked() {
    let width = if cfg!(target_arch = "x86_64") { Width::Bits64 } else { Width::Bits32 };
    let found = inspect_linked(&env::current_exe().expect("its own path"), width);
    assert_eq!(found.len(), native(width).len());
    // Without this reference, the linker would not take the library.
    assert_eq!(patchlet::native::ALL.len(), found.len());
}

/// Puts faults into a correct image, one at a time, and checks the message about each.
#[test]
fn every_fault_is_seen() {
    type Fault = fn(&mut Image);
    fn label<'a>(image: &'a mut Image, name: &str) -> &'a mut Label {
        image.labels.iter_mut().find(|label| label.name == name).expect("a label")
    }
    let image = object("every_fault_is_seen", Width::Bits64, "gcc");
    let faults: &[(Fault, &str)] = &[
        (
            |image| image.labels.retain(|label| label.name != "patchlet_read_cr2_end"),
            "there is no label `patchlet_read_cr2_end`",
        ),
        (
            |image| image.labels.retain(|label| !label.name.starts_with("patchlet_halt")),
            "`halt` is missing",
        ),
        (
            |image| image.labels.push(image.labels[0].clone()),
            "there are two labels `patchlet_irq_disable_start`",
        ),
        (
            |image| label(image, "patchlet_save_fl_end").address = 2,
            "`save_fl` starts at 0x2 and ends at 0x2",
        ),
        (
            |image| label(image, "patchlet_save_fl_start").size = 1,
            "the size of `save_fl` is said to be 1",
        ),
        (
            |image| {
                label(image, "patchlet_save_fl_start").address = 1;
                label(image, "patchlet_save_fl_start").size = 3;
            },
            "`irq_enable` ends at 0x2, but `save_fl` starts at 0x1",
        ),
        (
            |image| {
                label(image, "patchlet_save_fl_start").address = 3;
                label(image, "patchlet_save_fl_start").size = 1;
            },
            "`irq_enable` ends at 0x2, but `save_fl` starts at 0x3",
        ),
        (
            |image| {
                for side in ["start", "end"] {
                    label(image, &format!("patchlet_wbinvd_{side}")).name =
                        format!("patchlet_other_{side}");
                }
            },
            "`other` is where `wbinvd` belongs",
        ),
        (|image| image.section.bytes[4] = 0x50, "`restore_fl` is 50 9d, not 57 9d"),
        (|image| image.section.bytes.push(0x90), "39 of the section's 40 bytes are in patchlets"),
        (
            |image| image.section.flags |= 1,
            "the flags 0x200003 of .rodata.patchlets are not those of read-only data",
        ),
        (
            |image| image.section.flags |= 4,
            "the flags 0x200006 of .rodata.patchlets are not those of read-only data",
        ),
        (|image| image.section.flags = 2, "the section is .rodata.patchlets with flags 0x2"),
        (
            |image| label(image, "patchlet_ud2_end").hidden = false,
            "`patchlet_ud2_end` is not global and hidden",
        ),
        (|image| image.relocations.push(5), "`restore_fl` has a relocation at 0x5"),
        (
            |image| {
                image.relocatable = false;
                image.executable.push(0x10..0x20);
            },
            "`wbinvd` at 0xf is in an executable segment, 0x10..0x20",
        ),
    ];
    for (fault, reason) in faults {
        let mut broken = image.clone();
        fault(&mut broken);
        assert_eq!(check(&broken), Err((*reason).to_owned()));
    }
}
