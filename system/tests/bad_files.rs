//! Files that people write: a key that nobody knows is refused, with the nearest one that is known.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions};

#[test]
fn names_the_nearest_key_in_every_file() {
    let fleet = Fleet::new(ENVIRONMENT);

    fleet.publish(&App::version("1.0.0"));
    let toml = fleet.desk("shop/tamer.toml");
    let good = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, good.replace("hook_timeout", "hook_timout")).unwrap();
    fleet
        .tamer(&["publish", "1.1.0"])
        .ends(2)
        .says(&["tamer.toml:6:1", "did you mean `hook_timeout`?"]);
    fleet.tamer(&["pack", "1.1.0"]).ends(2);
    fleet.tamer(&["releases"]).ends(0).says(&["1.0.0"]);

    let file = fleet.desk("staging.toml");
    fs::write(&file, ENVIRONMENT.replace("canary", "cannary")).unwrap();
    fleet
        .tamer(&["env", "apply", file.to_str().unwrap()])
        .ends(2)
        .says(&["staging.toml", "did you mean `canary`?"]);
    let listed = fleet.json(&["env", "list"])["environments"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");

    let more = "drift_intervall = \"1h\"".to_owned();
    let options = HostOptions {
        more,
        ..HostOptions::default()
    };
    let host = fleet.stranger("web-1", &options);
    host.types(&["run"])
        .ends(2)
        .says(&["agent.toml", "did you mean `drift_interval`?"]);

    let file = fleet.controller.data("../controller.toml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("listn = \"127.0.0.1:1\"\n{good}")).unwrap();
    fleet
        .controller
        .types(&["serve"])
        .ends(2)
        .says(&["controller.toml", "did you mean `listen`?"]);
}
