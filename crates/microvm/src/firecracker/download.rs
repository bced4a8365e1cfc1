//! A download that goes on where it stopped, in this run or a later one.
//!
//! `<dir>/.part-NAME` is what has come so far, and `.part-NAME.if-range` how the server called that version of
//! the file, if it did: by it, the server sends the rest of that version, or the whole of a newer one. Whoever
//! uses the file checks it; [`Part::remove`] makes the next one start anew.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response};

use super::install::{InstallError, io_error, with_causes};
use crate::own_files;

/// Begins the names of what has not come whole.
const PART: &str = ".part-";
const VERSION: &str = ".if-range";
/// Requests in one run; each of them but the first brought us further, or made us start again.
const REQUESTS: usize = 20;
/// Longer names of versions are not kept, in bytes.
const VERSION_MAX: u64 = 1024;

/// Told how many bytes have come and, where that is known, of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// A file that comes in one or more pieces. Nobody else may use it.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    version: PathBuf,
}

/// How one request ended.
enum Ended {
    Whole,
    /// The answer broke off.
    Early(String),
    /// The server cannot go on from here.
    Useless(String),
}

impl Part {
    /// The part of the file `name` in `dir`; those of other files go.
    ///
    /// # Errors
    /// The file system says no.
    pub fn open(dir: &Path, name: &str) -> Result<Self, InstallError> {
        let path = dir.join(format!("{PART}{name}"));
        let version = dir.join(format!("{PART}{name}{VERSION}"));
        for entry in fs::read_dir(dir).map_err(io_error(dir))? {
            let other = entry.map_err(io_error(dir))?;
            let is_part = other.file_name().to_string_lossy().starts_with(PART);
            if is_part && ![&path, &version].contains(&&other.path()) {
                fs::remove_file(other.path()).map_err(io_error(&other.path()))?;
            }
        }
        Ok(Self { path, version })
    }

    /// What has come, empty if nothing has.
    ///
    /// # Errors
    /// The file system says no, or it is not ours.
    pub fn read(&self) -> Result<Vec<u8>, InstallError> {
        let mut content = Vec::new();
        let read = own_files::open_or_create(&self.path)
            .and_then(|mut file| file.read_to_end(&mut content));
        read.map_err(io_error(&self.path)).map(|_| content)
    }

