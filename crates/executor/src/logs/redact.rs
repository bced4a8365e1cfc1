//! Replaces secrets in output, also where a secret is cut by chunks or by terminal escapes.
//!
//! The core is pure: bytes in, bytes out, no IO. What it promises: for every way to cut the input into
//! chunks the concatenated output is the same, and contains none of the secrets' forms
//! (`super::variants`). It holds back only a tail that may be the beginning of a secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::escapes::Visible;
use super::variants::variants;

/// The compiled secrets of one job; cheap to clone.
#[derive(Clone)]
pub struct Redactor {
    inner: Arc<Inner>,
}

struct Inner {
    matcher: AhoCorasick,
    /// Sorted, to find by binary search whether a tail begins one of them.
    patterns: Vec<Vec<u8>>,
    /// By pattern.
    replacements: Vec<String>,
    longest: usize,
}

impl Redactor {
    /// `secrets` maps each value to its replacement.
    pub fn new(secrets: &BTreeMap<String, String>) -> Self {
        let mut by_form: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        for (secret, replacement) in secrets {
            for form in variants(secret) {
                by_form.entry(form).or_insert_with(|| replacement.clone());
            }
        }
        let (patterns, replacements): (Vec<_>, Vec<_>) = by_form.into_iter().unzip();
        let matcher = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::Standard)
            .build(&patterns)
            .expect(
                "the forms of a job's secrets are far below the automaton's limit of 2^31 states",
            );
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        Self { inner: Arc::new(Inner { matcher, patterns, replacements, longest }) }
    }

    /// Redacts a text that is complete.
    pub fn text(&self, text: &str) -> String {
        let mut stream = self.stream();
        let mut out = Vec::with_capacity(text.len());
        stream.push(text.as_bytes(), &mut out);
        stream.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// A redactor for one stream of chunks.
    pub fn stream(&self) -> RedactedStream {
        RedactedStream { redactor: self.clone(), window: Vec::new(), covered: 0 }
    }
}

impl Inner {
    /// Where the longest suffix of `text` begins that is a proper prefix of a pattern.
    fn held_from(&self, text: &[u8]) -> usize {
        let first = text.len().saturating_sub(self.longest.saturating_sub(1));
        (first..text.len())
            .find(|&start| {
                let tail = &text[start..];
                let at = self.patterns.partition_point(|pattern| pattern.as_slice() <= tail);
                self.patterns.get(at).is_some_and(|pattern| pattern.starts_with(tail))
            })
            .unwrap_or(text.len())
    }

    /// Matches, overlapping ones merged, in order; the replacement is that of the first.
    fn regions(&self, text: &[u8]) -> Vec<Region> {
        let mut matches: Vec<_> = self.matcher.find_overlapping_iter(text).collect();
        // The longest of those that begin together comes first, and names the replacement.
        matches.sort_by_key(|found| (found.start(), std::cmp::Reverse(found.end())));
        let mut regions: Vec<Region> = Vec::new();
        for found in matches {
            match regions.last_mut() {
                Some(last) if found.start() < last.end => last.end = last.end.max(found.end()),
                _ => regions.push(Region {
                    start: found.start(),
                    end: found.end(),
                    replacement: Some(found.pattern().as_usize()),
                }),
            }
        }
        regions
    }
}

/// Bytes to replace; without replacement: it was written already.
struct Region {
    start: usize,
    end: usize,
    replacement: Option<usize>,
}

/// One stream being redacted.
pub struct RedactedStream {
    redactor: Redactor,
    /// Bytes that are not written yet.
    window: Vec<u8>,
    /// Leading bytes of the window that belong to a secret whose replacement was written.
    covered: usize,
}

impl RedactedStream {
    /// Takes a chunk; appends what is safe to show to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.redactor.inner.patterns.is_empty() {
            out.extend_from_slice(chunk);
            return;
        }
        self.window.extend_from_slice(chunk);
        let visible = Visible::of(&self.window);
        let held = self.redactor.inner.held_from(visible.bytes());
        let cut = visible.raw_index(held).min(visible.complete());
        self.write_until(cut, out);
    }

    /// The stream ended. A tail that is at least half of a secret is replaced as well: the process
    /// may have been killed while it wrote.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let inner = Arc::clone(&self.redactor.inner);
        let visible = Visible::of(&self.window);
        let held = inner.held_from(visible.bytes());
        let tail = &visible.bytes()[held..];
        let at = inner.patterns.partition_point(|pattern| pattern.as_slice() <= tail);
        let mostly = inner
            .patterns
            .get(at)
            .filter(|pattern| pattern.starts_with(tail) && tail.len() * 2 >= pattern.len());
        let cut = visible.raw_index(held);
        match mostly {
            Some(_) if !tail.is_empty() => {
                self.write_until(cut, out);
                if self.covered == 0 {
                    out.extend_from_slice(inner.replacements[at].as_bytes());
                }
            }
            _ => self.write_until(self.window.len(), out),
        }
        self.window.clear();
        self.covered = 0;
    }

    /// Writes the window up to `cut`, keeps the rest.
    fn write_until(&mut self, cut: usize, out: &mut Vec<u8>) {
        let inner = Arc::clone(&self.redactor.inner);
        let visible = Visible::of(&self.window);
        let mut regions: Vec<Region> = inner
            .regions(visible.bytes())
            .into_iter()
            .map(|region| Region {
                start: visible.raw_index(region.start),
                end: visible.raw_index(region.end - 1) + 1,
                ..region
            })
            .collect();
        self.merge_covered(&mut regions);
        let mut position = 0;
        for region in regions.iter().take_while(|region| region.start < cut) {
            out.extend_from_slice(&self.window[position.min(region.start)..region.start]);
            if let Some(pattern) = region.replacement {
                out.extend_from_slice(inner.replacements[pattern].as_bytes());
            }
            position = region.end;
        }
        if position < cut {
            out.extend_from_slice(&self.window[position..cut]);
        }
        self.window.drain(..cut);
        self.covered = self.covered.max(position).saturating_sub(cut);
    }

    /// Regions that overlap what was already replaced belong to that replacement.
    fn merge_covered(&self, regions: &mut Vec<Region>) {
        if self.covered == 0 {
            return;
        }
        let mut end = self.covered;
        while regions.first().is_some_and(|region| region.start < end) {
            end = end.max(regions.remove(0).end);
        }
        regions.insert(0, Region { start: 0, end, replacement: None });
    }
}

#[cfg(test)]
mod tests;
