//! The pages in a real Chromium, driven over WebDriver, on the real instance. Executors are scripted: these
//! tests are about what a person sees.
//!
//! Without Chromium and its driver (Debian's packages `chromium` and `chromium-driver`) each test says that
//! it was skipped.

mod browser;
mod configuration;
mod executors;
mod first_visit;
mod job_page;
mod screens;
mod site;
mod terminal;
