//! `instance job hold` and `instance job release`.

use std::process::ExitCode;

use reqwest::Method;

use crate::cli::remote::Remote;
use crate::http::api::types::{HeldMachine, Job, NewHold};
use crate::units::Span;

/// Keep the machine of a job that waits or runs, if the job fails, to look into it. Site admins only.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  instance job hold 12
  instance job hold 12 --for 1h")]
pub struct Args {
    /// Number of the job.
    id: i64,
    /// How long, such as 30m or 1h; `0s` = do not keep it.
    #[arg(long = "for", value_name = "TIME", default_value = "30m")]
    time: Span,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = args.id.to_string();
    let new = NewHold { seconds: args.time.0 };
    let request = client.request(Method::POST, &["jobs", &id, "hold"]).json(&new);
    let job: Job = client.json(request).await?;
    match job.hold.filter(|hold| hold.seconds > 0) {
        Some(hold) => eprintln!("job {id}: kept {} if it fails", Span(hold.seconds)),
        None => eprintln!("job {id}: not kept"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Do not keep the machine of a job, and let it go if it is kept. Site admins only.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  instance job release 12")]
pub struct ReleaseArgs {
    /// Number of the job.
    id: i64,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn release(args: ReleaseArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = args.id.to_string();
    let job: Job = client.json(client.request(Method::DELETE, &["jobs", &id, "hold"])).await?;
    let open = |machine: &&HeldMachine| machine.ended_at.is_none();
    match job.hold.map_or(0, |hold| hold.machines.iter().filter(open).count()) {
        0 => eprintln!("job {id}: not kept"),
        _ => eprintln!("job {id}: its machine goes"),
    }
    Ok(ExitCode::SUCCESS)
}
