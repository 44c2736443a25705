//! Where Binance's snapshots come from, by the host that its streams come from: each market has a WebSocket API of its own, and a snapshot
//! of another market never goes with the events.

use hypersockets::{HyperSocketError, Result};

/// The hosts of the venue, and their APIs; for the COIN-M futures no API is known that answers `depth`.
const APIS: [(&str, Option<&str>); 9] = [
    ("stream.binance.com", Some("wss://ws-api.binance.com:443/ws-api/v3")),
    ("data-stream.binance.vision", Some("wss://ws-api.binance.com:443/ws-api/v3")),
    ("stream.testnet.binance.vision", Some("wss://ws-api.testnet.binance.vision/ws-api/v3")),
    ("testnet.binance.vision", Some("wss://ws-api.testnet.binance.vision/ws-api/v3")),
    ("fstream.binance.com", Some("wss://ws-fapi.binance.com/ws-fapi/v1")),
    ("fstream.binancefuture.com", Some("wss://testnet.binancefuture.com/ws-fapi/v1")),
    ("stream.binancefuture.com", Some("wss://testnet.binancefuture.com/ws-fapi/v1")),
    ("dstream.binance.com", None),
    ("dstream.binancefuture.com", None),
];

/// Scheme, host and port of a URL, whichever of the stream's paths it has.
///
/// # Errors
/// It is no WebSocket URL.
pub(crate) fn base_of(url: &str) -> Result<&str> {
    let refuse = || HyperSocketError::InvalidUrl(format!("{url:?}: write ws://HOST:PORT or wss://HOST"));
    let base = url.trim_end_matches('/');
    let base = base.strip_suffix("/ws").or_else(|| base.strip_suffix("/stream")).unwrap_or(base);
    let authority = base.strip_prefix("wss://").or_else(|| base.strip_prefix("ws://")).ok_or_else(refuse)?;
    if authority.is_empty() || authority.contains(['?', '#', ' ']) { Err(refuse()) } else { Ok(base) }
}

/// The API that goes with the streams of `base`: the venue's own for its hosts, and the same host for any other.
///
/// # Errors
/// None is known for the market.
pub(crate) fn api_of(base: &str) -> Result<String> {
    let authority = base.split_once("://").map_or(base, |(_, authority)| authority);
    let host = authority.split([':', '/']).next().unwrap_or_default().to_ascii_lowercase();
    match APIS.iter().find(|(known, _)| *known == host) {
        Some((_, Some(api))) => Ok((*api).to_owned()),
        Some((_, None)) => {
            Err(format!("{host}: no WebSocket API is known for its snapshots; name one with --api").into())
        }
        None => Ok(format!("{base}/ws-api/v3")),
    }
}
