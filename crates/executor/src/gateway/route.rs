//! Which requests of a job's steps go on to the instance. Pure.

use http::{Method, StatusCode};
use protocol::{Job, routes};
use url::Url;

use crate::client::JobClient;

/// A request that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Where it goes.
    pub url: Url,
    /// Largest request body.
    pub body_limit: u64,
}

/// A request that may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status.
    pub status: StatusCode,
    /// The answer's text.
    pub text: String,
}

const RESULT_LIMIT: u64 = 1 << 20;
/// The instance has its own, configurable limit; this one protects the connection.
const ARTIFACT_LIMIT: u64 = 16 << 30;
const UPLOAD_LIMIT: u64 = 4 << 30;

fn refuse(text: impl Into<String>) -> Refusal {
    Refusal { status: StatusCode::FORBIDDEN, text: text.into() }
}

/// Decides about `method` and `target` (path and query, as a step wrote them).
///
/// # Errors
/// The answer to give instead.
pub fn passage(
    method: &Method,
    path: &str,
    query: Option<&str>,
    job: &Job,
    client: &JobClient,
) -> Result<Passage, Refusal> {
    if let Some(rest) = path.strip_prefix("/artifacts/") {
        require(method, &[Method::PUT])?;
        return pass_below(client.artifact_url(""), rest, ARTIFACT_LIMIT);
    }
    if path == "/results" {
        require(method, &[Method::POST])?;
        return Ok(Passage { url: client.results_url(), body_limit: RESULT_LIMIT });
    }
    if let Some(rest) = path.strip_prefix(routes::FILES).and_then(|rest| rest.strip_prefix('/')) {
        require(method, &[Method::GET])?;
        let listed = job
            .files
            .values()
            .any(|file| !file.bucket.is_empty() && rest == format!("{}/{}", file.bucket, file.key));
        if !listed {
            return Err(refuse("this file does not belong to this job"));
        }
        return pass_below(client.instance().url(&format!("{}/", routes::FILES)), rest, 0);
    }
    if matches!(path, "/.executors/lsif/upload" | "/.executors/scip/upload") {
        require(method, &[Method::POST, Method::HEAD])?;
        check_upload(query, job)?;
        let mut url = client.instance().url(path);
        url.set_query(query);
        return Ok(Passage { url, body_limit: UPLOAD_LIMIT });
    }
    Err(refuse(format!(
        "{method} {path} is not open to jobs; open are POST /results, PUT /artifacts/<path>, \
         GET /.executors/files/<file of this job>, POST /.executors/scip/upload"
    )))
}

fn require(method: &Method, allowed: &[Method]) -> Result<(), Refusal> {
    if allowed.contains(method) {
        return Ok(());
    }
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let text = format!("use {}", names.join(" or "));
    Err(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, text })
}

/// `rest` stays as encoded as it came; the result must not have left its folder.
fn pass_below(folder: Url, rest: &str, body_limit: u64) -> Result<Passage, Refusal> {
    let prefix = format!("{}/", folder.path().trim_end_matches('/'));
    let mut url = folder;
    url.set_path(&format!("{prefix}{rest}"));
    let inside = url.path().strip_prefix(&prefix).is_some_and(|inside| !inside.is_empty());
    let dotted = rest.split('/').any(|part| {
        matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "" | "." | "..")
    });
    if inside && !dotted {
        Ok(Passage { url, body_limit })
    } else {
        Err(refuse("the path must name a file, without empty or dotted parts"))
    }
}

/// An index is of the job's own repository and commit.
fn check_upload(query: Option<&str>, job: &Job) -> Result<(), Refusal> {
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let own = match name.as_ref() {
            "repository" => &job.repository_name,
            "commit" => &job.commit,
            _ => continue,
        };
        if value != own.as_str() {
            return Err(refuse(format!("{name} {value:?} is not that of this job")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use protocol::VirtualFile;

    use super::*;
    use crate::client::Client;
    use crate::config::Secret;

    fn decide(method: &Method, target: &str) -> Result<String, StatusCode> {
        // Idempotent: another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = Url::parse("http://instance.example/prefix").unwrap();
        let client = Client::new(base, Secret::new("s"), "e".into()).unwrap().job("jobs", 7, "t");
        let file = VirtualFile { bucket: "b".into(), key: "S/F".into(), ..VirtualFile::default() };
        let job = Job {
            repository_name: "a/b".into(),
            commit: "c0".into(),
            files: BTreeMap::from([("x".into(), file)]),
            ..Job::default()
        };
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        passage(method, path, query, &job, &client)
            .map(|passage| {
                passage.url.as_str().replace("http://instance.example/prefix/.executors/", "")
            })
            .map_err(|refusal| refusal.status)
    }

    #[test]
    fn the_routes_of_the_job_pass() {
        let pass = |method, target| decide(&method, target).unwrap();
        assert_eq!(pass(Method::POST, "/results"), "queue/jobs/jobs/7/results");
        assert_eq!(pass(Method::PUT, "/artifacts/a/b%20c"), "queue/jobs/jobs/7/artifacts/a/b%20c");
        assert_eq!(pass(Method::GET, "/.executors/files/b/S/F"), "files/b/S/F");
        let upload = "/.executors/scip/upload?repository=a%2Fb&commit=c0&root=";
        assert_eq!(pass(Method::POST, upload), "scip/upload?repository=a%2Fb&commit=c0&root=");
    }

    #[test]
    fn everything_else_is_refused() {
        for (method, target) in [
            (Method::GET, "/"),
            (Method::POST, "/.executors/queue/jobs/markComplete"),
            (Method::GET, "/.executors/git/a/b/info/refs"),
            (Method::PUT, "/artifacts/../results"),
            (Method::PUT, "/artifacts/a/%2e%2E/%2e./x"),
            (Method::PUT, "/artifacts/a//x"),
            (Method::PUT, "/artifacts/"),
            (Method::GET, "/.executors/files/b/S/other"),
            (Method::GET, "/.executors/files/b/S/F/../G"),
            (Method::POST, "/.executors/scip/upload?repository=other"),
            (Method::POST, "http://elsewhere/results"),
        ] {
            assert_eq!(decide(&method, target), Err(StatusCode::FORBIDDEN), "{method} {target}");
        }
        assert_eq!(decide(&Method::GET, "/results"), Err(StatusCode::METHOD_NOT_ALLOWED));
    }
}
