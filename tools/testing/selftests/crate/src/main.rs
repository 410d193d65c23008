// SPDX-License-Identifier: GPL-2.0

//! Tests of the crate vfio-pgsize on the module, with a device that does DMA: what its own tests,
//! which have no kernel, cannot show. Also of the patch for vfio-ioctls.

use std::process::ExitCode;

#[path = "../../../../../samples/rust/src/edu.rs"]
mod edu;
mod policies;
mod refused;
mod states;
mod vmm;

type Test = (&'static str, fn() -> anyhow::Result<()>);

const TESTS: &[Test] = &[
    ("no module", refused::no_module),
    ("another backend", refused::another_backend),
    ("no IOMMU yet", refused::no_iommu),
    ("bad sizes, ranges and descriptors", refused::bad_arguments),
    ("policies under DMA, and leaves", policies::under_dma),
    ("policies of ranges", policies::of_ranges),
    (
        "type1v2 has policies, and no page states",
        policies::of_type1v2,
    ),
    (
        "memory mapped through VfioOps is stateful",
        states::by_vfio_ops,
    ),
    ("how many changes are done", states::how_many_are_done),
    ("conversions in two containers", states::conversions),
    ("a conversion that fails is undone", states::undone),
    ("parts of a mapping are unmapped", states::partial_unmap),
];

fn main() -> ExitCode {
    let mut failed = false;
    println!("1..{}", TESTS.len());
    for (index, (name, test)) in TESTS.iter().enumerate() {
        let number = index + 1;
        match test() {
            Ok(()) => println!("ok {number} - {name}"),
            Err(error) => {
                println!("not ok {number} - {name}\n# {error:?}");
                failed = true;
            }
        }
    }
    // The next test loads it with its own parameters.
    if let Err(error) = vmm::unload() {
        println!("# {error:?}");
        failed = true;
    }
    ExitCode::from(u8::from(failed))
}
