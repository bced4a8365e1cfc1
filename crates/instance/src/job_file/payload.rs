//! Job file → the document an executor gets.

use protocol::ext::JobExtensions;
use protocol::job::ZERO_TIME;
use protocol::{DockerStep, Job, JobVersion, VirtualFile};

use super::JobFile;

impl JobFile {
    /// The job without id and token, which a dequeue adds. `commit` is what the revision was
    /// resolved to; empty without a repository.
    pub fn job(&self, commit: &str) -> Job {
        let steps = self.steps.iter().map(|step| DockerStep {
            key: step.key.clone(),
            image: step.image.clone(),
            commands: vec![step.run.trim_end_matches('\n').to_owned()],
            dir: step.dir.clone(),
            env: step.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        });
        let files = self.files.iter().map(|(path, text)| {
            let content = text.clone().into_bytes();
            let modified_at = ZERO_TIME.to_owned();
            let file = VirtualFile { content, modified_at, ..VirtualFile::default() };
            (path.clone(), file)
        });
        Job {
            repository_name: self.repository.clone(),
            commit: commit.to_owned(),
            shallow_clone: true,
            files: files.collect(),
            docker_steps: steps.collect(),
            extensions: Some(self.extensions()),
            ..Job::default()
        }
    }

    /// [`JobFile::job`] as the text the store keeps: format v2, which [`Job::decode`] reads back.
    pub fn payload(&self, commit: &str) -> String {
        self.job(commit).encode(JobVersion::V2).to_string()
    }

    fn extensions(&self) -> JobExtensions {
        let resources = self.resources;
        JobExtensions {
            vcpus: resources.cpus.unwrap_or(0),
            memory_mib: resources.memory.map_or(0, |size| size.mebibytes()),
            disk_mib: resources.disk.map_or(0, |size| size.mebibytes()),
            max_processes: resources.processes.unwrap_or(0),
            timeout_seconds: self.timeout.map_or(0, |span| span.0),
            artifacts: self.artifacts.clone(),
            network: self.network.map_or_else(String::new, |network| network.as_str().to_owned()),
            ..JobExtensions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job_file::Submitter;
    use crate::site_config::SiteConfig;

    #[test]
    fn the_payload_is_a_job_document() {
        let text = "repository: r\nsteps: [{name: n, image: i, run: \"a\\nb\\n\", env: {B: c, A: '='}}]\n\
                    files: {f: \"x\"}\nresources: {memory: 1500K, cpus: 3}\ntimeout: 1m\nartifacts: ['*']\n";
        let file = JobFile::parse(text, &SiteConfig::default(), Submitter::User).unwrap_err();
        assert!(file.to_string().contains("from 64M"));
        let text = text.replace("1500K", "1500M");
        let file = JobFile::parse(&text, &SiteConfig::default(), Submitter::User).unwrap();
        let job = Job::decode(file.payload("abc").as_bytes()).unwrap();
        assert_eq!(job, file.job("abc"));
        assert_eq!(job.docker_steps[0].commands, ["a\nb"]);
        assert_eq!(job.docker_steps[0].env, ["A==", "B=c"]);
        assert_eq!(job.files["f"].content, b"x");
        let extensions = job.extensions.unwrap();
        assert_eq!((extensions.vcpus, extensions.memory_mib), (3, 1500));
        assert_eq!((extensions.timeout_seconds, extensions.artifacts.len()), (60, 1));
    }
}
