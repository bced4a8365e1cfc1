//! Images from a real registry: the `docker-registry` of Debian.

mod pull;
mod registry;
