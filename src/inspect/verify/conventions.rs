//! The check of patchlets' contracts against the ops that use them. For example, an op of class
//! `callee_save` must not have a patchlet that changes RCX, because the code around its sites
//! keeps values there.

use super::reference::Reference;
use crate::contract;
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::model::Model;

/// Compares each contract with the ops whose slots hold the patchlet's native function.
pub(super) fn check(model: &Model<'_>, reference: &Reference<'_>, findings: &mut Findings) {
    for contract in &reference.contracts {
        let Some(patchlet) = model.patchlets.iter().find(|found| found.name == contract.name)
        else {
            continue;
        };
        let is_native =
            |slot| patchlet.native.is_some() && model.image.pointer_at(slot) == patchlet.native;
        for op in model.op_records.iter().filter(|op| is_native(op.slot)) {
            let compared = contract::compare(contract, op.convention, model.image.width());
            let Err(contradiction) = compared else { continue };
            findings.add(
                FindingCode::Contract,
                Some(op.slot),
                format!("op `{}` of table `{}`", op.name, op.table),
                format!("has the native patchlet `{}`, but {contradiction}", patchlet.name),
                "give the op the class and the signature that its patchlet has (`c` for \
                 `callee_save`), or write the patchlet with other registers",
            );
        }
    }
}
