//! What `make cpu-models` runs: asks QEMU what CPUID says on each CPU model it knows, and writes
//! `src/inspect/cpu/models.txt`, from which `patchlet plan --cpu` knows them.
//!
//! QEMU is started once for each model, without a program, and asked by its monitor (QMP). It says
//! which features the model has under its own emulation, TCG, and which were left out because TCG
//! does not have them. Both together are the model.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use serde_json::Value;

/// The registers of CPUID that are written: leaf, sub-leaf, and the register by its QMP name. Those
/// that hold features which a kernel can use.
const COLUMNS: [(u64, u64, &str); 14] = [
    (0x1, 0, "EDX"),
    (0x1, 0, "ECX"),
    (0x6, 0, "EAX"),
    (0x7, 0, "EBX"),
    (0x7, 0, "ECX"),
    (0x7, 0, "EDX"),
    (0x7, 1, "EAX"),
    (0xd, 0, "EAX"),
    (0xd, 1, "EAX"),
    (0x8000_0001, 0, "EDX"),
    (0x8000_0001, 0, "ECX"),
    (0x8000_0007, 0, "EDX"),
    (0x8000_0008, 0, "EBX"),
    (0x8000_0021, 0, "EAX"),
];

/// What CPUID says: the value of a register for leaf, sub-leaf and the register's name.
type Registers = BTreeMap<(u64, u64, String), u64>;

fn main() {
    let mut text = String::new();
    let greeting = ask("qemu-system-x86_64", "max", &[]);
    let version = &greeting[0]["QMP"]["version"]["qemu"];
    writeln!(
        text,
        "# CPU models of QEMU {}.{}.{}, by `make cpu-models` (tests/programs/cpu_models). Of each: the name, the\n\
         # vendor, and registers of CPUID, as these columns say. `tcg` and `tcg32` are what QEMU's own\n\
         # emulation has, in 64-bit and in 32-bit programs.",
        version["major"], version["minor"], version["micro"]
    )
    .expect("memory");
    let columns = COLUMNS.map(|(leaf, sub_leaf, register)| {
        format!("{leaf:x}/{sub_leaf:x}/{}", register.to_lowercase())
    });
    writeln!(text, "model vendor {}", columns.join(" ")).expect("memory");
    for (name, program) in [("tcg", "qemu-system-x86_64"), ("tcg32", "qemu-system-i386")] {
        let (vendor, here, _) = registers(program, "max");
        row(&mut text, name, &vendor, &here);
    }
    for model in models() {
        let (vendor, here, left_out) = registers("qemu-system-x86_64", &model);
        let mut all = here;
        for (register, bits) in left_out {
            *all.entry(register).or_default() |= bits;
        }
        row(&mut text, &model, &vendor, &all);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inspect/cpu/models.txt");
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    println!("{}", path.display());
}

/// Returns the names of all models, sorted, but those that mean the machine or the accelerator.
fn models() -> Vec<String> {
    let answers = ask("qemu-system-x86_64", "max", &[r#""query-cpu-definitions""#]);
    let all = answers[2]["return"].as_array().expect("a list of models");
    let names = all.iter().map(|model| model["name"].as_str().expect("a name").to_owned());
    let mut names: Vec<String> =
        names.filter(|name| !["max", "host", "base"].contains(&&**name)).collect();
    names.sort();
    assert!(names.len() > 40, "{names:?}");
    names
}

/// Returns the vendor of a model, its registers under TCG, and the bits that TCG left out.
fn registers(program: &str, model: &str) -> (String, Registers, Registers) {
    let get = |property| {
        format!(
            r#""qom-get","arguments":{{"path":"/machine/unattached/device[0]","property":"{property}"}}"#
        )
    };
    let commands = ["vendor", "feature-words", "filtered-features"].map(get);
    let answers = ask(program, model, &commands.each_ref().map(String::as_str));
    let vendor = answers[2]["return"].as_str().expect(model).to_owned();
    let words = |answer: &Value| -> Registers {
        let words = answer["return"].as_array().expect(model).iter();
        let word = |word: &Value| {
            let leaf = word["cpuid-input-eax"].as_u64().expect("a leaf");
            let sub_leaf = word["cpuid-input-ecx"].as_u64().unwrap_or(0);
            let register = word["cpuid-register"].as_str().expect("a register").to_owned();
            ((leaf, sub_leaf, register), word["features"].as_u64().expect("its bits"))
        };
        words.map(word).collect()
    };
    (vendor, words(&answers[3]), words(&answers[4]))
}

/// Appends the row of a model.
fn row(text: &mut String, name: &str, vendor: &str, registers: &Registers) {
    write!(text, "{name} {vendor}").expect("memory");
    for (leaf, sub_leaf, register) in COLUMNS {
        let value = registers.get(&(leaf, sub_leaf, register.to_owned()));
        // A QEMU that does not know a register leaves it 0.
        write!(text, " {:x}", value.unwrap_or(&0)).expect("memory");
    }
    text.push('\n');
}

/// Starts QEMU with a CPU and gives it commands. Returns its answers: the greeting, that to the
/// command which begins every dialogue, and one for each of these.
fn ask(program: &str, model: &str, commands: &[&str]) -> Vec<Value> {
    let mut qemu = Command::new(program)
        .args(["-machine", "pc", "-accel", "tcg", "-cpu", model, "-S"])
        .args(["-display", "none", "-nodefaults", "-qmp", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Which features TCG does not have, a line for each.
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; run `make setup`"));
    let mut input = qemu.stdin.take().expect("piped");
    for command in [r#""qmp_capabilities""#].iter().chain(commands).chain([&r#""quit""#]) {
        writeln!(input, r#"{{"execute":{command}}}"#).expect("QEMU reads it");
    }
    let output = qemu.wait_with_output().expect("it ends by `quit`");
    let answers = String::from_utf8(output.stdout).expect("JSON");
    let answers = answers.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let answers: Vec<Value> = answers.filter(|answer: &Value| answer["event"].is_null()).collect();
    assert!(answers.len() > commands.len() + 1, "{model}: {answers:?}");
    answers
}
