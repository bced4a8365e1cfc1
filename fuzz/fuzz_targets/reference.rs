//! Image references: never a panic, and what is printed means the same.
#![no_main]

use fuzz::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        let printed = reference.to_string();
        assert_eq!(Reference::parse(&printed), Ok(reference));
        assert!(!printed.contains('\n'));
    }
});
