//! The documented variables are those of the code.

use std::path::Path;

use executor::config::environment_markdown;

const BEGIN: &str = "<!-- environment: generated from the code, checked by a test -->\n";
const END: &str = "<!-- end of environment -->";

#[test]
fn the_table_of_variables_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/executor.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the begin mark");
    let (documented, after) = rest.split_once(END).expect("the end mark");
    let current = environment_markdown();
    if documented != current && std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{current}{END}{after}")).unwrap();
        return;
    }
    assert!(
        documented == current,
        "docs/executor.md is out of date: run this test with UPDATE_DOCS=1 set, and look at the difference"
    );
}
