//! Rules about the repository as text: sizes, words, documents that tell the truth.

mod budgets;
mod documents;
mod repository;
mod words;
