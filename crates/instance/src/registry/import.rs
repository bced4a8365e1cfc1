//! Brings an image into the registry.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use store::{ImageObject, ObjectKind, Store};

use super::archive::Archive;
use super::name::{ImageName, sha256_of};
use super::{docker, media, oci, rootfs};
use crate::blobs::{BlobKey, Blobs, WriteError};

/// Largest single blob of an image.
const MAX_BLOB: u64 = 64 << 30;

/// An image that is now in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What it is called.
    pub name: ImageName,
    /// Digest of its manifest (or index).
    pub digest: String,
    /// Bytes of all its blobs.
    pub size: u64,
}

/// Why an image was not imported. Nothing is visible of it then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// None of the forms that are read.
    #[error(
        "neither an OCI image layout, nor an archive of `docker save`, \
         nor a tar of a root file system"
    )]
    Unknown,
    /// A part that is named is not there.
    #[error("the image is incomplete: {0} is missing")]
    Missing(String),
    /// More than one image, and none is called like the new name.
    #[error("the archive holds several images ({0:?}): give the new image the name of one of them")]
    Several(Vec<String>),
    /// A part cannot be read.
    #[error("{what}: {problem}")]
    Malformed {
        /// The part.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The content is not what its name says.
    #[error("content of {expected} has the digest {found}: the image is damaged")]
    Digest {
        /// The name.
        expected: String,
        /// The content's own.
        found: String,
    },
    /// Reading the source or writing a blob.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Imports an OCI image layout (folder or tar), an archive of `docker save`, or the tar of a root file
/// system under `name`, replacing what was called so. Every digest is verified. Reads the source on the
/// calling thread: meant for the command line.
///
/// # Errors
/// See [`ImportError`].
pub async fn import(
    store: &Store,
    blobs: &Blobs,
    source: &Path,
    name: &ImageName,
    now: i64,
) -> Result<Imported, ImportError> {
    let mut archive = Archive::open(source)?;
    let mut importer = Importer { store, blobs, now, size: 0 };
    let digest = if archive.has("oci-layout") && archive.has("index.json") {
        oci::import(&mut importer, &mut archive, name).await?
    } else if archive.has("manifest.json") {
        docker::import(&mut importer, &mut archive, name).await?
    } else {
        match &archive {
            Archive::Tar { top, .. } if rootfs::is_rootfs(top) => {
                rootfs::import(&mut importer, source).await?
            }
            _ => return Err(ImportError::Unknown),
        }
    };
    store.set_image_tag(&name.name, &name.tag, &digest, now).await?;
    Ok(Imported { name: name.clone(), digest, size: importer.size })
}

/// Stores the parts of one image.
pub(super) struct Importer<'a> {
    store: &'a Store,
    blobs: &'a Blobs,
    now: i64,
    size: u64,
}

impl Importer<'_> {
    /// Stores a blob and answers its digest and size.
    pub(super) async fn blob(
        &mut self,
        mut reader: impl Read,
        media_type: &str,
        expected: Option<&str>,
        size: Option<u64>,
    ) -> Result<(String, u64), ImportError> {
        let mut writer = self.blobs.create(size.unwrap_or(MAX_BLOB)).await?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            writer.write(&buffer[..read]).await.map_err(|e| match e {
                WriteError::Io(e) => ImportError::Io(e),
                WriteError::TooLarge { limit } => ImportError::Malformed {
                    what: expected.unwrap_or("blob").to_owned(),
                    problem: format!("it is larger than the {limit} bytes it should have"),
                },
            })?;
        }
        let written = writer.written();
        let digest = format!("sha256:{}", hex::encode(written.sha256));
        check(expected, &digest)?;
        if size.is_some_and(|size| size != written.size) {
            let problem = format!("it has {} bytes instead of {size:?}", written.size);
            return Err(ImportError::Malformed { what: digest, problem });
        }
        let key = BlobKey::sha256(&written.sha256);
        writer.publish(&key).await?;
        self.put(ObjectKind::Blob, &digest, media_type, written.size, &key, &[]).await?;
        self.size += written.size;
        Ok((digest, written.size))
    }

    /// Stores a manifest whose children are stored, and answers its digest.
    pub(super) async fn manifest(
        &mut self,
        bytes: &[u8],
        media_type: &str,
        expected: Option<&str>,
        children: &[String],
    ) -> Result<String, ImportError> {
        let sha256: [u8; 32] = Sha256::digest(bytes).into();
        let digest = format!("sha256:{}", hex::encode(sha256));
        check(expected, &digest)?;
        debug_assert!(media::is_manifest(media_type));
        let key = BlobKey::sha256(&sha256);
        let mut writer = self.blobs.create(bytes.len() as u64).await?;
        writer.write(bytes).await.map_err(|e| io::Error::other(e.to_string()))?;
        writer.publish(&key).await?;
        let size = bytes.len() as u64;
        self.put(ObjectKind::Manifest, &digest, media_type, size, &key, children).await?;
        Ok(digest)
    }

    async fn put(
        &self,
        kind: ObjectKind,
        digest: &str,
        media_type: &str,
        size: u64,
        key: &BlobKey,
        children: &[String],
    ) -> Result<(), ImportError> {
        let object = ImageObject {
            digest: digest.to_owned(),
            kind,
            media_type: media_type.to_owned(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            blob_key: key.as_str().to_owned(),
            created_at: self.now,
        };
        self.store.put_image_object(&object, children).await?;
        Ok(())
    }
}

fn check(expected: Option<&str>, found: &str) -> Result<(), ImportError> {
    match expected {
        Some(expected) if sha256_of(expected) != sha256_of(found) => {
            Err(ImportError::Digest { expected: expected.to_owned(), found: found.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Digest of what a reader yields.
pub(super) async fn hash_of(mut reader: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(format!("sha256:{}", hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..read]);
        // Large archives take seconds: let others run in between.
        tokio::task::yield_now().await;
    }
}
