//! What steps see, and how they end.

use crate::machine::Machine;

#[tokio::test(flavor = "multi_thread")]
async fn a_step_runs() {
    let machine = Machine::boot().await;
    let output = machine.run("cat committed/file.txt; echo oops >&2; exit 3").await;
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("from the image\n", "oops\n"));
    assert_eq!(output.result.exit_code, Some(3));
    machine.vm.destroy().await;
}
