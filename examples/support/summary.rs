//! The closing account: what came in, what became of it, and whether anything is missing.
#![allow(dead_code)] // a test asks for more than the example does

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use hypersockets::{Latency, Metrics, ShutdownReport};

use super::board::{Board, View, lexemes};
use super::hyperliquid::{Coin, Level};
use super::source::Source;

/// What the venue said about our requests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Replies {
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    /// Messages that concern no coin of ours.
    pub(crate) other: u64,
}

/// Everything that is told at the end. The default is that of a run that ended before it began.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    received: u64,
    /// By route, in the order of registration: handled messages.
    routes: Vec<(String, u64)>,
    handled: u64,
    skipped: u64,
    parse_errors: u64,
    handler_errors: u64,
    reconnects: u64,
    replies: Replies,
    coins: Vec<CoinAccount>,
    /// What the venue had written, where that is known.
    sent: Option<u64>,
    /// Received, and in none of the accounts above.
    lost_inside: u64,
    /// Accounted for, and never received: something was handled twice.
    surplus_inside: u64,
    /// p50, p99, p99.9 and the largest.
    latency_ns: [u64; 4],
    measured: u64,
    shutdown: Duration,
}

#[derive(Debug)]
struct CoinAccount {
    coin: Coin,
    view: View,
    books_sent: Option<u64>,
}

impl Summary {
    /// Adds up a run that is over: the handlers have returned and the venue has closed.
    pub(crate) fn new(
        report: &ShutdownReport,
        latency: &Latency,
        board: &Board,
        replies: Replies,
        source: &Source,
    ) -> Self {
        let metrics = &report.metrics;
        let accounted = accounted(metrics);
        let account = |coin: Coin, view| CoinAccount { coin, view, books_sent: source.books_sent(coin) };
        Self {
            received: metrics.messages_received,
            routes: metrics.routes.iter().map(|route| (route.route.clone(), route.handled)).collect(),
            handled: metrics.messages_handled,
            skipped: metrics.skipped,
            parse_errors: metrics.parse_errors + metrics.parse_panics,
            handler_errors: metrics.handler_errors + metrics.handler_panics,
            reconnects: metrics.reconnect_count,
            replies,
            coins: board.slots().iter().map(|(coin, slot)| account(*coin, slot.view())).collect(),
            sent: source.sent(),
            lost_inside: metrics.messages_received.saturating_sub(accounted),
            surplus_inside: accounted.saturating_sub(metrics.messages_received),
            latency_ns: [0.5, 0.99, 0.999, 1.0].map(|quantile| latency.quantile_ns(quantile)),
            measured: latency.count(),
            shutdown: report.took,
        }
    }

    /// Success only where every message was handled once, and in order.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Each coin with its best bid and ask.
    pub(crate) fn tops(&self) -> impl Iterator<Item = (Coin, [Option<Level>; 2])> {
        self.coins.iter().map(|account| (account.coin, [account.view.bid, account.view.ask]))
    }

    fn out_of_order(&self) -> u64 {
        self.coins.iter().map(|account| account.view.out_of_order).sum()
    }

    /// Lost on the way to us and within the client.
    fn lost(&self) -> u64 {
        self.sent.map_or(0, |sent| sent.saturating_sub(self.received)) + self.lost_inside
    }

    fn surplus(&self) -> u64 {
        self.sent.map_or(0, |sent| self.received.saturating_sub(sent)) + self.surplus_inside
    }

    /// What must not be, one line each.
    fn faults(&self) -> Vec<String> {
        let counts = [
            (self.lost(), "lost"),
            (self.surplus(), "handled more than once"),
            (self.out_of_order(), "out of order"),
            (self.parse_errors, "not understood"),
            (self.handler_errors, "failed in a handler"),
        ];
        let mut faults: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} message(s) {what}"))
            .collect();
        for CoinAccount { coin, view, books_sent } in &self.coins {
            if let Some(sent) = books_sent
                && *sent != view.books
            {
                faults.push(format!("{coin}: the venue sent {sent} books, its handler got {}", view.books));
            }
        }
        faults
    }

    fn write_routes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<12} {:>10}  of these {:>9} {:>9} {:>9}", "route", "handled", "books", "quotes", "trades")?;
        for (index, (route, handled)) in self.routes.iter().enumerate() {
            // The coins' routes were registered first.
            let Some(CoinAccount { view, .. }) = self.coins.get(index) else {
                writeln!(f, "{route:<12} {handled:>10}")?;
                continue;
            };
            let View { books, quotes, trades, .. } = view;
            writeln!(f, "{route:<12} {handled:>10}           {books:>9} {quotes:>9} {trades:>9}")?;
        }
        writeln!(f, "{:<12} {:>10}", "together", self.handled)
    }

    fn write_books(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<12} {:>12} {:>12} {:>12} {:>12} {:>9}",
            "last book", "bid", "bid size", "ask", "ask size", "levels"
        )?;
        for CoinAccount { coin, view, .. } in &self.coins {
            let [bid, bid_size] = lexemes(view.bid);
            let [ask, ask_size] = lexemes(view.ask);
            let levels = format!("{}/{}", view.depth.0, view.depth.1);
            writeln!(f, "{coin:<12} {bid:>12} {bid_size:>12} {ask:>12} {ask_size:>12} {levels:>9}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_routes(f)?;
        self.write_books(f)?;
        writeln!(f)?;
        let Replies { acknowledged, refused, other } = self.replies;
        let on_the_wire = self.sent.map_or(String::new(), |sent| format!(" of {sent} that the venue wrote"));
        writeln!(f, "messages received: {}{on_the_wire}", self.received)?;
        writeln!(f, "messages handled: {}, skipped: {}", self.handled, self.skipped)?;
        writeln!(f, "subscriptions acknowledged: {acknowledged}, errors from the venue: {refused}, other: {other}")?;
        writeln!(f, "parse errors: {}", self.parse_errors)?;
        writeln!(f, "handler errors: {}", self.handler_errors)?;
        writeln!(f, "out of order: {}", self.out_of_order())?;
        writeln!(f, "lost: {}", self.lost())?;
        writeln!(f, "reconnects: {}", self.reconnects)?;
        let [p50, p99, p999, max] = self.latency_ns.map(|ns| ns as f64 / 1000.0);
        writeln!(
            f,
            "read to handled: p50 {p50:.1} µs, p99 {p99:.1} µs, p99.9 {p999:.1} µs, max {max:.1} µs ({} measured)",
            self.measured
        )?;
        writeln!(f, "shutdown took {:.1} ms", self.shutdown.as_secs_f64() * 1000.0)?;
        self.faults().iter().try_for_each(|fault| writeln!(f, "FAULT: {fault}"))
    }
}

/// Received messages of which it is known what became of them. The router makes one message of each.
fn accounted(metrics: &Metrics) -> u64 {
    metrics.messages_handled
        + metrics.skipped
        + metrics.parse_errors
        + metrics.parse_panics
        + metrics.unrouted
        + metrics.passive_pings_answered
        + metrics.auth_messages
}
