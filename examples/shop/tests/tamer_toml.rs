//! The shop's own `tamer.toml` is one that Tamer takes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tamer_core::application::{Application, Hook};
use tamer_core::check::{CheckKind, expand};

#[test]
fn tamer_takes_it_and_all_that_it_names_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(here.join("tamer.toml")).unwrap();
    let application = Application::parse("tamer.toml", &text).unwrap();
    assert_eq!(application.application.as_str(), "shop");
    let web = &application.components[&"web".parse().unwrap()];
    assert_eq!(web.root, "/srv/shop/web");
    assert!(web.shared.contains("data/") && web.shared.contains("run/"));
    let hooks: Vec<_> = web.hooks.keys().copied().collect();
    assert_eq!(hooks, [Hook::Stop, Hook::Start, Hook::Validate]);
    for path in web.hooks.values() {
        let about = here.join(&web.files).join(path).metadata().unwrap();
        assert_eq!(about.permissions().mode() & 0o111, 0o111, "{path}");
    }
    let CheckKind::Http { url, status, .. } = &web.checks[&"home".parse().unwrap()].kind else {
        panic!("the check is not an http one");
    };
    let host = [("port".to_owned(), "8081".to_owned())].into();
    assert_eq!(
        (expand(url, &host).unwrap().as_str(), *status),
        ("http://127.0.0.1:8081/health", 200)
    );
}
