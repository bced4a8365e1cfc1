//! Images that the instance itself hands out: import into, list and remove from its small registry.
//! The HTTP side is in [`crate::http::registry`].

mod archive;
mod docker;
mod import;
mod name;
mod oci;
mod rootfs;

pub use import::{ImportError, Imported, import};
pub use name::{HOST, ImageName, NameError};
pub(crate) use name::{is_name, is_tag, sha256_of};

/// Media types of the OCI image specification, and Docker's equivalents.
pub mod media {
    /// An image.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Images of several platforms.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's form of [`MANIFEST`].
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's form of [`INDEX`].
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Configuration of an image.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer as a plain tar.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer as a tar in gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer as a tar in zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

    /// Whether a media type is that of a manifest (index included).
    pub fn is_manifest(kind: &str) -> bool {
        matches!(kind, MANIFEST | INDEX | DOCKER_MANIFEST | DOCKER_INDEX)
    }

    /// Whether a media type is that of an index.
    pub fn is_index(kind: &str) -> bool {
        matches!(kind, INDEX | DOCKER_INDEX)
    }
}
