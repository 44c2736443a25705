//! How a run of an order book example ended: the closing account, the books, what is the matter with them, and an exit code that says so.

use std::process::ExitCode;

use hypersockets::{DisconnectReason, HyperSocketError, Result, ShutdownReport};

use super::book_board::{BookAccount, BookBoard};
use super::happenings::Happenings;

/// What there is to tell at the end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) books: Vec<BookAccount>,
    /// What must not be, one line each.
    pub(crate) faults: Vec<String>,
}

impl Ended {
    /// Says what came in and what became of it; the client is shut down.
    pub(crate) fn new(report: &ShutdownReport, board: &BookBoard, mut happenings: Happenings) -> Self {
        let metrics = &report.metrics;
        let not_understood = metrics.parse_errors + metrics.parse_panics;
        let not_handled = metrics.handler_errors + metrics.handler_panics;
        println!("--");
        print!("received {}, handled {}", metrics.messages_received, metrics.messages_handled);
        if metrics.passive_pings_answered > 0 {
            print!(", the venue's pings answered {}", metrics.passive_pings_answered);
        }
        print!(", sent {}; not understood {not_understood}, failed {not_handled}", metrics.messages_sent);
        print!(", unhandled {}; {} reconnects; ", report.unhandled, metrics.reconnect_count);
        println!("closed in {:?}: {}", report.took, report.reason);

        happenings.tell();
        let mut faults = happenings.into_refused();
        let counts = [
            (not_understood, "not understood"),
            (not_handled, "failed in a handler"),
            (report.unhandled, "not handled any more"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        faults.extend(counts.map(|(count, what)| format!("{count} message(s) {what}")));
        let books = board.accounts();
        let not_whole = books.iter().filter(|book| !book.in_sync);
        faults.extend(not_whole.map(|book| format!("{} is not in sync", book.name)));
        Self { books, faults }
    }
}

/// Prints the books, and on stderr whatever is the matter; then it is no success.
pub(crate) fn tell(ended: Result<Ended>) -> ExitCode {
    match ended {
        Ok(Ended { books, faults }) => {
            books.iter().for_each(|book| println!("{book}"));
            faults.iter().for_each(|fault| eprintln!("FAULT: {fault}"));
            if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        // Ctrl-C came while the client was still connecting: there was nothing to stop yet.
        Err(HyperSocketError::Closed(DisconnectReason::Shutdown)) => {
            println!("ended before it was connected");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
