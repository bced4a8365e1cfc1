//! Our executor against a scripted stock instance over real HTTP.

mod dispatch;
mod fake;
mod fake_hold;
mod hold;
mod image;
mod jobs;
mod logs;
mod workspaces;
mod world;
