//! Checks the output of the tool: golden files, folding, colour, and exit status.

use patchlet::Width;
use patchlet::inspect::{Exit, native_set};

use crate::sample::Sample;
use crate::tool::{file, golden, on_terminal, tool};

const WIDTHS: [(Width, u32); 2] = [(Width::Bits64, 64), (Width::Bits32, 32)];

/// Writes the sample of a width to a file and returns its path.
fn sample(test: &str, width: Width) -> String {
    file(test, "kernel", &Sample::new(width).with_op_records().bytes())
}

/// Returns the output without the folder, which differs from machine to machine.
fn without_folder(text: &str, path: &str) -> String {
    let folder = path.strip_suffix("kernel").expect("the sample's path");
    text.replace(folder, "")
}

fn check(command: &str, arguments: &[&str]) {
    for (width, bits) in WIDTHS {
        let path = sample(&format!("output-{command}-{bits}"), width);
        check_file(command, arguments, &path, &format!("{command}-{bits}"));
    }
}

/// Checks a command on the sample with variants, keys and branch sites.
fn check_with_branches(command: &str, arguments: &[&str]) {
    for (width, bits) in WIDTHS {
        let sample = Sample::new(width).with_op_records().with_variants_and_branches();
        let path = file(&format!("output-{command}-branches-{bits}"), "kernel", &sample.bytes());
        check_file(command, arguments, &path, &format!("{command}-branches-{bits}"));
    }
}

/// Compares the output of a command on a file, as text and as JSON, with the golden files of this
/// name.
fn check_file(command: &str, arguments: &[&str], path: &str, name: &str) {
    let mut all = vec![command, path];
    all.extend(arguments);
    for (json, ending) in [(false, "txt"), (true, "json")] {
        let mut all = all.clone();
        if json {
            all.push("--json");
        }
        let output = tool(&all);
        assert_eq!((output.exit, &*output.err), (Exit::Holds, ""), "{command}: {}", output.out);
        golden(&format!("{name}.{ending}"), &without_folder(&output.out, path));
    }
}

#[test]
fn list_is_as_blessed() {
    check("list", &[]);
}

#[test]
fn sites_are_as_blessed() {
    check("sites", &[]);
}

#[test]
fn verify_is_as_blessed() {
    check("verify", &[]);
}

#[test]
fn plan_is_as_blessed() {
    check(
        "plan",
        &["--platform", "save_fl=tick,pv.irq_disable=nop,flush_page=ident,time.ticks_low=null"],
    );
}

#[test]
fn branches_and_variants_are_as_blessed() {
    check_with_branches("list", &[]);
    check_with_branches("sites", &[]);
    check_with_branches("verify", &[]);
    check_with_branches("plan", &["--cpu", "Broadwell", "--key", "TRACE=on"]);
}

