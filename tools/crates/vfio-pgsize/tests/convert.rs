// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Conversions: the order, and what is left when a step fails.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::ptr::without_provenance_mut;

use proptest::prelude::*;

use vfio_pgsize::convert;
use vfio_pgsize::double::Double;
use vfio_pgsize::Call;
use vfio_pgsize::Change;
use vfio_pgsize::Container;
use vfio_pgsize::Error;
use vfio_pgsize::HostMemory;
use vfio_pgsize::IovaRange;
use vfio_pgsize::State;
use vfio_pgsize::Step;

const PAGE: u64 = 4096;
const PAGES: u64 = 16;

fn range(first: u64, pages: u64) -> IovaRange {
    IovaRange::new(first * PAGE, pages * PAGE)
}

fn pages(range: IovaRange) -> impl Iterator<Item = u64> {
    (range.iova..range.iova + range.size).step_by(PAGE as usize)
}

/// KVM's attributes, and a check of the rule at each step.
struct Memory<'a> {
    containers: &'a [Double],
    /// Pages that are shared to KVM.
    shared: BTreeSet<u64>,
    steps: Vec<String>,
    fails_attribute: bool,
    fails_discard: bool,
}

impl<'a> Memory<'a> {
    fn new(containers: &'a [Double]) -> Self {
        Memory {
            containers,
            shared: BTreeSet::new(),
            steps: Vec::new(),
            fails_attribute: false,
            fails_discard: false,
        }
    }

    fn is_reached(&self, page: u64) -> bool {
        self.containers
            .iter()
            .any(|container| container.is_reached(page))
    }

    /// No device reaches a page that is private to KVM.
    fn is_safe(&self) -> bool {
        pages(range(0, PAGES)).all(|page| self.shared.contains(&page) || !self.is_reached(page))
    }
}

fn failed() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOMEM)
}

impl HostMemory for Memory<'_> {
    fn set_attribute(&mut self, range: IovaRange, state: State) -> io::Result<()> {
        self.steps.push(format!("attribute {state}"));
        if self.fails_attribute {
            return Err(failed());
        }
        for page in pages(range) {
            match state {
                State::Shared => self.shared.insert(page),
                State::Private => self.shared.remove(&page),
            };
        }
        assert!(self.is_safe());
        Ok(())
    }

    fn discard_shared(&mut self, range: IovaRange) -> io::Result<()> {
        self.steps.push("discard".to_owned());
        assert!(pages(range).all(|page| !self.shared.contains(&page) && !self.is_reached(page)));
        if self.fails_discard {
            return Err(failed());
        }
        Ok(())
    }
}

fn containers(count: usize) -> Vec<Double> {
    let containers: Vec<_> = (0..count).map(|_| Double::pgsize()).collect();
    for container in &containers {
        let memory = without_provenance_mut(0x7f00_0000_0000);
        // SAFETY: the double does not access memory.
        unsafe { container.map_stateful(range(0, PAGES), memory, State::Private) }.unwrap();
    }
    containers
}

#[test]
fn the_order_is_that_of_the_guide() {
    let containers = containers(2);
    let mut memory = Memory::new(&containers);

    convert(&containers, &mut memory, range(1, 2), State::Shared).unwrap();
    assert!(containers
        .iter()
        .all(|container| container.is_reached(PAGE)));
    convert(&containers, &mut memory, range(1, 1), State::Private).unwrap();
    assert!(containers
        .iter()
        .all(|container| !container.is_reached(PAGE)));
    assert!(containers
        .iter()
        .all(|container| container.is_reached(2 * PAGE)));
    assert_eq!(
        memory.steps,
        ["attribute shared", "attribute private", "discard"]
    );
}

#[test]
fn a_vmm_without_devices_converts_too() {
    let mut memory = Memory::new(&[]);
    convert::<Double>([], &mut memory, range(0, 1), State::Shared).unwrap();
    assert_eq!(memory.shared.len(), 1);
}

#[test]
fn a_failure_to_share_restores_what_was_private_and_nothing_else() {
    let containers = containers(3);
    let mut memory = Memory::new(&containers);

    convert(&containers, &mut memory, range(2, 1), State::Shared).unwrap();
    containers[2].fail(Call::SetState, 0, libc::ENOMEM);
    let error = convert(&containers, &mut memory, range(0, 4), State::Shared).unwrap_err();
    assert_eq!(error.step, Step::SetState(2));
    assert!(error.is_restored);
    assert_eq!(error.hypercall_ret(), libc::EINVAL as u64);
    assert!(matches!(
        error.source.downcast_ref(),
        Some(Error::NoMemory(Call::SetState))
    ));
    assert!(error.to_string().contains("RLIMIT_MEMLOCK"), "{error}");
    // The page that was shared still is.
    assert_eq!(
        memory.shared.iter().copied().collect::<Vec<_>>(),
        [2 * PAGE]
    );
    for container in &containers {
        assert_eq!(container.stats().unwrap().shared, PAGE);
        assert!(container.is_reached(2 * PAGE));
    }
}