    /// Forgets what has come.
    ///
    /// # Errors
    /// The file system says no.
    pub fn remove(&self) -> Result<(), InstallError> {
        // In this order: what is there is of the version that is named, or of one without a name.
        for path in [&self.path, &self.version] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gets what is missing from `url`, which has at most `max` bytes.
    ///
    /// # Errors
    /// [`InstallError::Download`], and what has come is kept; or the file system says no.
    pub async fn fetch(
        &self,
        client: &Client,
        url: &str,
        max: u64,
        progress: Progress<'_>,
    ) -> Result<(), InstallError> {
        let mut last = String::new();
        for _ in 0..REQUESTS {
            let before = self.len()?;
            match self.request(client, url, max, progress).await? {
                Ended::Whole => return Ok(()),
                Ended::Early(problem) if self.len()? > before => last = problem,
                Ended::Early(problem) => {
                    last = problem;
                    break;
                }
                Ended::Useless(problem) => {
                    self.remove()?;
                    last = problem;
                }
            }
        }
        let come = self.len()?;
        if come > 0 {
            last = format!("{last}; {} have come, run this again to go on", mebibytes(come));
        }
        Err(failed(url, last))
    }

    async fn request(
        &self,
        client: &Client,
        url: &str,
        max: u64,
        progress: Progress<'_>,
    ) -> Result<Ended, InstallError> {
        let offset = self.len()?;
        let mut request = client.get(url);
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
            if let Some(version) = self.version()? {
                request = request.header(IF_RANGE, version);
            }
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Ended::Early(with_causes(&error.without_url()))),
        };
        let status = response.status();
        if offset > 0 && status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(Ended::Useless("there is no more of the file".to_owned()));
        }
        let going_on = offset > 0 && status == StatusCode::PARTIAL_CONTENT;
        if going_on && !starts_at(&response, offset) {
            return Ok(Ended::Useless("the server sent another range than asked for".to_owned()));
        }
        if !going_on && status != StatusCode::OK {
            return Err(failed(url, format!("the server answered {status}")));
        }
        if !going_on {
            self.remove()?;
            self.name_version(&response)?;
        }
        let mut come = if going_on { offset } else { 0 };
        let total = header(&response, CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let total = total.map(|length: u64| come.saturating_add(length));
        let too_large = || failed(url, format!("more than {}", mebibytes(max)));
        if total.is_some_and(|total| total > max) {
            return Err(too_large());
        }
        let mut file = self.append()?;
        progress(come, total);
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(Ended::Whole),
                Err(error) => return Ok(Ended::Early(with_causes(&error.without_url()))),
            };
            come += chunk.len() as u64;
            if come > max {
                self.remove()?;
                return Err(too_large());
            }
            file.write_all(&chunk).map_err(io_error(&self.path))?;
            progress(come, total);
        }
    }

    fn append(&self) -> Result<File, InstallError> {
        let opened = own_files::open_or_create(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        });
        opened.map_err(io_error(&self.path))
    }

    /// How much has come, in bytes.
    fn len(&self) -> Result<u64, InstallError> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            found => Ok(found.map_err(io_error(&self.path))?.len()),
        }
    }

    fn version(&self) -> Result<Option<String>, InstallError> {
        let mut version = String::new();
        let read = own_files::open(&self.version)
            .and_then(|file| file.take(VERSION_MAX).read_to_string(&mut version));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(|_| Some(version)).map_err(io_error(&self.version)),
        }
    }

    fn name_version(&self, response: &Response) -> Result<(), InstallError> {
        // A weak tag only says that two versions serve the same purpose.
        let tag = header(response, ETAG).filter(|tag| !tag.starts_with("W/"));
        let version = tag.or_else(|| header(response, LAST_MODIFIED));
        let Some(version) = version.filter(|version| (version.len() as u64) < VERSION_MAX) else {
            return Ok(());
        };
        let written = own_files::new_file(&self.version, 0o600)
            .and_then(|mut file| file.write_all(version.as_bytes()));
        written.map_err(io_error(&self.version))
    }
}

/// So many bytes, for people.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn header(response: &Response, name: http::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

fn starts_at(response: &Response, offset: u64) -> bool {
    let range = header(response, CONTENT_RANGE);
    range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}

