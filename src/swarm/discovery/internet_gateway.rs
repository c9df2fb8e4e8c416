//! A router that forwards ports when it is asked (UPnP Internet Gateway Device 1): its description, and the requests.
//!
//! ```text
//! <service>                      of the description, at whatever depth
//!   <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
//!   <controlURL>/ctl/IPConn</controlURL>
//! </service>
//! ```
//! Anybody on the LAN may call itself one. So all of it stays with the machine that answered: whatever it says, nobody
//! else is asked anything. The description is looked through as text, a service at a time: it may nest as deep as it likes.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use librqbit_upnp::{SSDP_SEARCH_WAN_IPCONNECTION_ST as WAN_CONNECTION, UpnpDiscoverResponse};
use reqwest::{Client, Response, StatusCode};
use thiserror::Error;
use url::{Host, Url};

use super::plain_http::{BodyError, read_body};
use crate::swarm::share::SharePolicy;

/// A router is near, and its answers are small.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A router with several lines has so many connections.
const MAX_CONNECTIONS: usize = 4;
/// What is shown of a router's own words.
const MAX_SHOWN: usize = 40;

#[derive(Debug, Error)]
pub enum GatewayError {
    #[error("it was not reached: {0:?}")]
    Request(reqwest::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it answered {status}, UPnP error {code:?}")]
    Upnp { status: StatusCode, code: String },
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("its description has no WANIPConnection:1 of its own")]
    NoConnection,
    #[error("no way to it: {0}")]
    NoWay(#[from] std::io::Error),
}

/// One that answered the search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternetGateway {
    pub address: IpAddr,
    /// Of its description.
    location: Url,
}

impl InternetGateway {
    /// Whoever answers from the LAN and names itself, by a literal address.
    pub fn of(answer: &UpnpDiscoverResponse, policy: &SharePolicy) -> Option<Self> {
        let address = answer.received_from.ip().to_canonical();
        let location = &answer.location;
        let named = match location.host()? {
            Host::Ipv4(named) => IpAddr::V4(named),
            Host::Ipv6(named) => IpAddr::V6(named).to_canonical(),
            Host::Domain(_) => return None,
        };
        let good = location.scheme() == "http" && named == address && policy.is_lan(address);
        good.then(|| Self {
            address,
            location: location.clone(),
        })
    }

    /// Has the TCP port `port` forwarded to here, on the first of its connections that does.
    pub async fn map(
        &self,
        client: &Client,
        port: u16,
        lease: Duration,
    ) -> Result<PortForward, GatewayError> {
        let description = client.get(self.location.clone()).send().await;
        let description = ok(description.map_err(GatewayError::Request)?).await?;
        let here = self.our_address()?;
        let mut refusal = GatewayError::NoConnection;
        for control in control_urls(&description, &self.location) {
            let forward = PortForward { control, port };
            match forward.request(client, here, lease).await {
                Ok(()) => return Ok(forward),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Ours, as this router sees it.
    fn our_address(&self) -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // Sends nothing.
        socket.connect((self.address, 9))?;
        Ok(socket.local_addr()?.ip())
    }
}

/// A port that a router forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForward {
    control: Url,
    port: u16,
}

impl PortForward {
    async fn request(
        &self,
        client: &Client,
        to: IpAddr,
        lease: Duration,
    ) -> Result<(), GatewayError> {
        let (port, lease) = (self.port, lease.as_secs());
        let arguments = format!(
            "<NewInternalPort>{port}</NewInternalPort><NewInternalClient>{to}</NewInternalClient><NewEnabled>1</NewEnabled>\
             <NewPortMappingDescription>narswarm</NewPortMappingDescription><NewLeaseDuration>{lease}</NewLeaseDuration>"
        );
        self.invoke(client, "AddPortMapping", &arguments).await
    }

    /// The router need not wait for the end of the lease.
    pub async fn remove(&self, client: &Client) -> Result<(), GatewayError> {
        self.invoke(client, "DeletePortMapping", "").await
    }

