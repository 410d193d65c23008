// SPDX-License-Identifier: GPL-2.0

//! QEMU's edu device: a DMA engine with a buffer of one page.

use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::ensure;
use vfio_bindings::bindings::vfio::VFIO_PCI_BAR0_REGION_INDEX;
use vfio_bindings::bindings::vfio::VFIO_PCI_CONFIG_REGION_INDEX;
use vfio_ioctls::VfioDevice;

/// Bytes that one DMA moves.
pub const BUFFER_SIZE: usize = 4096;

const BUFFER: u64 = 0x40000;
const BAR_SIZE: u64 = 0x10_0000;

const SOURCE: u64 = 0x80;
const TARGET: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const RUN: u64 = 1;
const TO_MEMORY: u64 = 2;

/// Timeout of a transfer: the device is emulated.
const PATIENCE: Duration = Duration::from_secs(300);

const PCI_COMMAND: u64 = 4;
const PCI_COMMAND_MEMORY: u16 = 1 << 1;
const PCI_COMMAND_MASTER: u16 = 1 << 2;

pub struct Edu<'a> {
    device: &'a VfioDevice,
}

/// A DMA in progress.
#[must_use]
pub struct Transfer<'a>(&'a Edu<'a>);

impl<'a> Edu<'a> {
    /// Take the device, and let it do DMA.
    pub fn new(device: &'a VfioDevice) -> anyhow::Result<Self> {
        let size = device.get_region_size(VFIO_PCI_BAR0_REGION_INDEX);
        ensure!(
            size == BAR_SIZE,
            "no edu device: its BAR 0 has {size:#x} bytes"
        );
        let command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
        device.region_write(
            VFIO_PCI_CONFIG_REGION_INDEX,
            &command.to_le_bytes(),
            PCI_COMMAND,
        );
        Ok(Edu { device })
    }

    /// Start to read a page at `iova` into the device.
    pub fn read(&self, iova: u64) -> Transfer<'_> {
        self.start(iova, BUFFER, RUN)
    }

    /// Start to write the device's page to `iova`.
    pub fn write(&self, iova: u64) -> Transfer<'_> {
        self.start(BUFFER, iova, RUN | TO_MEMORY)
    }

    fn start(&self, source: u64, target: u64, command: u64) -> Transfer<'_> {
        self.set(SOURCE, source);
        self.set(TARGET, target);
        self.set(COUNT, BUFFER_SIZE as u64);
        self.set(COMMAND, command);
        Transfer(self)
    }

    fn set(&self, register: u64, value: u64) {
        self.device
            .region_write(VFIO_PCI_BAR0_REGION_INDEX, &value.to_le_bytes(), register);
    }

    fn get(&self, register: u64) -> u64 {
        let mut value = [0; 8];
        self.device
            .region_read(VFIO_PCI_BAR0_REGION_INDEX, &mut value, register);
        u64::from_le_bytes(value)
    }
}

impl Transfer<'_> {
    /// Wait until the DMA is done.
    pub fn finish(self) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.0.get(COMMAND) & RUN != 0 {
            ensure!(
                start.elapsed() < PATIENCE,
                "the device does not end its DMA"
            );
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}
