//! Images from a real registry: the `docker-registry` of Debian, with broken networks in between.

mod cache;
mod proxy;
mod pull;
mod registry;
mod squash;
