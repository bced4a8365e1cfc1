//! The instance: reachable, the right token, the same time.

use executor::client::{Client, unique_executor_name};
use executor::config::Config;

use super::{Check, Finding, check};

/// More than this bends time-outs and certificates.
const SKEW_SECONDS: i64 = 30;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let url = &config.frontend_url;
    let client = Client::new(url.clone(), config.frontend_password.clone(), unique_executor_name());
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            let problem = format!("TLS cannot be set up: {error}");
            return vec![check("instance", Finding::error(problem, "install ca-certificates"))];
        }
    };
    match client.test_auth().await {
        Ok(date) => vec![
            check("instance", Finding::Ok(format!("{url} accepts the access token"))),
            check("clock", clock(date)),
        ],
        Err(error) if error.is_refused() => vec![check(
            "instance",
            Finding::error(
                format!("{url} refuses the access token"),
                "set EXECUTOR_FRONTEND_PASSWORD to executors.accessToken of its site configuration",
            ),
        )],
        Err(error) => vec![check(
            "instance",
            Finding::error(
                error.to_string(),
                "check EXECUTOR_FRONTEND_URL, proxies and firewalls; executors.accessToken must be set",
            ),
        )],
    }
}

fn clock(theirs: Option<jiff::Timestamp>) -> Finding {
    let Some(theirs) = theirs else {
        return Finding::warning(
            "the instance does not tell its time",
            "compare the clocks yourself",
        );
    };
    let skew = theirs.as_second() - executor::clock::now().as_second();
    if skew.abs() > SKEW_SECONDS {
        return Finding::warning(
            format!("this machine and the instance are {} s apart", skew.abs()),
            "synchronise both clocks, for example with systemd-timesyncd",
        );
    }
    Finding::Ok(format!("within {} s of the instance", skew.abs().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_a_warning() {
        let now = executor::clock::now();
        assert!(matches!(clock(Some(now)), Finding::Ok(_)));
        let hour = jiff::SignedDuration::from_hours(1);
        assert!(matches!(clock(Some(now + hour)), Finding::Warning { .. }));
    }
}
