//! OCI image layouts: a directory with `index.json` and blobs by digest.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::error::ImageError;
use super::manifest::Descriptor;
use super::reference::Digest;

/// An index may have many entries, still it is small.
const MAX_INDEX: u64 = 4 << 20;

/// A directory that the operator allows.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
    tag: Option<String>,
    image: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Layout {
    /// `dir` must lie below `allowed`, symbolic links resolved.
    pub fn open(
        dir: &Path,
        tag: Option<&str>,
        allowed: Option<&Path>,
        reference: &str,
    ) -> Result<Self, ImageError> {
        let bad = |problem: &str| ImageError::Reference {
            reference: reference.to_owned(),
            problem: problem.to_owned(),
        };
        let Some(allowed) = allowed else {
            return Err(bad("image directories are not allowed on this executor"));
        };
        let outside = || bad("the directory does not exist below the one that the operator allows");
        let allowed = allowed.canonicalize().map_err(ImageError::io("open", allowed))?;
        let dir = allowed.join(dir).canonicalize().map_err(|_| outside())?;
        if !dir.starts_with(&allowed) {
            return Err(outside());
        }
        Ok(Self { dir, tag: tag.map(str::to_owned), image: reference.to_owned() })
    }

    /// Which manifest or index the reference means.
    pub fn resolve(&self) -> Result<Digest, ImageError> {
        let bytes = self.read("index.json", MAX_INDEX)?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|e| self.invalid(format!("index.json is not readable: {e}")))?;
        let mut found = index.manifests.iter().filter(|entry| match &self.tag {
            None => true,
            Some(tag) => entry.annotations.get("org.opencontainers.image.ref.name") == Some(tag),
        });
        match (found.next(), found.next()) {
            (Some(entry), None) => Digest::parse(&entry.digest).map_err(|e| self.invalid(e)),
            (Some(_), Some(_)) => {
                Err(self
                    .invalid("index.json has several images; name one as oci:DIR:tag".to_owned()))
            }
            (None, _) => {
                let detail = "index.json has no such tag".to_owned();
                Err(ImageError::NotFound { image: self.image.clone(), detail })
            }
        }
    }

    /// Reads a small blob.
    pub fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ImageError> {
        let bytes = self.read(&blob(digest), limit)?;
        if Digest::of(&bytes) != *digest {
            return Err(self.invalid(format!("blob {digest} has other content")));
        }
        Ok(bytes)
    }

    /// Copies a blob to an empty file and checks it.
    pub fn copy(&self, wanted: &Descriptor, out: &mut File) -> Result<(), ImageError> {
        let mut source = self.open_file(&blob(&wanted.digest))?.take(wanted.size + 1);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        let mut size = 0;
        let failed = ImageError::io("copy", &self.dir);
        let copied = (|| -> io::Result<()> {
            loop {
                let got = source.read(&mut buffer)?;
                if got == 0 {
                    return out.sync_all();
                }
                hash.update(&buffer[..got]);
                out.write_all(&buffer[..got])?;
                size += got as u64;
            }
        })();
        copied.map_err(failed)?;
        if size != wanted.size || Digest::from_sha256(hash.finalize()) != wanted.digest {
            return Err(self.invalid(format!("blob {} has other content", wanted.digest)));
        }
        Ok(())
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let mut file = self.open_file(path)?.take(limit + 1);
        file.read_to_end(&mut bytes).map_err(ImageError::io("read", self.dir.join(path)))?;
        if bytes.len() as u64 > limit {
            return Err(self.invalid(format!("{path} is larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    fn open_file(&self, path: &str) -> Result<File, ImageError> {
        let missing = || ImageError::NotFound {
            image: self.image.clone(),
            detail: format!("{path} is not in the directory"),
        };
        // A link in the layout must not lead to another file of the host.
        let path = self.dir.join(path).canonicalize().map_err(|_| missing())?;
        if !path.starts_with(&self.dir) || !path.is_file() {
            return Err(missing());
        }
        File::open(&path).map_err(ImageError::io("open", path))
    }

    fn invalid(&self, problem: String) -> ImageError {
        ImageError::Invalid { image: self.image.clone(), problem }
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