#[test]
fn help_and_man_page_are_as_blessed() {
    let mut text = tool(&["--help"]).out;
    let commands = [
        "list",
        "sites",
        "verify",
        "plan",
        "apply",
        "raw",
        "diff",
        "explain",
        "completions",
        "man",
    ];
    for command in commands {
        let output = tool(&[command, "--help"]);
        assert_eq!(output.exit, Exit::Holds);
        assert!(output.out.contains("Example"), "{command} --help shows no example");
        text += &format!("\n==== {command}\n{}", output.out);
    }
    golden("help.txt", &text);
    golden("man.1", &tool(&["man"]).out);
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = tool(&["completions", shell]);
        assert_eq!(output.exit, Exit::Holds);
        for command in ["list", "sites", "verify", "plan", "apply", "raw", "diff"] {
            assert!(output.out.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn wide_output_is_folded_at_the_same_columns() {
    let path = sample("folding", Width::Bits64);
    let narrow = on_terminal(&["sites", &path], false, Some(60)).out;
    let rows = narrow.lines().skip(1).filter(|line| !line.ends_with("foreign"));
    let rows: Vec<&str> = rows.take_while(|line| !line.trim_start().starts_with("1 ")).collect();
    assert!(rows.iter().all(|line| line.len() <= 60), "{narrow}");
    let folded = rows.iter().filter(|line| line.starts_with("      ")).count();
    assert!(folded >= rows.len() / 2, "{narrow}");
    let wide = on_terminal(&["sites", &path], false, Some(400)).out;
    assert_eq!(wide, tool(&["sites", &path]).out, "wide enough: not folded");
}

#[test]
fn colour_is_decoration_only() {
    let path = sample("colour", Width::Bits64);
    for command in ["list", "sites", "verify"] {
        let (plain, coloured) =
            (tool(&[command, &path]).out, on_terminal(&[command, &path], true, None).out);
        assert!(coloured.contains('\u{1b}') && !plain.contains('\u{1b}'), "{command}");
        let mut without = String::new();
        for (at, part) in coloured.split('\u{1b}').enumerate() {
            let text = if at == 0 { part } else { part.split_once('m').expect("m ends it").1 };
            without += text;
        }
        assert_eq!(without, plain, "{command}");
    }
}

/// Checks that the program `patchlet` returns the exit status of the function.
#[test]
fn the_program_has_the_exit_status_of_the_function() {
    let path = sample("program", Width::Bits64);
    let mut broken = Sample::new(Width::Bits64);
    broken.record(0)[11] = 2;
    let broken = file("program", "broken", &broken.bytes());
    let run = |arguments: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_patchlet"))
            .args(arguments)
            .env("CLICOLOR_FORCE", "1")
            .output()
            .expect("the program starts")
    };
    for (arguments, status) in [
        (&["verify", &path][..], 0),
        (&["verify", &broken], 1),
        (&["verify", "/nowhere"], 2),
        (&["verify"], 2),
        (&["--help"], 0),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        assert!(!output.stdout.contains(&0x1b), "colour in a pipe");
    }
    let output = run(&["list", &path]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), tool(&["list", &path]).out);
}

#[test]
fn filters_choose_sites() {
    let path = sample("filters", Width::Bits64);
    let lines = |arguments: &[&str]| {
        let mut all = vec!["sites", &path];
        all.extend(arguments);
        let out = tool(&all).out;
        out.lines().filter(|line| line.starts_with("0x")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&[]).len(), 6);
    assert_eq!(lines(&["--op", "save_fl", "--op", "ticks_low"]).len(), 2);
    for words in ["time.ticks_low", "own_ops.ticks_low", "own_ops.time.ticks_low", "own_ops[1]"] {
        assert_eq!(lines(&["--op", words]), lines(&["--op", "ticks_low"]), "{words}");
    }
    assert_eq!(lines(&["--function", "own"]).len(), 3);
    assert_eq!(lines(&["--function", "own", "--op", "ticks_low"]).len(), 1);
    // Its native function's name, which was the op's as long as no record said another one.
    let output = tool(&["sites", &path, "--op", "ticks_low", "--op", "tick"]);
    assert_eq!((output.exit, &*output.out), (Exit::Failed, ""));
    let names = "own.ident, pv.irq_disable, pv.save_fl, pv.usergs_sysret64, time.ticks_low, \
                 tlb.flush_page";
    let error = format!("no site is of an op `tick`; there are {names}\n");
    assert!(output.err.ends_with(&error), "{}", output.err);
    let out = tool(&["sites", &path, "--op", "ticks_low"]).out;
    assert!(out.contains("1 site of 6"), "{out}");
}

/// Checks that ops are shown by the names in the file, stripped or not, or else by their native
/// functions.
#[test]
fn ops_are_shown_by_their_names() {
    for (width, bits) in WIDTHS {
        let ops = |sample: Sample| {
            let path = file(&format!("names-{bits}"), "kernel", &sample.bytes());
            let out = tool(&["sites", &path]).out;
            let rows = out.lines().filter(|line| line.starts_with("0x"));
            let op = |row: &str| row.split_whitespace().nth(1).expect("its op").to_owned();
            rows.map(op).collect::<Vec<_>>()
        };
        let leave = if bits == 64 { "usergs_sysret64" } else { "iret" };
        let short = ["save_fl", "irq_disable", "invlpg", "tick", "ident", leave];
        let names =
            ["pv.save_fl", "pv.irq_disable", "tlb.flush_page", "time.ticks_low", "own.ident"];
        let left = format!("pv.{leave}");
        let names = [&names[..], &[&left]].concat();
        assert_eq!(ops(Sample::new(width)), short);
        assert_eq!(ops(Sample::new(width).with_op_records()), names);
        assert_eq!(ops(Sample::new(width).with_op_records().stripped()), names);

        // `raw` too says which op there is.
        let mut sample = Sample::new(width).with_op_records();
        sample.function("raw_cli", &[0xfa, 0xc3]);
        let path = file(&format!("names-{bits}"), "raw", &sample.bytes());
        let out = tool(&["raw", &path]).out;
        assert!(out.contains("  pv.irq_disable  fa"), "{out}");
    }
}

#[test]
fn what_is_required_must_be_there() {
    let path = sample("required", Width::Bits64);
    let output = tool(&["verify", &path, "--require", "invlpg,save_fl"]);
    assert_eq!(output.exit, Exit::Holds, "{}", output.out);
    let output = tool(&["verify", &path, "--require", "invlpg,rdtsc"]);
    assert_eq!(output.exit, Exit::Finding);
    assert!(output.out.starts_with("patchlet-missing: patchlet `rdtsc` of --require"));
}

/// Checks the expected number of sites, which only the author of a kernel knows.
#[test]
fn as_many_sites_as_are_expected() {
    for (width, bits) in WIDTHS {
        let path = sample(&format!("expected-{bits}"), width);
        for (expected, holds, words) in [
            ("6", true, ""),
            ("6..", true, ""),
            ("0..", true, ""),
            ("5", false, "site-count: table of records: it has 6 sites, and 5 were expected; "),
            ("7..", false, "it has 6 sites, and at least 7 were expected; "),
        ] {
            let output = tool(&["verify", &path, "--expect-sites", expected]);
            let exit = if holds { Exit::Holds } else { Exit::Finding };
            assert_eq!(output.exit, exit, "{expected}: {}{}", output.out, output.err);
            assert!(output.out.contains(words), "{expected}: {}", output.out);
            assert_eq!(output.out.lines().count(), if holds { 1 } else { 2 }, "{}", output.out);
        }
        // A table of which nothing is left.
        let mut lost = Sample::new(width).with_op_records();
        lost.section_mut("patchlet_sites").data.clear();
        lost.symbol_mut("__stop_patchlet_sites").address = crate::sample::SITES;
        let path = file(&format!("expected-{bits}"), "lost", &lost.bytes());
        let output = tool(&["verify", &path, "--expect-sites", "1.."]);
        assert_eq!(output.exit, Exit::Finding);
        assert!(output.out.contains("it has 0 sites, and at least 1 were"), "{}", output.out);
        for wrong in ["", "..", "6..7", "six"] {
            let output = tool(&["verify", &path, "--expect-sites", wrong]);
            assert_eq!((output.exit, &*output.out), (Exit::Failed, ""), "{wrong}");
        }
    }
}

/// Checks that the tool has the native set of the crate: that of this width as it is linked here,
/// that of the other as in the tests' table.
#[test]
fn the_native_set_is_that_of_the_crate() {
    let linked: Vec<_> =
        patchlet::native::ALL.iter().map(|patchlet| (patchlet.name(), patchlet.bytes())).collect();
    assert_eq!(native_set(Width::NATIVE), linked);
}
