//! One target under libFuzzer: `TAMER_FUZZ` names it, and `TAMER_FUZZ_SEEDS` is where its seeds are written first.
//! `deploy-scripts/fuzz` builds it, instrumented, and runs it.

#![no_main]
#![allow(clippy::unwrap_used, reason = "a fuzzer that cannot begin has failed")]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use std::path::Path;
use std::sync::OnceLock;
use tamer_fuzz::targets::{Target, target};

/// Counts what is allocated: memory that is asked for and never touched is seen too.
#[global_allocator]
static METER: PeakAlloc = PeakAlloc;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(init: begin(), |bytes: &[u8]| run(bytes));

fn begin() {
    let name = std::env::var("TAMER_FUZZ").unwrap_or_default();
    let target = target(&name).unwrap_or_else(|| panic!("TAMER_FUZZ={name} is no target"));
    if let Ok(dir) = std::env::var("TAMER_FUZZ_SEEDS") {
        for (n, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(Path::new(&dir).join(format!("{n:03}")), seed).unwrap();
        }
    }
    // What it makes once and keeps is not counted for the first input.
    (target.run)(&[]);
    let _ = TARGET.set(target);
}

fn run(bytes: &[u8]) {
    let target = TARGET.get().unwrap();
    METER.reset_peak_usage();
    let before = METER.current_usage();
    (target.run)(bytes);
    let taken = METER.peak_usage().saturating_sub(before);
    assert!(
        taken <= target.memory,
        "{taken} bytes of memory were taken, {} are the most",
        target.memory
    );
}