    /// `more` follows what says which mapping is meant.
    async fn invoke(&self, client: &Client, action: &str, more: &str) -> Result<(), GatewayError> {
        let port = self.port;
        let envelope = format!(
            "<?xml version=\"1.0\"?>\r\n\
             <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{WAN_CONNECTION}\"><NewRemoteHost></NewRemoteHost>\
             <NewExternalPort>{port}</NewExternalPort><NewProtocol>TCP</NewProtocol>{more}</u:{action}>\
             </s:Body></s:Envelope>\r\n"
        );
        let request = client
            .post(self.control.clone())
            .header("Content-Type", "text/xml; charset=\"utf-8\"")
            .header("SOAPAction", format!("\"{WAN_CONNECTION}#{action}\""))
            .body(envelope);
        let response = request.send().await.map_err(GatewayError::Request)?;
        ok(response).await.map(|_| ())
    }
}

/// The text of a good answer; a bad one says why.
async fn ok(response: Response) -> Result<String, GatewayError> {
    let status = response.status();
    let text = read_body(response).await?;
    let text = String::from_utf8_lossy(&text).into_owned();
    if status.is_success() {
        return Ok(text);
    }
    Err(match element(&text, "errorCode") {
        Some(code) => GatewayError::Upnp {
            status,
            code: code.chars().take(MAX_SHOWN).collect(),
        },
        None => GatewayError::Status(status),
    })
}

/// Where the connections of a description are controlled: only what is on the same host and port.
fn control_urls(description: &str, location: &Url) -> Vec<Url> {
    let services = description.split("<service>").skip(1);
    let services = services.filter_map(|rest| rest.split_once("</service>"));
    let mut urls = Vec::new();
    for (service, _) in services {
        if element(service, "serviceType") != Some(WAN_CONNECTION) {
            continue;
        }
        let url = element(service, "controlURL").map(|url| url.replace("&amp;", "&"));
        let url = url.and_then(|url| location.join(&url).ok());
        urls.extend(url.filter(|url| url.origin() == location.origin() && !urls.contains(url)));
        if urls.len() == MAX_CONNECTIONS {
            break;
        }
    }
    urls
}

/// What stands in the first element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(content.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::discovery::lab::HttpServer;
    use crate::swarm::discovery::plain_http;
    use crate::swarm::share::Share;

    const LEASE: Duration = Duration::from_secs(600);

    fn service(kind: &str, control: &str) -> String {
        format!(
            "<service>\n <serviceType>urn:schemas-upnp-org:service:{kind}</serviceType>\n\
             <controlURL> {control} </controlURL><SCPDURL>/x.xml</SCPDURL>\n</service>\n"
        )
    }

    fn nested(depth: usize, inner: &str) -> String {
        let device = "<device><deviceList>".repeat(depth);
        let end = "</deviceList></device>".repeat(depth);
        format!(
            "<?xml version=\"1.0\"?><root>{device}<serviceList>{inner}</serviceList>{end}</root>"
        )
    }

    fn answer(from: &str, location: &str) -> UpnpDiscoverResponse {
        UpnpDiscoverResponse {
            received_from: from.parse().unwrap(),
            location: location.parse().unwrap(),
        }
    }

    fn at(server: &HttpServer) -> InternetGateway {
        let policy = SharePolicy::new(Share::Public, vec![]);
        let from = server.address.to_string();
        InternetGateway::of(&answer(&from, &server.url("/desc.xml")), &policy).unwrap()
    }

    #[test]
    fn a_router_of_the_lan_names_itself() {
        let policy = SharePolicy::new(Share::Public, vec!["192.0.2.0/24".parse().unwrap()]);
        let case = |from: &str, location: &str, good: bool| {
            let gateway = InternetGateway::of(&answer(from, location), &policy);
            assert_eq!(gateway.is_some(), good, "{from} {location}");
        };
        case("192.0.2.1:1900", "http://192.0.2.1:5000/desc.xml", true);
        case("192.0.2.1:40000", "http://192.0.2.1/", true);
        case("192.0.2.1:1900", "http://192.0.2.2:5000/desc.xml", false);
        case("192.0.2.1:1900", "http://127.0.0.1:8642/", false);
        case("192.0.2.1:1900", "http://[::1]:8642/", false);
        case("192.0.2.1:1900", "http://router.example/", false);
        case("192.0.2.1:1900", "https://192.0.2.1/", false);
        case("192.0.2.1:1900", "ftp://192.0.2.1/", false);
        case("203.0.113.1:1900", "http://203.0.113.1/", false);
    }