fn failed(url: &str, problem: String) -> InstallError {
    InstallError::Download { url: url.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;

    use super::*;
    use crate::own_files::planting::{ALL, expect_refusals};

    const TEXT: &[u8] = b"one file of some length";
    const MAX: u64 = 100;

    /// Gives these answers one after the other, and what it was asked, from the `range` on.
    fn server(answers: Vec<String>) -> (String, mpsc::Receiver<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let (seen, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                seen.send(conditions(&stream)).unwrap();
                let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (url, requests)
    }

    /// The headers that say what is wanted.
    fn conditions(stream: &TcpStream) -> Vec<String> {
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        let head = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase());
        let mut wanted: Vec<String> = head.filter(|line| line.contains("range: ")).collect();
        wanted.sort();
        wanted
    }

    /// The whole file, of which `sent` bytes come before the connection breaks.
    fn whole(sent: usize, headers: &str) -> String {
        let (length, text) = (TEXT.len(), String::from_utf8_lossy(&TEXT[..sent]));
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{headers}\r\n{text}")
    }

    fn rest(from: usize, sent: usize, claimed: usize) -> String {
        let (length, text) = (TEXT.len() - from, String::from_utf8_lossy(&TEXT[from..from + sent]));
        let range = format!("Content-Range: bytes {claimed}-{}/{}", TEXT.len() - 1, TEXT.len());
        format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\n{range}\r\n\r\n{text}")
    }

    struct Outcome {
        result: Result<(), String>,
        content: Vec<u8>,
        requests: Vec<Vec<String>>,
        progress: Vec<(u64, Option<u64>)>,
    }

    async fn fetch(dir: &Path, answers: Vec<String>) -> Outcome {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = crate::images::registry::client().unwrap();
        let (url, requests) = server(answers);
        let part = Part::open(dir, "file").unwrap();
        let mut seen = Vec::new();
        let result =
            part.fetch(&client, &url, MAX, &mut |come, total| seen.push((come, total))).await;
        Outcome {
            result: result.map_err(|error| error.to_string()),
            content: part.read().unwrap(),
            requests: requests.try_iter().collect(),
            progress: seen,
        }
    }

    #[tokio::test]
    async fn it_goes_on_in_the_same_run_and_in_the_next() {
        for (headers, condition) in [
            ("", None),
            ("ETag: W/\"weak\"\r\n", None),
            ("ETag: \"one\"\r\nLast-Modified: today\r\n", Some("if-range: \"one\"")),
            ("ETag: W/\"weak\"\r\nLast-Modified: today\r\n", Some("if-range: today")),
        ] {
            let dir = tempfile::tempdir().unwrap();
            // The second answer breaks off before anything has come of it: then it is for another run.
            let first = fetch(dir.path(), vec![whole(4, headers), rest(4, 6, 4), rest(10, 0, 10)]);
            let first = first.await;
            let error = first.result.unwrap_err();
            assert!(error.contains("0.0 MiB have come, run this again to go on"), "{error}");
            assert_eq!(first.content, &TEXT[..10]);
            let asks = |range: &str| {
                let condition = condition.map(str::to_owned);
                condition.into_iter().chain([range.to_owned()]).collect::<Vec<_>>()
            };
            assert_eq!(
                first.requests,
                [vec![], asks("range: bytes=4-"), asks("range: bytes=10-")],
                "{headers}"
            );

            let second = fetch(dir.path(), vec![rest(10, TEXT.len() - 10, 10)]).await;
            second.result.unwrap();
            assert_eq!(second.content, TEXT);
            assert_eq!(second.requests, [asks("range: bytes=10-")]);
            let total = TEXT.len() as u64;
            assert_eq!(second.progress.first(), Some(&(10, Some(total))));
            assert_eq!(second.progress.last(), Some(&(total, Some(total))));
        }
    }

    #[tokio::test]
    async fn it_starts_anew_where_the_server_cannot_go_on() {
        let refusal = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n".to_owned();
        let all = TEXT.len();
        for answers in [
            // It knows no ranges, or the file is another by now.
            vec![whole(all, "ETag: \"two\"\r\n")],
            vec![refusal, whole(all, "ETag: \"two\"\r\n")],
            vec![rest(3, all - 3, 3), whole(all, "ETag: \"two\"\r\n")],
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(".part-file"), "an older one").unwrap();
            fs::write(dir.path().join(".part-file.if-range"), "\"one\"").unwrap();
            let outcome = fetch(dir.path(), answers).await;
            outcome.result.unwrap();
            assert_eq!(outcome.content, TEXT);
            assert_eq!(outcome.requests[0], ["if-range: \"one\"", "range: bytes=12-"]);
            assert!(outcome.requests[1..].iter().all(Vec::is_empty), "{:?}", outcome.requests);
            let version = fs::read_to_string(dir.path().join(".part-file.if-range")).unwrap();
            assert_eq!(version, "\"two\"");
        }
    }

    #[tokio::test]
    async fn what_a_server_may_not_do() {
        let many = "x".repeat(1000);
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{many}");
        let large = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{many}");
        let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned();
        for (answer, expected) in
            [(endless, "more than"), (large, "more than"), (missing, "404 Not Found")]
        {
            let dir = tempfile::tempdir().unwrap();
            let outcome = fetch(dir.path(), vec![answer]).await;
            let error = outcome.result.unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(outcome.content.is_empty(), "nothing of it is kept");
        }
        // One that never gets further is not asked for ever.
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".part-file"), "on").unwrap();
        let outcome = fetch(dir.path(), vec![rest(2, 0, 2); 2]).await;
        assert_eq!((outcome.result.is_err(), outcome.requests.len()), (true, 1));
        assert_eq!(outcome.content, b"on", "an error is no reason to start anew");
    }

    #[test]
    fn parts_of_other_files_go() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".part-file", ".part-file.if-range", ".part-old", ".part-old.if-range", "it"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let part = Part::open(dir.path(), "file").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        part.remove().unwrap();
        part.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_planted_in_its_place_is_not_written_to() {
        let append = |dir: &Path| {
            let part = Part::open(dir, "file").map_err(io::Error::other)?;
            part.append().map(drop).map_err(io::Error::other)
        };
        expect_refusals(&[".part-file"], &ALL, append);
    }
}
