//! Who an image's `user[:group]` is, by the image's own `/etc/passwd` and `/etc/group`.

use std::{fs::File, io::Read, os::unix::fs::OpenOptionsExt};

/// Larger files are read up to here; a real one has a few hundred lines.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The most supplementary groups taken, `NGROUPS_MAX` of kernels before 2.6.4; enough for anyone.
const GROUPS_MAX: usize = 64;

/// A user, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// Resolves a user in the current root.
///
/// # Errors
/// A sentence that names what is missing.
pub(super) fn find(user: &str) -> Result<User, String> {
    resolve(user, &read("/etc/passwd"), &read("/etc/group"))
}

/// Docker's rules: names are looked up, numbers need not be; without a group, the user's own; the
/// groups that list the user are added unless a group was given. The group itself is always one of
/// the supplementary ones, or a process could shed it with its file permissions (CVE-2022-36109).
fn resolve(text: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (name, wanted_group) = match text.split_once(':') {
        Some((name, group)) => (name, (!group.is_empty()).then_some(group)),
        None => (text, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let entry = entries(passwd).find(|entry| {
        entry[0] == name
            || (number.is_some() && entry.get(2).and_then(|uid| uid.parse().ok()) == number)
    });
    let field = |at: usize| entry.as_ref().and_then(|entry| entry.get(at).copied());
    let uid = field(2)
        .and_then(|uid| uid.parse().ok())
        .or(number)
        .ok_or_else(|| format!("the user `{name}` is not in the image's /etc/passwd"))?;
    let own_group = field(3).and_then(|gid| gid.parse().ok()).unwrap_or(0);
    let gid = match wanted_group {
        None => own_group,
        Some(wanted) => entries(group)
            .find(|entry| entry[0] == wanted)
            .and_then(|entry| entry.get(2)?.parse().ok())
            .or(wanted.parse().ok())
            .ok_or_else(|| format!("the group `{wanted}` is not in the image's /etc/group"))?,
    };
    let login = field(0).unwrap_or_default();
    let mut groups = vec![gid];
    if wanted_group.is_none() && !login.is_empty() {
        let lists_user = |users: &&str| users.split(',').any(|user| user == login);
        let others = entries(group)
            .filter(|entry| entry.get(3).is_some_and(lists_user))
            .filter_map(|entry| entry.get(2)?.parse().ok())
            .filter(|id: &u32| *id != gid);
        groups.extend(others.take(GROUPS_MAX));
    }
    let home = field(5)
        .filter(|home| home.starts_with('/'))
        .unwrap_or("/")
        .to_owned();
    Ok(User {
        uid,
        gid,
        groups,
        home,
    })
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.trim().split(':').collect())
}

/// The file belongs to the image: it may be missing, a pipe, or endless.
fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    if let Ok(file) = file
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        // What could be read is what there is.
        let _ = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/srv/web:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:1001:\nlog:x:40:root,web\nother:x:41:nobody\n";

    #[track_caller]
    fn check(text: &str, want: Result<(u32, u32, &[u32], &str), &str>) {
        let found = resolve(text, PASSWD, GROUP);
        let found = found
            .as_ref()
            .map(|u| (u.uid, u.gid, u.groups.as_slice(), u.home.as_str()));
        assert_eq!(found.map_err(String::as_str), want);
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        check("", Ok((0, 0, &[0, 40], "/root")));
        check("web", Ok((1000, 1001, &[1001, 40], "/srv/web")));
        check("1000", Ok((1000, 1001, &[1001, 40], "/srv/web")));
        check("1000:0", Ok((1000, 0, &[0], "/srv/web")));
        check("web:log", Ok((1000, 40, &[40], "/srv/web")));
        check("7:8", Ok((7, 8, &[8], "/")));
        check("7", Ok((7, 0, &[0], "/")));
        check(":log", Ok((0, 40, &[40], "/root")));
    }

    #[test]
    fn unknown_names_are_named() {
        check(
            "nobody",
            Err("the user `nobody` is not in the image's /etc/passwd"),
        );
        check(
            "web:nogroup",
            Err("the group `nogroup` is not in the image's /etc/group"),
        );
    }
}
