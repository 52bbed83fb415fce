//! The parser of contracts in the comments of `.S` files. A word that it does not know is an
//! error: if it were ignored, a contract could promise more than is checked.

use core::fmt;

use iced_x86::Register;

use super::terms::{Contract, Flags, MemoryAccess, Privilege, SystemFlag, whole};
use crate::insn::Width;

/// The reason why the contract of a patchlet cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadContract {
    /// Name of the patchlet.
    pub name: String,
    /// What is wrong with the contract, with the word that is wrong.
    pub reason: String,
}

impl fmt::Display for BadContract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the contract of patchlet `{}` {}", self.name, self.reason)
    }
}

impl std::error::Error for BadContract {}

/// Reads the contract of every patchlet in the text of a `.S` file, for one width.
///
/// # Errors
/// Returns an error for the first patchlet that has no contract, or a contract with a word that is
/// not known.
pub fn parse(source: &str, width: Width) -> Result<Vec<Contract>, BadContract> {
    let mut contracts = Vec::new();
    let mut before = 0;
    for (at, line) in lines(source) {
        let Some(name) = line.strip_prefix("PATCHLET(").and_then(|rest| rest.split(')').next())
        else {
            continue;
        };
        let above = source.get(before..at).unwrap_or_default();
        before = at;
        let bad = |reason: String| BadContract { name: name.to_owned(), reason };
        let comment = comment_above(above, "PATCHLET").map_err(bad)?;
        contracts.push(contract(name, comment, width).map_err(bad)?);
    }
    Ok(contracts)
}

/// Returns the comment with which the text above a macro ends, or the predicate of an error message.
pub(super) fn comment_above<'a>(text: &'a str, name_of_macro: &str) -> Result<&'a str, String> {
    let comment = text.trim_end().strip_suffix("*/").and_then(|above| above.rsplit_once("/*"));
    let (_, comment) = comment.ok_or_else(|| {
        format!(
            "is missing: put a comment with it right above {name_of_macro}, with no code between"
        )
    })?;
    Ok(comment)
}

/// Returns the lines of a text without white space around them, each with its offset in bytes.
pub(super) fn lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    source.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        (start, line.trim())
    })
}

/// The names of the fields, as they are written.
const FIELDS: [&str; 9] =
    ["in", "out", "clobbers", "saves", "flags", "stack", "memory", "privilege", "CPU"];

/// Returns a clause that names the fields of a contract, for messages.
fn known_fields() -> String {
    let [needed @ .., cpu] = FIELDS;
    format!(
        "the fields are {} and {cpu}; saves, stack, memory and CPU may be left out",
        needed.join(", ")
    )
}

/// Returns the text of each field, in the order of [`FIELDS`].
fn fields(comment: &str) -> Result<[Option<String>; FIELDS.len()], String> {
    let mut fields: [Option<String>; FIELDS.len()] = Default::default();
    let mut open = None;
    let words = comment.lines().map(|line| line.trim().trim_start_matches('*'));
    for word in words.flat_map(str::split_whitespace) {
        let begins =
            word.strip_suffix(':').and_then(|name| FIELDS.iter().position(|field| *field == name));
        if let Some(field) = begins.and_then(|index| fields.get_mut(index)) {
            if field.is_some() {
                return Err(format!("has the field `{}` twice", word.trim_end_matches(':')));
            }
            *field = Some(String::new());
            open = begins;
        } else if let Some(name) = word.strip_suffix(':')
            && open.is_some()
            && name.chars().all(|c| c.is_ascii_alphabetic())
        {
            return Err(format!("has a field `{name}`, which is not known; {}", known_fields()));
        } else if let Some(Some(text)) = open.and_then(|index| fields.get_mut(index)) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
    }
    Ok(fields)
}

/// Returns the contract that the comment above a patchlet says, or the predicate of an error
/// message.
fn contract(name: &str, comment: &str, width: Width) -> Result<Contract, String> {
    let fields = fields(comment)?;
    let [inputs, outputs, clobbers, saved, flags, stack, memory, privilege, _] =
        fields.map(|field| field.map(|text| for_width(&text, width)));
    let need = |field: Option<String>, name| {
        field.ok_or_else(|| format!("has no field `{name}`; {}", known_fields()))
    };
    let registers = |text: &str| registers(text, width);
    let (inputs, control_written) = registers(&need(inputs, "in")?)?;
    let outputs = need(outputs, "out")?;
    let leaves = ["does not return", "raises #UD"].contains(&outputs.as_str());
    let (outputs, control_read) =
        if leaves { (Vec::new(), Vec::new()) } else { registers(&outputs)? };
    let (clobbers, _) = registers(&need(clobbers, "clobbers")?)?;
    let (saved, _) = saved.map_or_else(|| Ok(Default::default()), |text| registers(&text))?;
    Ok(Contract {
        name: name.to_owned(),
        inputs,
        outputs,
        clobbers,
        saved,
        control_read,
        control_written,
        flags: self::flags(&need(flags, "flags")?)?,
        stack: stack.map_or(Ok(0), |text| self::stack(&text))?,
        memory: memory.map_or_else(|| Ok(Vec::new()), |text| self::memory(&text, width))?,
        privilege: self::privilege(&need(privilege, "privilege")?),
        leaves,
    })
}

