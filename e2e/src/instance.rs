//! A running instance.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::api::Api;
use crate::http::{client, free_port};
use crate::images;
use crate::program::{Program, binary, run_command};
use crate::wait::until_true;

/// The real program, with an admin, and an access token for executors.
pub struct Instance {
    program: Program,
    folder: PathBuf,
    port: u16,
    database: Option<String>,
    /// What executors present.
    pub access_token: String,
    /// The admin's token for the API.
    pub admin_token: String,
}

impl Instance {
    /// Starts one in `folder` on a free port: on SQLite, or on the database at this URL.
    pub async fn start(folder: &Path, database: Option<String>) -> Self {
        let port = free_port();
        let mut token = instance(folder, "config");
        let access_token = run_command(token.arg("generate-token").arg("--save")).trim().to_owned();
        let program = serve(folder, port, database.as_deref());
        let folder = folder.to_owned();
        let mut instance =
            Self { program, folder, port, database, access_token, admin_token: String::new() };
        instance.wait_until_ready().await;
        instance.create_admin();
        instance
    }

    /// Base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The API with the admin's token.
    pub fn api(&self) -> Api {
        Api::new(&self.url(), &self.admin_token)
    }

    /// Its process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Starts it again, after it was killed or stopped, on the same port and data.
    pub async fn start_again(&mut self) {
        self.program = serve(&self.folder, self.port, self.database.as_deref());
        self.wait_until_ready().await;
    }

    /// `instance <subcommand>` for this instance, as its admin.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = instance(&self.folder, subcommand);
        command.env("INSTANCE_URL", self.url()).env("INSTANCE_TOKEN", &self.admin_token);
        if let Some(database) = &self.database {
            command.env("INSTANCE_DATABASE_URL", database);
        }
        command
    }

    /// Imports one of our images (`images/<name>`); jobs call it `executors.internal/<name>:1`.
    pub fn import_image(&self, name: &str) {
        let mut import = self.command("image");
        run_command(import.arg("import").arg(images::tar(name)).arg(format!("{name}:1")));
    }

    /// Registers a repository by its path.
    pub fn add_repository(&self, name: &str, path: &Path) {
        run_command(self.command("repo").args(["add", name]).arg(path));
    }

    fn create_admin(&mut self) {
        let password = self.folder.join("admin-password");
        std::fs::write(&password, "correct horse battery").expect("the test's folder is writable");
        let mut create = self.command("admin");
        create.args(["create", "admin", "--token", "--password-file"]).arg(&password);
        run_command(&mut create).trim().clone_into(&mut self.admin_token);
    }

    async fn wait_until_ready(&mut self) {
        let (client, url) = (client(), format!("{}/readyz", self.url()));
        let program = &mut self.program;
        until_true("the instance is ready", Duration::from_secs(30), async || {
            assert!(program.is_running(), "it ended at once:\n{}", program.log_tail(20));
            client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }
}

fn instance(folder: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(binary("instance"));
    command.arg(subcommand).env("INSTANCE_DATA_DIR", folder.join("instance"));
    command
}

fn serve(folder: &Path, port: u16, database: Option<&str>) -> Program {
    let mut serve = instance(folder, "serve");
    serve.arg("--listen").arg(format!("127.0.0.1:{port}"));
    if let Some(database) = database {
        serve.env("INSTANCE_DATABASE_URL", database);
    }
    Program::start("instance", serve, folder)
}
