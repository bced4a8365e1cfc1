//! The `USER` of an image, looked up in the image's own files. Pure.

/// Who a step runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// `HOME`.
    pub home: String,
}

/// Resolves `user` (`""`, `name`, `uid`, `name:group`, `uid:gid` …) as container engines do: numbers need no
/// entry, names do; without a group the user's own and its supplementary ones apply.
pub fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd.lines().find_map(|line| Entry::parse(line, user));
    let (uid, mut gid, home, name) = match (&entry, user.parse::<u32>()) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home, entry.name),
        (None, Ok(uid)) => (uid, 0, if uid == 0 { "/root" } else { "/" }, ""),
        (None, Err(_)) => return Err(format!("user {user:?} is not in the image's /etc/passwd")),
    };
    let mut groups = Vec::new();
    match wanted_group.filter(|wanted| !wanted.is_empty()) {
        Some(wanted) => gid = group_id(wanted, group)?,
        None => groups = supplementary(name, group),
    }
    let home = if home.is_empty() { "/" } else { home };
    Ok(Identity { uid, gid, groups, home: home.to_owned() })
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str, user: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (_comment, home) = (fields.next()?, fields.next().unwrap_or("/"));
        let is_it = name == user || user.parse() == Ok(uid);
        is_it.then_some(Self { name, uid, gid, home })
    }
}

fn group_id(wanted: &str, group: &str) -> Result<u32, String> {
    let named = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == wanted;
        fields.nth(1)?.parse().ok().filter(|_| found)
    });
    let number = wanted.parse().ok();
    named.or(number).ok_or_else(|| format!("group {wanted:?} is not in the image's /etc/group"))
}

fn supplementary(name: &str, group: &str) -> Vec<u32> {
    let member_of = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        let is_member = fields.next()?.split(',').any(|member| member.trim() == name);
        is_member.then_some(gid)
    };
    if name.is_empty() { Vec::new() } else { group.lines().filter_map(member_of).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:100:Ann:/home/ann:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nbuild:x:42:bob,ann\n";

    fn ids(user: &str) -> (u32, u32, Vec<u32>, String) {
        let who = resolve(user, PASSWD, GROUP).unwrap();
        (who.uid, who.gid, who.groups, who.home)
    }

    #[test]
    fn users_are_found_as_container_engines_do() {
        assert_eq!(ids(""), (0, 0, vec![], "/root".into()));
        assert_eq!(ids("ann"), (1000, 100, vec![42], "/home/ann".into()));
        assert_eq!(ids("1000"), (1000, 100, vec![42], "/home/ann".into()));
        assert_eq!(ids("ann:build"), (1000, 42, vec![], "/home/ann".into()));
        assert_eq!(ids("77:88"), (77, 88, vec![], "/".into()));
        assert_eq!(ids("77"), (77, 0, vec![], "/".into()));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(resolve("eve", PASSWD, GROUP).unwrap_err().contains("eve"));
        assert!(resolve("ann:wheel", PASSWD, GROUP).unwrap_err().contains("wheel"));
        assert!(resolve("-1", PASSWD, GROUP).is_err());
    }

    #[test]
    fn an_image_without_passwd_still_has_root() {
        let who = resolve("", "", "").unwrap();
        assert_eq!((who.uid, who.home.as_str()), (0, "/root"));
    }
}