/// Returns the text of a field for one width: of `RDI (32-bit: EAX)`, `RAX (EAX)` or
/// `8 (32-bit: 4)`, the value for this width. Other text in parentheses is for people and left
/// out.
fn for_width(text: &str, width: Width) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, (inside, after))) =
        rest.split_once('(').and_then(|(before, behind)| Some((before, behind.split_once(')')?)))
    {
        let named = inside.strip_prefix("32-bit:").map(str::trim);
        let other = named.or_else(|| register(inside).is_some().then_some(inside));
        match (other, width) {
            (Some(other), Width::Bits32) => {
                // The value for 32 bit replaces the word before the parenthesis.
                let kept = before.trim_end().rsplit_once(' ').map_or("", |(kept, _)| kept);
                result.push_str(kept);
                result.push(' ');
                result.push_str(other);
            }
            (Some(_), Width::Bits64) => result.push_str(before.trim_end()),
            (None, _) => result.push_str(before.trim_end()),
        }
        rest = after;
    }
    result.push_str(rest);
    result.trim().to_owned()
}

/// Returns the registers that a list names, and the control registers that stand behind ` = `.
fn registers(text: &str, width: Width) -> Result<(Vec<Register>, Vec<Register>), String> {
    let mut own = Vec::new();
    let mut control = Vec::new();
    if text == "-" {
        return Ok((own, control));
    }
    for item in text.split(',') {
        let (name, meaning) = item.split_once('=').unwrap_or((item, ""));
        let name = name.trim().trim_end_matches(" base");
        let named = register(name).ok_or_else(|| {
            format!(
                "names `{name}`, which is no register; write registers in capitals with commas \
                 between, `RDI` or `EAX, EDX`, and `-` for none"
            )
        })?;
        own.push(whole(named, width));
        control.extend(register(meaning.trim()).filter(|register| register.is_cr()));
    }
    Ok((own, control))
}

/// Returns the register of this name, which is in capitals. Only whole registers have one here:
/// `RAX` or `EAX`, but not `AX`.
fn register(name: &str) -> Option<Register> {
    let is_capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    if name.is_empty() || !name.bytes().all(is_capital) {
        return None;
    }
    Register::values().find(|register| {
        let full = *register == register.full_register() || *register == register.full_register32();
        *register != Register::None && full && format!("{register:?}") == name
    })
}

fn flags(text: &str) -> Result<Flags, String> {
    match text.split([',', '(']).next().unwrap_or_default().trim() {
        "unchanged" => Ok(Flags::Unchanged),
        "status" | "undefined" => Ok(Flags::Status),
        "all" => Ok(Flags::All),
        from if from.starts_with("from ") => Ok(Flags::All),
        other => one_flag(other).ok_or_else(|| {
            let flags = SystemFlag::ALL.map(|flag| format!("`{0} = 0`, `{0} = 1`", flag.name()));
            format!(
                "says `{other}` of the flags, which is not known; known are `unchanged`, {}, \
                 `status`, `undefined`, `all` and `from …`",
                flags.join(", ")
            )
        }),
    }
}

/// Parses the change of one flag, such as `IF = 0`.
fn one_flag(text: &str) -> Option<Flags> {
    let (name, value) = text.split_once('=')?;
    let flag = SystemFlag::ALL.into_iter().find(|flag| flag.name() == name.trim())?;
    match value.trim() {
        "0" => Some(Flags::Cleared(flag)),
        "1" => Some(Flags::Set(flag)),
        _ => None,
    }
}

fn stack(text: &str) -> Result<u32, String> {
    let number = text.split_whitespace().next().unwrap_or_default();
    number.parse().map_err(|_| format!("says `{text}` of the stack: begin with the bytes"))
}

fn memory(text: &str, width: Width) -> Result<Vec<MemoryAccess>, String> {
    text.split(',').map(|access| memory_access(access, width)).collect()
}

fn memory_access(text: &str, width: Width) -> Result<MemoryAccess, String> {
    let unknown = || {
        format!(
            "says `{}` of memory: write `reads` or `writes`, how many bytes, and the register, \
             as in `writes one byte at RDI`, `reads 8 bytes at RSI` or `reads some bytes at RSI`; \
             with commas between several",
            text.trim()
        )
    };
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        [access @ ("reads" | "writes"), number, "byte" | "bytes", "at", at] => Ok(MemoryAccess {
            writes: access == "writes",
            bytes: match number {
                "some" => None,
                "one" => Some(1),
                number => Some(number.parse().map_err(|_| unknown())?),
            },
            at: whole(register(at).ok_or_else(unknown)?, width),
        }),
        _ => Err(unknown()),
    }
}

fn privilege(text: &str) -> Privilege {
    match text {
        "CPL 0" => Privilege::Cpl0,
        iopl if iopl.starts_with("CPL <= IOPL") => Privilege::Iopl,
        _ => Privilege::Any,
    }
}
