//! Connects to the first of several addresses that answers (RFC 8305, "Happy Eyeballs").
//!
//! The families alternate, the resolver's first choice first. An attempt begins 250 ms after the previous
//! one, or at once when that one failed; the first connection wins and ends the others. So an address that
//! drops packets costs a quarter of a second, whichever its family.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

/// The pause between attempts ("Connection Attempt Delay", RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// More addresses than this are not tried: a resolver's answer is not trusted.
const MOST: usize = 16;

/// Connects with `connect` to the first address that succeeds.
///
/// # Errors
///
/// The first attempt's error when all of them failed.
pub(crate) async fn race<T, F>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = interleaved(addresses).into_iter();
    let Some(first) = waiting.next() else {
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no addresses"));
    };
    let mut attempts = FuturesUnordered::new();
    attempts.push(connect(first));
    let mut first_error = None;
    loop {
        let ended = tokio::select! {
            biased;
            ended = attempts.next() => ended,
            () = sleep(STAGGER), if waiting.len() > 0 => {
                attempts.extend(waiting.next().map(&connect));
                continue;
            }
        };
        match (ended, waiting.next()) {
            (Some(Ok(connection)), _) => return Ok(connection),
            (Some(Err(error)), next) => {
                first_error.get_or_insert(error);
                attempts.extend(next.map(&connect));
            }
            (None, Some(next)) => attempts.push(connect(next)),
            (None, None) => break,
        }
    }
    Err(first_error.unwrap_or_else(|| io::ErrorKind::NotConnected.into()))
}

/// The addresses with alternating families, each once.
fn interleaved(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut unique: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if unique.len() < MOST && !unique.contains(&address) {
            unique.push(address);
        }
    }
    let preferred = unique.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = unique.into_iter().partition(|a| a.is_ipv6() == preferred);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut ordered = Vec::new();
    loop {
        match (one.next(), other.next()) {
            (None, None) => return ordered,
            (first, second) => ordered.extend(first.into_iter().chain(second)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Simulates connecting by port: 1 drops packets, 2 refuses, 3 answers.
    async fn by_port(address: SocketAddr) -> io::Result<SocketAddr> {
        match address.port() {
            1 => std::future::pending().await,
            2 => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => Ok(address),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_swallow_packets_cost_a_quarter_of_a_second_each_in_one_family() {
        let begun = Instant::now();
        let all = addresses(&["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:3"]);
        assert_eq!(race(all.clone(), by_port).await.unwrap(), all[2]);
        assert_eq!(begun.elapsed().as_millis(), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_costs_nothing() {
        let begun = Instant::now();
        let all = addresses(&["192.0.2.1:2", "[2001:db8::1]:2", "192.0.2.3:3"]);
        assert_eq!(race(all.clone(), by_port).await.unwrap(), all[2]);
        assert_eq!(begun.elapsed().as_millis(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_when_nobody_answers() {
        let error = race(addresses(&["192.0.2.1:2", "192.0.2.2:2"]), by_port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(race(Vec::new(), by_port).await.is_err());
    }

    #[test]
    fn the_families_take_turns_and_each_address_is_tried_once() {
        let all = addresses(&["[::1]:1", "[::1]:1", "[::2]:1", "127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"]);
        let expected = addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "127.0.0.3:1"]);
        assert_eq!(interleaved(all), expected);
    }
}
