//! Blobs: streamed to a file, resumed where the server can, checked by size and digest.

use http::header::{CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Response;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::endpoint::{Endpoint, Failure, content_length};
use super::{ATTEMPTS, MIRROR_ATTEMPTS, Registry};
use crate::images::error::ImageError;
use crate::images::manifest::Descriptor;
use crate::images::reference::Digest;

/// A file that grows over several attempts.
struct Partial<'a> {
    file: File,
    hash: Sha256,
    offset: u64,
    blob: &'a Descriptor,
    advanced: &'a (dyn Fn(i64) + Sync),
}

impl Registry {
    /// Downloads a blob to an empty file. `advanced` is told the change of bytes on disk, which is
    /// negative when a server makes us start again.
    pub async fn download(
        &self,
        blob: &Descriptor,
        file: std::fs::File,
        advanced: &(dyn Fn(i64) + Sync),
    ) -> Result<(), ImageError> {
        let file = File::from_std(file);
        let mut partial = Partial { file, hash: Sha256::new(), offset: 0, blob, advanced };
        let last = self.endpoints.len() - 1;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            match self.download_from(endpoint, &mut partial).await {
                Ok(()) => return Ok(()),
                Err(failure) if index == last => return Err(self.error(failure)),
                Err(Failure::Local(error)) => return Err(error),
                Err(failure) => {
                    tracing::warn!(image = %self.image, mirror = %endpoint.name, ?failure, "mirror failed");
                }
            }
        }
        unreachable!("the last endpoint's outcome is returned")
    }

    async fn download_from(
        &self,
        endpoint: &Endpoint,
        partial: &mut Partial<'_>,
    ) -> Result<(), Failure> {
        let attempts = if endpoint.mirror { MIRROR_ATTEMPTS } else { ATTEMPTS };
        let (mut left, mut pause) = (attempts, self.pause);
        loop {
            let before = partial.offset;
            let failure = match self.attempt(endpoint, partial).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let Failure::Transient(detail, asked) = failure else { return Err(failure) };
            if partial.offset > before {
                (left, pause) = (attempts, self.pause);
            }
            left -= 1;
            if left == 0 {
                return Err(Failure::Transient(detail, None));
            }
            tracing::debug!(image = %self.image, %detail, at = partial.offset, "trying again");
            self.wait(&mut pause, asked).await;
        }
    }

    async fn attempt(&self, endpoint: &Endpoint, partial: &mut Partial<'_>) -> Result<(), Failure> {
        if partial.offset < partial.blob.size || partial.blob.size == 0 {
            let mut headers = HeaderMap::new();
            if partial.offset > 0 {
                let range = format!("bytes={}-", partial.offset);
                headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits"));
            }
            let path = format!("blobs/{}", partial.blob.digest);
            let response = match endpoint.send(&self.client, Method::GET, &path, &headers).await {
                // 416 and the like: without a range it may work.
                Err(Failure::Invalid(detail)) if partial.offset > 0 => {
                    partial.restart().await?;
                    return Err(Failure::transient(detail));
                }
                other => other?,
            };
            partial.receive(endpoint, response).await?;
        }
        partial.check(endpoint).await
    }
}

impl Partial<'_> {
    async fn receive(
        &mut self,
        endpoint: &Endpoint,
        mut response: Response,
    ) -> Result<(), Failure> {
        let name = &endpoint.name;
        if self.offset > 0 && !resumes_at(&response, self.offset) {
            self.restart().await?;
            if response.status() == StatusCode::PARTIAL_CONTENT {
                return Err(Failure::transient(format!(
                    "{name} answered another range than asked for"
                )));
            }
        }
        let size = self.blob.size;
        let wrong_size = |found: u64| {
            let digest = &self.blob.digest;
            Failure::Invalid(format!(
                "{name}: blob {digest} has {found} bytes or more, its manifest says {size}"
            ))
        };
        if let Some(length) = content_length(response.headers())
            && self.offset + length > size
        {
            return Err(wrong_size(self.offset + length));
        }
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.offset == size => return Ok(()),
                Ok(None) => {
                    let detail =
                        format!("{name} ended a blob after {} of {size} bytes", self.offset);
                    return Err(Failure::transient(detail));
                }
                Err(error) => {
                    self.file.flush().await.map_err(local)?;
                    return Err(endpoint.network(error));
                }
            };
            if self.offset + chunk.len() as u64 > size {
                return Err(wrong_size(self.offset + chunk.len() as u64));
            }
            self.file.write_all(&chunk).await.map_err(local)?;
            self.hash.update(&chunk);
            self.offset += chunk.len() as u64;
            (self.advanced)(chunk.len() as i64);
        }
    }

    async fn check(&mut self, endpoint: &Endpoint) -> Result<(), Failure> {
        self.file.flush().await.map_err(local)?;
        let found = Digest::from_sha256(self.hash.clone().finalize());
        if found == self.blob.digest {
            return self.file.sync_all().await.map_err(local);
        }
        self.restart().await?;
        let (name, digest) = (&endpoint.name, &self.blob.digest);
        Err(Failure::Invalid(format!("{name} sent a blob with digest {found} for {digest}")))
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        self.file.flush().await.map_err(local)?;
        self.file.set_len(0).await.map_err(local)?;
        self.file.rewind().await.map_err(local)?;
        self.hash = Sha256::new();
        (self.advanced)(-(self.offset as i64));
        self.offset = 0;
        Ok(())
    }
}

fn local(source: std::io::Error) -> Failure {
    Failure::Local(ImageError::Io { action: "write", path: "downloaded blob".into(), source })
}

fn resumes_at(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}