#[test]
fn a_failure_to_make_private_restores_what_was_shared() {
    let containers = containers(2);
    let mut memory = Memory::new(&containers);

    convert(&containers, &mut memory, range(2, 2), State::Shared).unwrap();
    containers[1].fail(Call::SetState, 0, libc::ENOMEM);
    let error = convert(&containers, &mut memory, range(0, 4), State::Private).unwrap_err();
    assert!(error.is_restored && error.step == Step::SetState(1));
    assert_eq!(memory.steps, ["attribute shared"]);
    for container in &containers {
        assert_eq!(container.stats().unwrap().shared, 2 * PAGE);
    }
}

#[test]
fn a_container_that_does_not_have_the_memory_says_so() {
    let mut containers = containers(1);
    containers.push(Double::pgsize());
    let mut memory = Memory::new(&containers);
    let error = convert(&containers, &mut memory, range(0, 1), State::Shared).unwrap_err();
    assert!(matches!(
        error.source.downcast_ref(),
        Some(Error::NotStateful)
    ));
    // It cannot say what its pages were before: the rest stays, and is safe.
    assert!(!error.is_restored);
    assert!(error.to_string().contains("divide it"), "{error}");
    assert!(memory.is_safe());
}

#[test]
fn kvm_and_the_freeing_of_memory_can_fail_as_well() {
    let containers = containers(1);
    let mut memory = Memory::new(&containers);

    memory.fails_attribute = true;
    let error = convert(&containers, &mut memory, range(0, 1), State::Shared).unwrap_err();
    assert!(error.step == Step::Attribute && error.is_restored);
    assert!(!containers[0].is_reached(0));

    memory.fails_attribute = false;
    convert(&containers, &mut memory, range(0, 1), State::Shared).unwrap();
    memory.fails_attribute = true;
    let error = convert(&containers, &mut memory, range(0, 1), State::Private).unwrap_err();
    assert!(error.step == Step::Attribute && !error.is_restored);
    assert_eq!(error.hypercall_ret(), libc::EINVAL as u64);
    assert!(!containers[0].is_reached(0));

    memory.fails_attribute = false;
    memory.fails_discard = true;
    let error = convert(&containers, &mut memory, range(0, 1), State::Private).unwrap_err();
    assert_eq!(error.step, Step::Discard);
    assert_eq!(error.hypercall_ret(), 0);
    assert!(
        error.to_string().contains("private all the same"),
        "{error}"
    );
}

#[derive(Clone, Debug)]
struct Request {
    range: IovaRange,
    state: State,
    /// Containers that fail once, each with how many of its calls succeed before.
    failures: Vec<usize>,
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let request = (
        0..PAGES,
        1..=PAGES,
        any::<bool>(),
        prop::collection::vec(0usize..3, 0..3),
    );
    let request = request.prop_map(|(first, length, is_shared, failures)| Request {
        range: range(first, length.min(PAGES - first)),
        state: if is_shared {
            State::Shared
        } else {
            State::Private
        },
        failures,
    });
    prop::collection::vec(request, 1..20)
}

proptest! {
    /// Whatever fails: no device reaches a page that is private to KVM, and after a conversion that
    /// was restored, or was made, all containers and KVM have the states that they should.
    #[test]
    fn pages_are_safe_at_each_instant(requests in requests()) {
        let containers = containers(3);
        let mut memory = Memory::new(&containers);
        let mut model = BTreeSet::new();
        let in_order = Cell::new(true);

        for Request { range, state, failures } in requests {
            for index in failures {
                containers[index].fail(Call::SetState, 0, libc::ENOMEM);
            }
            let result = convert(&containers, &mut memory, range, state);
            prop_assert!(memory.is_safe());
            match result {
                Ok(()) => for page in pages(range) {
                    match state {
                        State::Shared => model.insert(page),
                        State::Private => model.remove(&page),
                    };
                },
                Err(error) => in_order.set(error.is_restored),
            }
            if !in_order.get() {
                // Nothing fails any more: the VMM can bring everything into order again.
                for container in &containers {
                    while container.set_state(&[Change::new(range, State::Private)]).is_err() {}
                    let nothing = Change::new(range, State::Private);
                    while container.set_state(&[nothing]).is_err() {}
                }
                convert(&containers, &mut memory, range, State::Private).unwrap();
                pages(range).for_each(|page| { model.remove(&page); });
                in_order.set(true);
            }
            prop_assert_eq!(&memory.shared, &model);
            for container in &containers {
                for page in pages(crate::range(0, PAGES)) {
                    prop_assert_eq!(container.is_reached(page), model.contains(&page));
                }
            }
        }
    }
}
