//! The command `hypersockets`: listen to a feed, measure it, record it, replay it, be a venue for others, or look the host over.
//!
//! Standard output carries messages or results and nothing else; everything about them goes to standard error.

mod client;
mod doctor;
mod latency;
mod listen;
mod print;
mod record;
mod recorded;
mod replay;
mod simulate;
mod status;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// The result of a subcommand: what went wrong, in words for the user.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// WebSocket feeds at the command line, by the engine of the crate of the same name.
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints what a venue sends, a message a line, and reconnects for ever.
    Listen(listen::Listen),
    /// Measures where each microsecond goes, from the socket to the handler.
    Latency(latency::Latency),
    /// Writes what a venue sends into a file, with the times at which it came.
    Record(record::Record),
    /// Plays a recording, through a socket and the engine, as it was or as fast as it goes.
    Replay(replay::Replay),
    /// Is a venue on loopback, for any client.
    Simulate(simulate::Simulate),
    /// Says what on this host costs latency, and how to mend it.
    Doctor(doctor::Doctor),
    /// Prints the completions of a shell.
    #[command(
        after_help = "Example:\n  hypersockets completions bash > ~/.local/share/bash-completion/completions/hypersockets"
    )]
    Completions {
        /// Whose.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Listen(listen) => listen.run().map(|()| ExitCode::SUCCESS),
        Command::Latency(latency) => latency.run().map(|()| ExitCode::SUCCESS),
        Command::Record(record) => record.run().map(|()| ExitCode::SUCCESS),
        Command::Replay(replay) => replay.run().map(|()| ExitCode::SUCCESS),
        Command::Simulate(simulate) => simulate.run().map(|()| ExitCode::SUCCESS),
        Command::Doctor(doctor) => doctor.run(),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "hypersockets", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        // Whoever read our output has seen enough.
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        status::say(&format!("error: {error}"));
        ExitCode::FAILURE
    })
}

const EXIT_CODES: &str =
    "Exit codes: 0 all well, also after Ctrl-C; 1 it failed, and says why; 2 the arguments are wrong.";
