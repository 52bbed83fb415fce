//! Runs a command, and prints it in a form that can be pasted into a shell.

use std::process::Command;

/// Runs it to its end; `log` gets its line.
///
/// # Errors
/// Its name and what it said.
pub fn run(command: &mut Command, log: &mut Vec<String>) -> Result<(), String> {
    log.push(line(command));
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program} does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", complaint(&text)))
}

/// Returns the lines of a compiler or linker that say what is wrong, joined into one line.
fn complaint(text: &str) -> String {
    let says_why = |line: &&str| {
        let line = line.to_ascii_lowercase();
        let said = ["error", "undefined", "not recogni", "unknown", "fatal", "relocation", "ld: "];
        // rustc repeats the linker's command, and says at the end that it stops.
        let noise = ["\"-o\"", "linking with", "aborting due to"];
        said.iter().any(|word| line.contains(word)) && !noise.iter().any(|word| line.contains(word))
    };
    let mut lines: Vec<&str> = text.lines().filter(says_why).take(4).collect();
    if lines.is_empty() {
        lines = text.lines().take(4).collect();
    }
    let lines: Vec<&str> = lines.into_iter().map(str::trim).collect();
    let line = lines.join(" | ");
    line.chars().take(700).collect()
}

/// Returns the environment, program and arguments of a command as one line for a shell.
pub fn line(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        let value = value.unwrap_or_default().to_string_lossy();
        words.push(format!("{}={}", name.to_string_lossy(), quote(&value)));
    }
    words.push(quote(&command.get_program().to_string_lossy()));
    words.extend(command.get_args().map(|word| quote(&word.to_string_lossy())));
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
