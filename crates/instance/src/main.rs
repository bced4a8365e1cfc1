//! The `instance` program. Subcommands are in [`instance::cli`].

fn main() -> std::process::ExitCode {
    instance::cli::main()
}
