//! Kernels from real packages.

use microvm::kernel::{self, KernelSource};

use crate::machine::{cache, kernel};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_internet_gets_the_same_kernel() {
    let from_apt = kernel();
    assert!(from_apt.origin.contains("linux-image-"), "{from_apt:?}");
    let dir = tempfile::tempdir().unwrap();
    let packages = KernelSource::Directory(cache().join("kernel/download"));
    let mut said = Vec::new();
    let first =
        kernel::install(dir.path(), &packages, &mut |step| said.push(step.to_owned())).unwrap();
    assert!(first.changed && !said.is_empty());
    assert_eq!(first.kernel.version, from_apt.version);
    for (one, other) in
        [(&first.kernel.vmlinux, &from_apt.vmlinux), (&first.kernel.initramfs, &from_apt.initramfs)]
    {
        assert!(std::fs::read(one).unwrap() == std::fs::read(other).unwrap(), "{one:?} differs");
    }
    let second = kernel::install(dir.path(), &packages, &mut |step| panic!("{step}")).unwrap();
    assert!(!second.changed && second.kernel == first.kernel);
}
