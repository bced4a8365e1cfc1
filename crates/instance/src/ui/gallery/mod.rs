//! Every template with sample data. The test holds each page against the content security policy; with
//! `UI_GALLERY_DIR` set it also writes the pages there, to be looked at without an instance.

mod jobs;
mod maintenance;

use askama::Template;

use super::account::{AccountPage, CreatedToken, PasswordForm, TokenForm, TokenView};
use super::error::ErrorPage;
use super::flash::Flash;
use super::format;
use super::gate::{LoginForm, LoginPage, SetupForm, SetupPage};
use super::page::{Page, Person, Place};
use super::theme::Theme;

const NOW: i64 = 1_780_000_000_000;
const MINUTE: i64 = 60_000;

fn page(title: &str, path: &str, place: Place) -> Page {
    let user = Some(Person { name: "ada".to_owned(), site_admin: true });
    let outside = Page::outside(title, format::iso(NOW), Theme::System);
    Page { user, place, csrf: "token".to_owned(), path: path.to_owned(), narrow: false, ..outside }
}

/// File name and page.
fn pages() -> Vec<(&'static str, String)> {
    let mut pages = gate();
    pages.extend(maintenance::pages());
    pages.extend(jobs::pages());
    pages
}

fn render(template: &impl Template) -> String {
    template.render().expect("templates render")
}

fn gate() -> Vec<(&'static str, String)> {
    let outside = |title| Page::outside(title, format::iso(NOW), Theme::System);
    let setup = SetupPage {
        page: outside("Create the site admin"),
        form: SetupForm {
            username: "ada <i>".to_owned(),
            password_help: "At least 10 characters.".to_owned(),
            password_error: Some("password must have at least 10 characters".to_owned()),
            ..SetupForm::default()
        },
    };
    let login = LoginPage {
        page: outside("Log in"),
        form: LoginForm {
            username: "ada".to_owned(),
            next: "/jobs".to_owned(),
            error: Some("User name or password is wrong.".to_owned()),
        },
    };
    let account = AccountPage {
        page: Page { narrow: true, ..page("Your account", "/account", Place::Account) },
        username: "ada".to_owned(),
        role: "Site admin",
        created: Some(CreatedToken {
            name: "laptop".to_owned(),
            secret: "ext_0123456789abcdef".repeat(3),
        }),
        token_form: TokenForm::default(),
        password_form: PasswordForm {
            current_error: Some("the current password is wrong".to_owned()),
            ..PasswordForm::default()
        },
        tokens: vec![token(1, "laptop", None), token(2, "nightly build", Some(NOW - 3 * MINUTE))],
    };
    let error = ErrorPage {
        page: page("Page not found", "/nowhere", Place::None),
        status: 404,
        message: "There is nothing at this address.".to_owned(),
    };
    vec![
        ("setup", render(&setup)),
        ("login", render(&login)),
        ("account", render(&account)),
        ("error", render(&error)),
    ]
}

fn token(id: i64, name: &str, used: Option<i64>) -> TokenView {
    TokenView {
        id,
        name: name.to_owned(),
        created: format::ago(NOW - 300 * MINUTE, NOW),
        used: used.map(|at| format::ago(at, NOW)),
    }
}

#[test]
fn pages_obey_the_content_security_policy() {
    let pages = pages();
    if let Ok(dir) = std::env::var("UI_GALLERY_DIR") {
        for (name, html) in &pages {
            std::fs::write(format!("{dir}/{name}.html"), html).expect("the gallery can be written");
        }
    }
    assert!(pages.len() > 12);
    for (name, html) in &pages {
        let lower = html.to_lowercase();
        for forbidden in
            [" style=", "<style", " onclick=", " onload=", "javascript:", "hx-on", "<script>"]
        {
            assert!(!lower.contains(forbidden), "{name} has {forbidden}");
        }
        let scripts = lower.matches("<script").count();
        assert_eq!(scripts, lower.matches("<script src=\"/assets/").count(), "{name}");
        assert!(!lower.contains("http://"), "{name} names another site");
        for post in html.split("<form").skip(1).filter(|form| form.contains("method=\"post\"")) {
            let form = post.split("</form>").next().unwrap_or(post);
            assert!(form.contains("name=\"csrf\""), "{name}: a form without a token: {form}");
        }
    }
}

#[test]
fn every_message_has_a_name_of_its_own() {
    let mut headers = http::HeaderMap::new();
    headers.insert("cookie", "a=b; flash=retried; theme=dark".parse().expect("a header value"));
    assert_eq!(Flash::of(&headers), Some(Flash::Retried));
    assert_eq!(Theme::of(&headers), Theme::Dark);
    headers.insert("cookie", "flash=<b>hi</b>".parse().expect("a header value"));
    assert_eq!(Flash::of(&headers), None);
}
