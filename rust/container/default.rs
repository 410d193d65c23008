// SPDX-License-Identifier: GPL-2.0

//! The policy of a container whose VMM sets none: from the module's parameters, as they are when the
//! container gets its IOMMU.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::owner::Owner;
use crate::{
    pgtable::PageSizes,
    policy::Rule,
    rmp::{
        is_snp_host,
        is_snp_on,
        Hook, //
    },
    sys::{
        bindings,
        num::unsupported,
        warning::Warning, //
    }, //
};

/// The rule, and the hook if it follows the RMP. If leaves are to follow on an SNP host and cannot, they
/// are of 4K, which agree with any RMP entry. Sleeps.
pub(super) fn default_rule(owner: &Owner) -> (Rule, Option<Hook>) {
    // SAFETY: They have no requirements.
    let (sizes, follow) = unsafe {
        (
            bindings::pgsize_default_pgsizes(),
            bindings::pgsize_default_follow(),
        )
    };
    let rule = Rule {
        sizes: PageSizes::from_bits(sizes),
        ..Rule::ANY
    };
    let following = Rule {
        split: true,
        merge: true,
        ..rule
    };

    // Without an RMP there is nothing with which leaves could disagree.
    if !follow || !following.follows() || !is_snp_host() {
        return (rule, None);
    }
    // The hook may be registered already.
    let hook = if is_snp_on() {
        Hook::new()
    } else {
        Err(unsupported())
    };
    match hook {
        Ok(hook) => (following, Some(hook)),
        Err(error) => {
            if Warning::Default.is_allowed() {
                let (command, _) = owner.command();
                pr_warn!(
                    "process {} ({}): leaves cannot follow the RMP ({:?}), and are of 4K\n",
                    owner.pid(),
                    command,
                    error,
                );
            }
            let sizes = PageSizes::ONLY_4K;
            (Rule { sizes, ..rule }, None)
        }
    }
}
