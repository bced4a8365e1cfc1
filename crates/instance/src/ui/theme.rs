//! Light, dark, or what the reader's system says; remembered in a cookie so that the server renders it
//! and no page flashes in the wrong colours.

use http::HeaderMap;

use super::cookie;

/// Name of the cookie.
pub const COOKIE: &str = "theme";

/// The colours of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the system is set.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// Reads the name used in cookie and form; anything unknown is the system's.
    pub fn parse(name: &str) -> Self {
        match name {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::System,
        }
    }

    /// The reader's choice.
    pub fn of(headers: &HeaderMap) -> Self {
        cookie::get(headers, COOKIE).map_or(Self::System, Self::parse)
    }

    /// The name used in cookie and form.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// What `<html data-theme>` says, if anything.
    pub fn attribute(self) -> Option<&'static str> {
        (self != Self::System).then(|| self.name())
    }

    /// What the button leads to.
    pub fn next(self) -> &'static str {
        match self {
            Self::System => "light",
            Self::Light => "dark",
            Self::Dark => "system",
        }
    }
}