    #[test]
    fn only_its_own_connections_count() {
        let location = "http://192.0.2.1:5000/dir/desc.xml".parse().unwrap();
        let case = |description: &str, expected: &[&str]| {
            let urls = control_urls(description, &location);
            let urls: Vec<&str> = urls.iter().map(Url::as_str).collect();
            assert_eq!(urls, expected, "{:.300}", description);
        };
        let wan = |control: &str| service("WANIPConnection:1", control);
        let first = service("Layer3Forwarding:1", "/ctl/L3F");
        // As routers say it: a device in a device in a device, each with its services.
        let real = nested(1, &(first + &nested(2, &wan("/ctl/IPConn"))));
        case(&real, &["http://192.0.2.1:5000/ctl/IPConn"]);
        case(
            &wan("c?a=1&amp;b=2"),
            &["http://192.0.2.1:5000/dir/c?a=1&b=2"],
        );
        case(
            &wan("http://192.0.2.1:5000/c"),
            &["http://192.0.2.1:5000/c"],
        );
        for foreign in [
            "http://192.0.2.2:5000/c",
            "http://192.0.2.1:8642/c",
            "https://192.0.2.1:5000/c",
            "//127.0.0.1:5000/c",
            "file:///etc/passwd",
        ] {
            case(&wan(foreign), &[]);
        }
        case(&service("WANPPPConnection:1", "/c"), &[]);
        case(&wan("/a").repeat(3), &["http://192.0.2.1:5000/a"]);
        let many: String = (0..100).map(|i| wan(&format!("/{i}"))).collect();
        assert_eq!(control_urls(&many, &location).len(), MAX_CONNECTIONS);
        case(&nested(100_000, &wan("/c")), &["http://192.0.2.1:5000/c"]);
        case(&"<service>".repeat(100_000), &[]);
        case("", &[]);
    }

    #[tokio::test]
    async fn a_port_is_mapped_and_removed() {
        let description = nested(1, &service("WANIPConnection:1", "/ctl"));
        let script = move |_: &str| HttpServer::ok(description.as_bytes());
        let mut server = HttpServer::start(script).await;
        let client = plain_http::client(ANSWER_TIMEOUT).unwrap();
        let forward = at(&server).map(&client, 6881, LEASE).await.unwrap();
        assert!(
            server
                .asked()
                .await
                .starts_with("GET /desc.xml HTTP/1.1\r\n")
        );
        let add = server.asked().await;
        assert!(add.starts_with("POST /ctl HTTP/1.1\r\n"), "{add}");
        for part in [
            "AddPortMapping\"\r\n",
            "<NewExternalPort>6881</NewExternalPort><NewProtocol>TCP</NewProtocol>",
            "<NewInternalClient>127.0.0.1</NewInternalClient>",
            "<NewLeaseDuration>600</NewLeaseDuration>",
        ] {
            assert!(add.contains(part), "{part} is not in {add}");
        }
        forward.remove(&client).await.unwrap();
        let delete = server.asked().await;
        assert!(delete.contains("<u:DeletePortMapping xmlns"), "{delete}");
    }

    #[tokio::test]
    async fn no_router_leads_elsewhere_or_talks_for_ever() {
        let client = plain_http::client(ANSWER_TIMEOUT).unwrap();
        let case = async |answer: Vec<u8>, expected: &str| {
            let server = HttpServer::start(move |_| answer.clone()).await;
            let error = at(&server).map(&client, 6881, LEASE).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        let mut other = HttpServer::start(|_| HttpServer::ok(b"")).await;
        let elsewhere = other.url("/");
        let large = b"x".repeat(1_000_000);
        case(HttpServer::ok(&large), "larger than").await;
        let foreign = service("WANIPConnection:1", &elsewhere);
        case(HttpServer::ok(foreign.as_bytes()), "no WANIPConnection:1").await;
        let redirect =
            format!("HTTP/1.1 302 -\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n");
        case(redirect.into_bytes(), "302").await;
        let refusal = "HTTP/1.1 500 -\r\nConnection: close\r\n\r\n<errorCode>718</errorCode>";
        case(refusal.into(), "UPnP error \"718\"").await;
        assert!(other.was_not_asked(), "led elsewhere");
    }
}
