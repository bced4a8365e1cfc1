//! Our executor against a scripted stock instance over real HTTP.

mod fake;
mod logs;
mod workspaces;
