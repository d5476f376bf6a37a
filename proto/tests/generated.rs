//! The generated code is committed, so that building needs no generator; this test makes it anew
//! and compares. `TAMER_REGENERATE=1 cargo test -p tamer-proto` writes it.

use std::path::Path;

#[test]
fn generated_code_is_what_the_proto_files_say() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["agent", "enrolment", "operator"].map(|name| format!("tamer/v1/{name}.proto"));
    let descriptors = protox::compile(files, [here.join("proto")]).unwrap();
    let fresh = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .out_dir(fresh.path())
        .type_attribute(".", "#[derive(serde::Serialize)]")
        .btree_map(".")
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(descriptors)
        .unwrap();
    let fresh = std::fs::read_to_string(fresh.path().join("tamer.v1.rs")).unwrap();
    let committed = here.join("src/generated/tamer.v1.rs");
    if std::env::var_os("TAMER_REGENERATE").is_some() {
        std::fs::write(&committed, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(committed).unwrap_or_default();
    assert!(
        fresh == committed,
        "run TAMER_REGENERATE=1 cargo test -p tamer-proto"
    );
}
