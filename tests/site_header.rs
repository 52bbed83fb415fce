//! Checks that asm/site.h reports an op that a table does not have, and a site with too many or too
//! few parameters, with GNU as and with LLVM's assembler.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use object::{Object, ObjectSection, ObjectSymbol};

const COMPILERS: [&str; 2] = ["gcc", "clang"];

/// Assembles a source with this line in it, for a width; returns the object's file too.
fn assemble(compiler: &str, bits: u32, name: &str, line: &str) -> (Output, Vec<u8>) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("site-header");
    fs::create_dir_all(&folder).expect("a folder below CARGO_TARGET_TMPDIR");
    let source = folder.join(format!("{name}-{compiler}-{bits}.S"));
    let object = source.with_extension("o");
    let text = format!("#include \"site.h\"\n.globl function\nfunction:\n\t{line}\n\tret\n");
    fs::write(&source, text).expect("a file of the folder");
    let output = Command::new(compiler)
        .args([&format!("-m{bits}"), "-c", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("asm"))
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    (output, fs::read(object).unwrap_or_default())
}

/// Returns the names of the undefined symbols of an object.
fn undefined(object: &[u8]) -> Vec<String> {
    let file = object::File::parse(object).expect("an object");
    let symbols = file.symbols().filter(|symbol| symbol.is_undefined());
    let mut names: Vec<_> = symbols.map(|symbol| symbol.name().unwrap_or("").to_owned()).collect();
    names.retain(|name| !name.is_empty());
    names.sort();
    names
}

#[test]
fn an_op_is_a_symbol_of_its_table() {
    for compiler in COMPILERS {
        for bits in [64, 32] {
            let line = "PATCHLET_CALL flush_pgae, capacity=8, table=my_ops";
            let (output, object) = assemble(compiler, bits, "named", line);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(undefined(&object), ["my_ops.flush_pgae", "my_ops.flush_pgae.index"]);
            // One of the built-in table has its index from the header.
            let (_, object) = assemble(compiler, bits, "builtin", "PATCHLET_JMP save_fl");
            assert_eq!(undefined(&object), ["patchlet_pv_ops"]);
            let (output, _) = assemble(compiler, bits, "typo", "PATCHLET_CALL no_such_op");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("the built-in table has no op `no_such_op`"), "{said}");
        }
    }
}

#[test]
fn a_site_names_its_op_or_gives_an_index() {
    for compiler in COMPILERS {
        let (output, object) =
            assemble(compiler, 64, "index", "PATCHLET_CALL table=my_ops, index=3");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(undefined(&object), ["my_ops"]);
        for (name, line, says) in [
            (
                "both",
                "PATCHLET_CALL no_such_op, table=t, index=1",
                "names its op or gives its index",
            ),
            ("neither", "PATCHLET_CALL table=t", "names its op, or gives the index of one"),
            ("small", "PATCHLET_JMP swapgs, capacity=5", "a patch site has 6 to 32 bytes"),
            ("large", "PATCHLET_JMP swapgs, capacity=33", "a patch site has 6 to 32 bytes"),
        ] {
            let (output, _) = assemble(compiler, 64, name, line);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(says), "{compiler}, {line}: {said}");
        }
    }
}

/// The slots that a `.S` file calls through are hidden there, or a shared object with a site would
/// not link: a call of 6 bytes reaches them at a fixed distance only. And the index of an op that
/// is named comes in by a relocation that every linker takes there.
#[test]
fn a_site_in_assembly_links_wherever_it_is_loaded() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("site-header");
    for compiler in COMPILERS {
        for (name, line, record) in [
            ("shared-builtin", "PATCHLET_CALL save_fl", [2, 0, 6, 0]),
            ("shared-own", "PATCHLET_JMP flush_page, capacity=4+5, table=my_ops", [3, 0, 9, 1]),
        ] {
            let (output, object) = assemble(compiler, 64, name, line);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let path = folder.join(format!("{name}-{compiler}.o"));
            fs::write(&path, object).expect("a file of the folder");
            // As `ops!` defines them: the slots visible, as far as their object goes, and the names
            // of ops hidden.
            let tables = folder.join("tables.S");
            let text = ".data\n.globl patchlet_pv_ops, my_ops.flush_page, my_ops.flush_page.index\n\
                        .hidden my_ops.flush_page, my_ops.flush_page.index\n\
                        patchlet_pv_ops: .skip 128\nmy_ops.flush_page: .skip 8\n\
                        .set my_ops.flush_page.index, my_ops.flush_page\n\
                        .size my_ops.flush_page.index, 3\n\
                        .section .note.GNU-stack,\"\",@progbits\n";
            fs::write(&tables, text).expect("a file of the folder");
            for (linker, form) in ["bfd", "lld", "mold"]
                .into_iter()
                .flat_map(|linker| ["-shared", "-static-pie", "-no-pie"].map(|form| (linker, form)))
            {
                let linked = folder.join(format!("{name}.linked"));
                let output = Command::new("gcc")
                    .args([form, "-nostdlib", "-Wl,-e,0", &format!("-fuse-ld={linker}")])
                    .args([&path, &tables])
                    .arg("-o")
                    .arg(&linked)
                    .output()
                    .expect("gcc starts");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{compiler}, {linker}, {form}, {line}: {said}");
                let bytes = fs::read(&linked).expect("it was linked");
                let file = object::File::parse(&*bytes).expect("an ELF file");
                let sites = file.section_by_name("patchlet_sites").expect("the table");
                // Index, capacity and kind.
                let end = &sites.data().expect("its records")[8..];
                assert_eq!(end, record, "{compiler}, {linker}, {form}, {line}");
            }
        }
    }
}
