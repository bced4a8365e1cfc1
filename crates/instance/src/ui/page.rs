//! What every page has around its content: title, navigation, theme, message, CSRF token.

use super::flash::Flash;
use super::theme::Theme;

/// Who is logged in.
#[derive(Clone, Debug)]
pub struct Person {
    /// User name.
    pub name: String,
    /// Sees the Maintenance group.
    pub site_admin: bool,
}

/// Places in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Lists and pages of jobs.
    Jobs,
    /// The form for a new job.
    NewJob,
    /// Maintenance › Executors.
    Executors,
    /// Maintenance › Repositories.
    Repositories,
    /// Maintenance › Images.
    Images,
    /// Maintenance › Site configuration.
    Configuration,
    /// Maintenance › Users and tokens.
    Users,
    /// The own account.
    Account,
    /// Not in the navigation.
    None,
}

/// The frame of a page. Templates know it as `page`.
#[derive(Clone, Debug)]
pub struct Page {
    /// Title of window and page.
    pub title: String,
    /// Path of this page, to come back to.
    pub path: String,
    /// Server time, RFC 3339; empty if unknown.
    pub now: String,
    /// Where we are.
    pub place: Place,
    /// Narrow content, for forms.
    pub narrow: bool,
    /// Who looks at it; `None` before log-in.
    pub user: Option<Person>,
    /// Goes into every form.
    pub csrf: String,
    /// Light, dark or the system's.
    pub theme: Theme,
    /// What the request before this one did.
    pub flash: Option<Flash>,
}

/// A group of the navigation.
pub struct Group {
    /// Heading.
    pub title: &'static str,
    /// Its places.
    pub links: Vec<Link>,
}

/// One place of the navigation.
pub struct Link {
    /// Path.
    pub href: &'static str,
    /// Name in the sprite of icons.
    pub icon: &'static str,
    /// Text.
    pub title: &'static str,
    /// This is the page.
    pub current: bool,
}

const WORK: [(Place, &str, &str, &str); 2] =
    [(Place::Jobs, "/jobs", "jobs", "Jobs"), (Place::NewJob, "/jobs/new", "new", "New job")];

const MAINTENANCE: [(Place, &str, &str, &str); 5] = [
    (Place::Executors, "/site-admin/executors", "executors", "Executors"),
    (Place::Repositories, "/site-admin/repositories", "repositories", "Repositories"),
    (Place::Images, "/site-admin/images", "images", "Images"),
    (Place::Configuration, "/site-admin/configuration", "config", "Site configuration"),
    (Place::Users, "/site-admin/users", "users", "Users and tokens"),
];

impl Page {
    /// The navigation of this user.
    pub fn nav(&self) -> Vec<Group> {
        let links = |places: &[(Place, &'static str, &'static str, &'static str)]| {
            let link = |&(place, href, icon, title)| Link {
                href,
                icon,
                title,
                current: place == self.place,
            };
            places.iter().map(link).collect()
        };
        let mut groups = Vec::new();
        if let Some(user) = &self.user {
            groups.push(Group { title: "Work", links: links(&WORK) });
            if user.site_admin {
                groups.push(Group { title: "Maintenance", links: links(&MAINTENANCE) });
            }
        }
        groups
    }

    /// The page is the own account's.
    pub fn is_account(&self) -> bool {
        self.place == Place::Account
    }

    /// A frame without a user, for the pages before log-in and for errors.
    pub fn outside(title: &str, now: String, theme: Theme) -> Self {
        Self {
            title: title.to_owned(),
            path: "/".to_owned(),
            now,
            place: Place::None,
            narrow: true,
            user: None,
            csrf: String::new(),
            theme,
            flash: None,
        }
    }
}
