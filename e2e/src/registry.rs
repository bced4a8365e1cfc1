//! A real registry that wants a password.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::engine::Engine;
use crate::program::Program;
use crate::wait::until_true;

const USER: &str = "ann";
const PASSWORD: &str = "hunter2";
/// bcrypt of the password.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.";
/// base64 of user and password, as `docker login` writes it.
const AUTH: &str = "YW5uOmh1bnRlcjI=";

/// A running registry on the loopback.
pub struct Registry {
    _program: Program,
    host: String,
}

impl Registry {
    /// Starts one.
    pub async fn start(folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let host = free.expect("there is a free port").to_string();
        let (passwords, config) = (folder.join("htpasswd"), folder.join("registry.yml"));
        let text = json!({
            "version": 0.1,
            "log": { "level": "error", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": folder.join("registry") } },
            "http": { "addr": host },
            "auth": { "htpasswd": { "realm": "test", "path": passwords } },
        });
        std::fs::write(&passwords, format!("{USER}:{HASH}\n")).expect("the folder is writable");
        std::fs::write(&config, text.to_string()).expect("the folder is writable");
        let mut serve = Command::new("docker-registry");
        serve.arg("serve").arg(&config).env_remove("OTEL_TRACES_EXPORTER");
        let program = Program::start("registry", serve, folder);
        until_true("the registry listens", Duration::from_secs(20), async || {
            tokio::net::TcpStream::connect(&host).await.is_ok()
        })
        .await;
        Self { _program: program, host }
    }

    /// Puts a root file system into it as `name`; gives the reference.
    pub fn push(&self, engine: &Engine, root: &Path, name: &str) -> String {
        let reference = format!("{}/{name}", self.host);
        engine.run(&["import", &root.display().to_string(), &reference]);
        engine.run(&["login", "--username", USER, "--password", PASSWORD, &self.host]);
        engine.run(&["push", "--quiet", &reference]);
        engine.run(&["rmi", &reference]);
        reference
    }

    /// Its log-in, as `EXECUTOR_DOCKER_AUTH_CONFIG`.
    pub fn auth_config(&self) -> String {
        json!({ "auths": { &self.host: { "auth": AUTH } } }).to_string()
    }
}
