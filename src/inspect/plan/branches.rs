//! The plan of branch sites and keys. A site follows its key, and the state of a key is a word in
//! the file, so the two are planned and applied together: the kernel then finds each site in the
//! form that its key asks for, and has nothing to do.

use std::collections::HashMap;

use super::platform::PlatformSpec;
use crate::insn::InsnBuffer;
use crate::inspect::error::FileError;
use crate::inspect::formats::{BranchImage, KeyImage};
use crate::inspect::model::{BranchForm, Model};

/// The plan for one branch site.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BranchPlan<'m> {
    /// Record of the site.
    pub record: &'m BranchImage,
    /// Key that decides the site.
    pub key: &'m KeyImage<'m>,
    /// The form that the site would get: a jump, or nothing.
    pub gets: BranchForm,
    /// Bytes that the site holds.
    pub before: InsnBuffer,
    /// Bytes that the site would get.
    pub after: InsnBuffer,
}

/// The plan for one key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyPlan<'m> {
    /// The key.
    pub key: &'m KeyImage<'m>,
    /// State that the file says.
    pub before: u32,
    /// State that the file would say: 0 is off, 1 on. A key that counts keeps its count if it is
    /// on already.
    pub after: u32,
}

/// Makes the plan of the keys of a file for a platform, in the order of their addresses.
///
/// # Errors
/// Returns an error if the file has no such key, or several of that name.
pub fn plan_keys<'m>(
    model: &'m Model<'_>,
    platform: &PlatformSpec,
) -> Result<Vec<KeyPlan<'m>>, FileError> {
    let mut wanted: HashMap<Option<u64>, bool> = HashMap::new();
    for (words, is_on) in &platform.keys {
        match model.keys_meant(words)?[..] {
            [key] => wanted.insert(key.address, *is_on),
            _ => return Err(several(model, words)?),
        };
    }
    let plan = |key| -> Option<KeyPlan<'m>> {
        let key: &'m KeyImage<'m> = key;
        let before = key.state?;
        let after = match wanted.get(&key.address) {
            Some(true) => before.max(1),
            Some(false) => 0,
            None => before,
        };
        Some(KeyPlan { key, before, after })
    };
    Ok(model.keys().iter().filter_map(plan).collect())
}

/// Makes the plan that gives every key the state that it has from the start.
#[must_use]
pub fn plan_keys_revert<'m>(model: &'m Model<'_>) -> Vec<KeyPlan<'m>> {
    let plan = |key| -> Option<KeyPlan<'m>> {
        let key: &'m KeyImage<'m> = key;
        Some(KeyPlan { key, before: key.state?, after: u32::from(key.initially_on) })
    };
    model.keys().iter().filter_map(plan).collect()
}

/// Returns the error of a name that several keys have.
fn several(model: &Model<'_>, words: &str) -> Result<FileError, FileError> {
    let words_of = |key: &&KeyImage<'_>| {
        let path = model.key_path(key).map_or_else(String::new, |path| format!(" ({path})"));
        format!("{:#x}{path}", key.address.unwrap_or(0))
    };
    let all: Vec<String> = model.keys_meant(words)?.iter().map(words_of).collect();
    Ok(FileError::new(format!(
        "`{words}` is the name of several keys: say {} instead",
        all.join(" or ")
    )))
}

/// Makes the plan of the branch sites of a file for what its keys would say.
///
/// # Errors
/// Returns an error for the first site that holds none of its two forms, or has no key.
pub fn plan_branches<'m>(
    model: &'m Model<'_>,
    keys: &[KeyPlan<'m>],
) -> Result<Vec<BranchPlan<'m>>, FileError> {
    let keys: HashMap<Option<u64>, &KeyPlan<'m>> =
        keys.iter().map(|plan| (plan.key.address, plan)).collect();
    let mut plans = Vec::new();
    for record in model.branches() {
        let bad = |why: &str| {
            let function = model.function(record.site);
            FileError::new(format!("branch site {:#x} ({function}): {why}", record.site))
        };
        let in_text = model.image.section_at(record.site);
        let (Some(before), true) =
            (model.branch_bytes(record), in_text.is_some_and(|section| section.is_executable()))
        else {
            return Err(bad("it is not inside an executable section"));
        };
        let Some(plan) = keys.get(&Some(record.key)) else {
            return Err(bad(&format!("{:#x} is no key of the file", record.key)));
        };
        if model.branch_form(record) == BranchForm::Foreign {
            return Err(bad(&format!(
                "it holds {before}, which is neither its NOP nor its jump: run `patchlet verify`"
            )));
        }
        let is_on = plan.after != 0;
        let after =
            model.branch_bytes_for(record, is_on).map_err(|error| bad(&error.to_string()))?;
        let jumps = record.jumps_when().ok_or_else(|| bad("its direction is not possible"))?;
        let gets = if jumps == is_on { BranchForm::Jump } else { BranchForm::Nop };
        plans.push(BranchPlan { record, key: plan.key, gets, before, after });
    }
    Ok(plans)
}
