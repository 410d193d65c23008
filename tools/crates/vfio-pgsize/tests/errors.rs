// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Bad input: each error names what is wrong, and its remedy.

use std::fs::File;
use std::ptr::without_provenance_mut;

use vfio_pgsize::double::Double;
use vfio_pgsize::Call;
use vfio_pgsize::Change;
use vfio_pgsize::Container;
use vfio_pgsize::Error;
use vfio_pgsize::Follow;
use vfio_pgsize::IovaRange;
use vfio_pgsize::PageSizes;
use vfio_pgsize::Policy;
use vfio_pgsize::Scope;
use vfio_pgsize::State;

const MEMORY: usize = 0x7f00_0000_0000;
const ALL: IovaRange = IovaRange::new(0, 4 << 20);

fn map(container: &Double, range: IovaRange) -> Result<(), Error> {
    // SAFETY: the double does not access memory.
    unsafe { container.map(range, without_provenance_mut(MEMORY)) }
}

fn map_stateful(container: &Double, range: IovaRange) -> Result<(), Error> {
    // SAFETY: the double does not access memory.
    unsafe { container.map_stateful(range, without_provenance_mut(MEMORY), State::Private) }
}

#[test]
fn a_file_that_is_no_container_is_told() {
    let file = File::open("/dev/null").unwrap();
    let error = file.require(1).unwrap_err();
    assert!(matches!(error, Error::NotAContainer));
    assert!(error.to_string().contains("modprobe vfio"));
    assert!(matches!(file.info().unwrap_err(), Error::NotAContainer));
    assert!(matches!(file.policy().unwrap_err(), Error::NotAContainer));
    let error = file
        .set_state(&[Change::new(ALL, State::Shared)])
        .unwrap_err();
    assert!(matches!(error.source, Error::NotAContainer));
    assert_eq!(error.done, 0);
}

#[test]
fn each_call_says_that_the_module_is_not_loaded() {
    let container = Double::without_module();
    let errors = [
        container.require(1).unwrap_err(),
        container.info().unwrap_err(),
        container.policy().unwrap_err(),
        container.stats().unwrap_err(),
        container.domains().unwrap_err(),
        container.unmap(ALL).unwrap_err(),
        map(&container, ALL).unwrap_err(),
        map_stateful(&container, ALL).unwrap_err(),
        container.clear_eventfd().unwrap_err(),
        container
            .set_policy(Scope::Container, Policy::new(PageSizes::SIZE_4K))
            .unwrap_err(),
        container.leaves(ALL).next().unwrap().unwrap_err(),
        container
            .set_state(&[Change::new(ALL, State::Shared)])
            .unwrap_err()
            .source,
    ];
    for error in errors {
        assert!(matches!(error, Error::NotLoaded), "{error}");
        assert!(error.to_string().contains("modprobe vfio_pgsize"));
    }
}

#[test]
fn a_container_without_an_iommu_and_one_of_another_backend_are_told_apart() {
    let container = Double::without_iommu();
    assert_eq!(container.require(1).unwrap(), 1);
    assert!(matches!(
        container.policy().unwrap_err(),
        Error::NoIommu(Call::GetPolicy)
    ));

    let container = Double::other_backend();
    assert_eq!(container.version().unwrap(), 0);
    let error = container.require(1).unwrap_err();
    assert!(matches!(error, Error::OtherBackend));
    assert!(error.to_string().contains("serve_type1v2=1"));
    assert!(matches!(
        container.stats().unwrap_err(),
        Error::OtherBackend
    ));
    assert!(matches!(container.info().unwrap_err(), Error::OtherBackend));
}

#[test]
fn an_old_module_is_told() {
    let error = Double::pgsize().require(2).unwrap_err();
    assert!(matches!(
        error,
        Error::TooOld {
            found: 1,
            wanted: 2
        }
    ));
    assert!(error.to_string().contains("install a newer module"));
}

#[test]
fn page_states_want_their_own_type() {
    let container = Double::type1v2();
    assert!(matches!(
        map_stateful(&container, ALL).unwrap_err(),
        Error::NoPageStates
    ));
    let error = container
        .set_state(&[Change::new(ALL, State::Shared)])
        .unwrap_err();
    assert!(matches!(error.source, Error::NoPageStates));
    // But a bad range is one there, too.
    let container = Double::pgsize();
    let odd = IovaRange::new(0, 4095);
    assert!(matches!(
        map_stateful(&container, odd).unwrap_err(),
        Error::Misaligned(..)
    ));
}

