//! Real microVMs under QEMU with software emulation, driven as the executor drives them.

mod accel;
mod ends;
mod files;
mod gateway;
mod kernels;
mod machine;
mod orphans;
mod output;
mod steps;
mod terminals;
