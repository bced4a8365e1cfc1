//! Real microVMs under QEMU with software emulation, driven as the executor drives them.

mod machine;
mod steps;
