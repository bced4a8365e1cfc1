//! Measures the numbers to reach and prints them as one table. Called by `./bench`.

mod cold_start;
mod containers;
mod cycles;
mod dispatch;
mod log_visibility;
mod memory;
mod peers;
mod report;
mod samples;
mod system;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use report::Report;

/// Measures executors; every number has its yardstick in the same run, because machines differ and are shared.
#[derive(Debug, Parser)]
struct Arguments {
    /// Measure only this; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Measurement>,
    /// Write the results as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// From enqueue to an executor that has the job.
    Dispatch,
    /// Whole job cycles per second.
    Cycles,
    /// From dequeue to the first output of a job's first step.
    ColdStart,
    /// The same in containers, and the first use of an image.
    Containers,
    /// From a written log line to a reader that sees it.
    LogVisibility,
    /// Resident memory.
    Memory,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut report = Report::default();
    for measurement in Measurement::value_variants() {
        if !arguments.only.is_empty() && !arguments.only.contains(measurement) {
            continue;
        }
        eprintln!(
            "measuring {}",
            measurement.to_possible_value().expect("none is skipped").get_name()
        );
        match measurement {
            Measurement::Dispatch => dispatch::measure(&mut report).await,
            Measurement::Cycles => cycles::measure(&mut report).await,
            Measurement::ColdStart => cold_start::measure(&mut report).await,
            Measurement::Containers => containers::measure(&mut report).await,
            Measurement::LogVisibility => log_visibility::measure(&mut report).await,
            Measurement::Memory => memory::measure(&mut report).await,
        }
    }
    println!("{report}");
    if let Some(file) = &arguments.json {
        let json = serde_json::to_string_pretty(&report.to_json()).expect("a report is JSON");
        if let Err(error) = std::fs::write(file, json) {
            eprintln!("bench: {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
