//! The bytes of REST calls on the wire, and answers that no honest service gives, from a tiny server.

use std::sync::{Arc, Mutex};

use obsync_client::{Client, ClientError, Session, SessionTarget, Token};
use obsync_protocol::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::bed::{Bed, limited, options};

/// Answers every request with `answer` and records the request.
async fn raw_server(answer: &str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (answer, kept) = (answer.to_owned(), Arc::clone(&requests));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 16 * 1024];
            let mut length = 0;
            while !complete(&request[..length]) {
                match stream.read(&mut request[length..]).await {
                    Ok(count) if count > 0 => length += count,
                    _ => break,
                }
            }
            kept.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, requests)
}

/// True if a request has arrived with its whole body.
fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_sign_in_is_announced_by_options_and_comes_from_the_web_site() {
    let (url, requests) = raw_server(&ok(r#"{"token":"t","name":"n","email":"e"}"#)).await;
    let client = Client::new(options(&url)).unwrap();
    limited(client.sign_in("me@example.com", &"pw".into(), None)).await.unwrap();
    let requests = requests.lock().unwrap().clone();
    let [announcement, sign_in] = requests.as_slice() else { panic!("{requests:?}") };
    assert!(announcement.starts_with("OPTIONS /user/signin HTTP/1.1\r\n"), "{announcement}");
    assert!(!announcement.contains("pw"), "{announcement}");
    assert!(sign_in.starts_with("POST /user/signin HTTP/1.1\r\n"), "{sign_in}");
    assert!(sign_in.contains(r#"{"email":"me@example.com","password":"pw","mfa":""}"#), "{sign_in}");
    for request in [announcement, sign_in] {
        assert!(request.to_lowercase().contains("origin: https://obsidian.md\r\n"), "{request}");
        assert!(request.contains(concat!("obsync/", env!("CARGO_PKG_VERSION"))), "{request}");
    }
}

#[tokio::test]
async fn a_redirect_does_not_carry_the_token_elsewhere() {
    let (elsewhere, stolen) = raw_server(&ok("{}")).await;
    for status in ["301 Moved Permanently", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nLocation: {elsewhere}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let (url, _) = raw_server(&answer).await;
        let client = Client::new(options(&url)).unwrap();
        let error = limited(client.vaults(&Token::new("the token"))).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::NotTheService { status: 301 | 307 | 308, redirect: Some(to), .. } if to == "127.0.0.1"),
            "{error:?}"
        );
    }
    assert!(stolen.lock().unwrap().is_empty());
}

fn page(status: &str, kind: &str) -> String {
    let body = "\r\n <!DOCTYPE html><html><body>Please sign in to the hotel's network</body></html>";
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_web_page_in_place_of_the_service_is_called_that_and_not_asked_for_again() {
    let cases = [
        page("200 OK", "text/html; charset=utf-8"),
        page("200 OK", "application/json"),
        page("403 Forbidden", "text/html"),
        page("404 Not Found", "TEXT/HTML"),
        page("511 Network Authentication Required", "text/html"),
        "HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ];
    for answer in cases {
        let (url, requests) = raw_server(&answer).await;
        let client = Client::new(options(&url)).unwrap();
        let error = limited(client.vaults(&Token::new("the token"))).await.unwrap_err();
        assert!(matches!(error, ClientError::NotTheService { .. }), "{error:?}");
        assert!(!error.is_retryable() && error.to_string().contains("127.0.0.1"), "{error}");
        assert_eq!(requests.lock().unwrap().len(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_page_about_an_overloaded_server_is_its_status_and_passes() {
    let (url, requests) = raw_server(&page("503 Service Unavailable", "text/html")).await;
    let client = Client::new(options(&url)).unwrap();
    let error = limited(client.vaults(&Token::new("the token"))).await.unwrap_err();
    assert!(matches!(error, ClientError::Http { status: 503 }), "{error:?}");
    assert_eq!(requests.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_web_page_in_place_of_a_session_is_called_that() {
    let bed = Bed::start().await;
    for answer in [page("200 OK", "text/html"), page("403 Forbidden", "text/html")] {
        let (url, requests) = raw_server(&answer).await;
        let target = SessionTarget { host: url.replace("http://", ""), ..bed.target() };
        let error = limited(Session::open(&bed.client, &target, 0, true)).await.unwrap_err();
        assert!(matches!(error, ClientError::NotTheService { .. }), "{error:?}");
        assert_eq!(requests.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_announces_or_sends_too_much_is_not_taken_into_memory() {
    let announced = "HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n{".to_owned();
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(0x10_0000));
    let sent = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(9));
    for answer in [announced, sent] {
        let (url, _) = raw_server(&answer).await;
        let client = Client::new(options(&url)).unwrap();
        let error = limited(client.vaults(&Token::new("the token"))).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Protocol { reason } if reason.contains("longer than")),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_with_a_head_beyond_its_limit_is_refused() {
    // The HTTP library compares between reads, so a head slightly above the limit passes.
    let cookie = "x".repeat(4 * limits::ANSWER_HEAD);
    let head = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\nContent-Length: 2\r\n\r\n{{}}");
    let (url, _) = raw_server(&head).await;
    let client = Client::new(options(&url)).unwrap();
    let error = limited(client.vaults(&Token::new("the token"))).await.unwrap_err();
    assert!(matches!(error, ClientError::ConnectionLost { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_lost_connection() {
    let (url, requests) = raw_server("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"vaults\":").await;
    let client = Client::new(options(&url)).unwrap();
    let error = limited(client.vaults(&Token::new("the token"))).await.unwrap_err();
    assert!(matches!(error, ClientError::ConnectionLost { .. }), "{error:?}");
    assert_eq!(requests.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn what_the_service_says_reaches_a_terminal_without_control_characters() {
    let (url, _) = raw_server(&ok(r#"{"error":"No \u001b[31mroom\u0007 left"}"#)).await;
    let client = Client::new(options(&url)).unwrap();
    let error = limited(client.vaults(&Token::new("the token"))).await.unwrap_err().to_string();
    assert!(error.starts_with("the service refused: No "), "{error}");
    assert!(!error.chars().any(char::is_control), "{error:?}");
}
