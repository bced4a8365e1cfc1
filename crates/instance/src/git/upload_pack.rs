//! Serves a mirror by `git upload-pack`.
