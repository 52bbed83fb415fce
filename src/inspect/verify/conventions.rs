//! The check of patchlets' contracts against the ops that use them. For example, an op of class
//! `callee_save` must not have a patchlet that changes RCX, because the code around its sites
//! keeps values there.

use super::reference::Reference;
use crate::contract;
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::model::Model;

/// Compares each contract with the ops whose slots hold the patchlet's native function, or of which
/// a variant is that function.
pub(super) fn check(model: &Model<'_>, reference: &Reference<'_>, findings: &mut Findings) {
    for contract in &reference.contracts {
        let Some(patchlet) = model.patchlets.iter().find(|found| found.name == contract.name)
        else {
            continue;
        };
        let Some(native) = patchlet.native else { continue };
        for op in &model.op_records {
            let is_variant =
                model.variants_of(op.slot).iter().any(|variant| variant.function == native);
            let how = match model.image.pointer_at(op.slot) {
                Some(held) if held == native => "the native patchlet",
                _ if is_variant => "a variant that is the patchlet",
                _ => continue,
            };
            let compared = contract::compare(contract, op.convention, model.image.width());
            let Err(contradiction) = compared else { continue };
            findings.add(
                FindingCode::Contract,
                Some(op.slot),
                format!("op `{}` of table `{}`", op.name, op.table),
                format!("has {how} `{}`, but {contradiction}", patchlet.name),
                "give the op the class and the signature that its patchlet has (`c` for \
                 `callee_save`), or write the patchlet with other registers",
            );
        }
    }
}
