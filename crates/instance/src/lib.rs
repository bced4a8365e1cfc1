//! The server of executors: queues, repositories, secrets, results, site-admin pages and APIs.
//!
//! Everything lasting is in the database or the data folder; the process itself holds nothing that
//! another replica would miss. All routes are on one page: [`http::router`].

pub mod accounts;
pub mod app;
pub mod blobs;
pub mod cli;
pub mod clock;
pub mod git;
pub mod holds;
pub mod http;
pub mod job_file;
pub mod loops;
pub mod metrics;
pub mod problems;
pub mod registry;
pub mod repositories;
pub mod serve;
pub mod site_config;
pub mod ui;
pub mod units;

pub use app::App;
