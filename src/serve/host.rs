//! Which name the shim is asked by. On loopback it is meant for this machine's programs: a web page whose own name was made
//! to lead here (DNS rebinding) must not read what upstreams with a password give, nor what this machine has.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

const REFUSED: &str = "narswarm: on loopback the agent answers to an IP address or localhost only, not to another name. \
    Name the address in nix.conf: substituters = http://127.0.0.1:8642, or what [shim] listen says.\n";

/// Answers 403 whoever asks by a name that anybody may have made up.
pub async fn refuse_other_names(request: Request, next: Next) -> Response {
    // HTTP/1.0 may leave it out; a browser never does.
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match hosts.all(is_of_this_machine) {
        true => next.run(request).await,
        false => (StatusCode::FORBIDDEN, REFUSED).into_response(),
    }
}

/// An IP literal, which nobody can lead elsewhere, or `localhost`; with or without a port.
fn is_of_this_machine(host: &HeaderValue) -> bool {
    let authority = host.to_str().ok().and_then(|host| host.parse().ok());
    authority.is_some_and(|authority: Authority| {
        let host = authority.host();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_only() {
        #[track_caller]
        fn case(host: &str, expected: bool) {
            let host = HeaderValue::from_str(host).unwrap();
            assert_eq!(is_of_this_machine(&host), expected, "{host:?}");
        }
        case("127.0.0.1:8642", true);
        case("127.0.0.1", true);
        case("localhost:8642", true);
        case("LocalHost", true);
        case("[::1]:8642", true);
        case("[::1]", true);
        case("192.0.2.7:80", true);
        case("evil.example", false);
        case("evil.example:8642", false);
        case("127.0.0.1.evil.example:8642", false);
        case("localhost.evil.example", false);
        case("127.0.0.1@evil.example", false);
        case("1.evil.example", false);
        case("", false);
    }
}