#[test]
fn sets_of_sizes_are_explained() {
    let container = Double::type1v2();
    let set = |sizes: &str, follow| {
        let policy = Policy::new(sizes.parse().unwrap()).follow(follow);
        container.set_policy(Scope::Container, policy).unwrap_err()
    };
    assert!(matches!(
        set("2M", Follow::No),
        Error::Lacks4K(PageSizes::SIZE_2M)
    ));
    assert!(set("2M", Follow::No).to_string().contains("lacks 4K"));
    let text = set("4K,512G", Follow::No).to_string();
    assert!(
        text.contains("no leaves of 512G; it has 4K,8K,16K"),
        "{text}"
    );
    assert!(matches!(set("4K", Follow::Split), Error::CannotFollow));
}

#[test]
fn ranges_are_explained() {
    let container = Double::pgsize();
    let policy = Policy::new(PageSizes::SIZE_4K);
    let odd = IovaRange::new(1, 4096);
    let empty = IovaRange::new(0, 0);
    let beyond = IovaRange::new(u64::MAX - 4095, 8192);
    for range in [odd, empty] {
        let error = container
            .set_policy(Scope::Range(range), policy)
            .unwrap_err();
        assert!(
            matches!(error, Error::Misaligned(Call::SetPolicy, _)),
            "{error}"
        );
        let error = container.leaves(range).next().unwrap().unwrap_err();
        assert!(
            matches!(error, Error::Misaligned(Call::Query, _)),
            "{error}"
        );
    }
    let error = container
        .set_policy(Scope::Range(beyond), policy)
        .unwrap_err();
    assert!(
        matches!(error, Error::BeyondEnd(Call::SetPolicy)),
        "{error}"
    );
    map(&container, ALL).unwrap();
    assert!(matches!(
        map(&container, ALL).unwrap_err(),
        Error::Mapped(ALL)
    ));
    // The addresses of interrupts.
    let reserved = IovaRange::new(0xfee0_0000, 4096);
    let error = map(&container, reserved).unwrap_err();
    assert!(matches!(error, Error::NotMappable(_)), "{error}");
    let error = container
        .set_eventfd(&File::open("/dev/null").unwrap())
        .unwrap_err();
    assert!(matches!(error, Error::NotAnEventFd));
}

#[test]
fn too_many_ranges_are_counted() {
    let container = Double::pgsize();
    let set = |index: u64| {
        let range = IovaRange::new(index * 8192, 4096);
        container.set_policy(Scope::Range(range), Policy::new(PageSizes::SIZE_4K))
    };
    (0..1024).for_each(|index| set(index).unwrap());
    assert!(matches!(
        set(1024).unwrap_err(),
        Error::TooManyRanges { nr_ranges: 1024 }
    ));
}

#[test]
fn each_errno_of_a_call_has_its_error() {
    let container = Double::pgsize();
    let error = |call, errno: i32| {
        container.fail(call, 0, errno);
        match call {
            Call::MapDma => map(&container, IovaRange::new(1 << 30, 4096)).unwrap_err(),
            Call::SetState => {
                let change = Change::new(ALL, State::Shared);
                container.set_state(&[change]).unwrap_err().source
            }
            Call::Query => container
                .leaves(ALL)
                .with_rmp()
                .next()
                .unwrap()
                .unwrap_err(),
            _ => unreachable!(),
        }
    };
    map_stateful(&container, ALL).unwrap();
    for (call, errno) in [
        (Call::MapDma, libc::ENOSPC),
        (Call::MapDma, libc::ENOMEM),
        (Call::MapDma, libc::EMLINK),
        (Call::SetState, libc::ENOENT),
        (Call::SetState, libc::EPERM),
        (Call::SetState, libc::EFAULT),
        (Call::SetState, libc::ENOMEM),
        (Call::SetState, libc::EBUSY),
        (Call::SetState, libc::EINTR),
        (Call::SetState, libc::EIO),
        (Call::Query, libc::EOPNOTSUPP),
        (Call::Query, libc::ENOMEM),
    ] {
        let error = error(call, errno);
        assert_eq!(error.errno(), errno, "{error}");
        assert!(
            !matches!(error, Error::Refused { .. }),
            "{call} {errno}: {error}"
        );
    }
    let text = error(Call::SetState, libc::ENOMEM).to_string();
    assert!(
        text.contains("RLIMIT_MEMLOCK") && text.contains("still shared"),
        "{text}"
    );
    let text = error(Call::MapDma, libc::ENOMEM).to_string();
    assert!(!text.contains("still shared"), "{text}");
    // One that the interface does not have.
    assert!(matches!(
        error(Call::SetState, libc::EXDEV),
        Error::Refused { .. }
    ));
}
