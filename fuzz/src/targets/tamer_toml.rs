//! `tamer.toml`.

use tamer_core::application::{Application, ComponentSpec};

pub(super) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let application = match Application::parse("tamer.toml", text) {
        Ok(application) => application,
        Err(error) => {
            assert!(error.to_string().starts_with("tamer.toml"), "{error}");
            return;
        }
    };
    // What is printed is read as the same again, in both languages that carry it.
    let json = serde_json::to_vec(&application).unwrap();
    let again: Application = serde_json::from_slice(&json).unwrap();
    assert_eq!(again, application);
    if let Ok(text) = toml::to_string(&application) {
        let again = Application::parse("tamer.toml", &text).unwrap();
        assert_eq!(again, application);
    }
    // Every component rolls out once, after all that it needs.
    let order = application.order().unwrap();
    assert_eq!(order.len(), application.components.len());
    for (n, name) in order.iter().enumerate() {
        let needs = &application.components[name].needs;
        assert!(needs.iter().all(|need| order[..n].contains(need)));
        // What its manifests carry is judged again on every server.
        let spec = application.spec(name).unwrap();
        spec.validate().unwrap();
        let carried = serde_json::to_vec(&spec).unwrap();
        let again: ComponentSpec = serde_json::from_slice(&carried).unwrap();
        assert_eq!(again, spec);
        // Neither on a server nor in the repository does it leave its place.
        assert!(spec.root.starts_with('/') && !spec.root.contains("/../"));
        let inside = |path: &str| !path.starts_with('/') && path.split('/').all(|it| it != "..");
        assert!(inside(&spec.files));
        assert!(spec.shared.iter().all(|path| inside(path)));
        assert!(spec.hooks.values().all(|path| inside(path)));
    }
}

/// The real ones of this repository.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = super::repository(&[
        "agent/release/tamer.toml",
        "examples/django-notes/tamer.toml",
        "examples/shop/tamer.toml",
        "examples/shop-service/tamer.toml",
    ]);
    seeds.push(
        b"application = \"shop\"\nx-own = { a = [1] }\n[component.web]\nfiles = \"web\"\nroot = \"/srv/shop/web\"\nuser = \"shop\"\nservice = \"shop-web.service\"\nreload = true\numask = \"027\"\nneeds = [\"worker\"]\nlimits = { open_files = 10 }\nworks_with = { main = \"41..=42\" }\n[component.worker]\nfiles = \"worker\"\nroot = \"/srv/shop/worker\"\n[schema.main]\ncomponent = \"web\"\ncurrent = \"bin/current\"\ntarget = 42\nup = \"bin/up\"\ndown = \"bin/down\"\n".to_vec(),
    );
    seeds
}
