//! The server of executors: queues, repositories, secrets, results, site-admin pages and APIs.

pub mod site_config;
pub mod units;
