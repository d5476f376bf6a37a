//! `tamer-simulator`: runs seeds, and says which of them breaks a promise.

use clap::Parser;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tamer_simulator::counts::Counts;
use tamer_simulator::world::World;

/// Runs whole rollouts on a virtual clock, with faults that come from a seed.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "N")]
    from: u64,
    /// How many seeds are run.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    seeds: u64,
    /// How many are run at once; all cores, if it is left out.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Says what happens in each run, on standard error.
    #[arg(long)]
    trace: bool,
}

#[expect(clippy::print_stdout, reason = "what it says is its output")]
fn main() -> ExitCode {
    let args = Args::parse();
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if args.trace {
        1
    } else {
        args.jobs.unwrap_or_else(cores)
    };
    let next = AtomicU64::new(args.from);
    let all = Mutex::new((Counts::default(), Vec::new()));
    std::panic::set_hook(Box::new(|_| ()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.from.saturating_add(args.seeds) {
                        return;
                    }
                    let run = || World::new(seed, args.trace).run();
                    let outcome = catch_unwind(AssertUnwindSafe(run));
                    let Ok(mut all) = all.lock() else { return };
                    match outcome {
                        Ok(counts) => {
                            all.0.add(&counts);
                            all.0.runs += 1;
                        }
                        Err(broken) => all.1.push((seed, said(broken.as_ref()))),
                    }
                }
            });
        }
    });
    let Ok((counts, mut broken)) = all.into_inner() else {
        return ExitCode::FAILURE;
    };
    println!("{counts}");
    broken.sort();
    for (seed, why) in &broken {
        let brief: String = why
            .chars()
            .take(if args.trace { 20_000 } else { 300 })
            .collect();
        println!("seed {seed}: {brief}");
        println!("  again: cargo run -p tamer-simulator -- --from {seed} --seeds 1 --trace");
    }
    match broken.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn said(broken: &(dyn std::any::Any + Send)) -> String {
    let text = broken.downcast_ref::<&str>().map(|it| (*it).to_owned());
    let text = text.or_else(|| broken.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".to_owned())
}
