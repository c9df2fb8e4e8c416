use mainline::Dht as MainlineDht;

use crate::manifest::ChannelName;
use crate::nix::SecretKey;

use super::*;

/// Notes, at another node, what it is given to keep. With the first question of all `share` becomes `then`.
#[derive(Clone)]
struct Witness {
    policy: Arc<SharePolicy>,
    then: Share,
    given: Arc<Mutex<Vec<&'static str>>>,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Witness")
    }
}

impl RequestFilter for Witness {
    fn allow_request(&self, request: &RequestSpecific, _: SocketAddrV4) -> bool {
        // The kinds of questions have no public names.
        let request = format!("{:?}", request.request_type);
        if request.starts_with("GetValue") {
            self.policy.set(self.then, vec![]);
        }
        for kind in ["PutMutable", "AnnouncePeer"] {
            if request.starts_with("Put") && request.contains(kind) {
                self.given.lock().unwrap().push(kind);
            }
        }
        true
    }
}

/// What the other node of a DHT of two is given to keep in one round, in the middle of which `share` becomes `then`.
async fn given_when_share_becomes(then: Share) -> Vec<&'static str> {
    let place = tempfile::tempdir().unwrap();
    let channel: ChannelName = "example".parse().unwrap();
    let key = SecretKey::generate("example-1").unwrap();
    let pointers = Pointers::new(place.path().join("pointers")).unwrap();
    pointers.follow(&channel, &key.public().bytes(), 0);
    let manifest = InfoHash::of(b"manifest");
    pointers.offer(Pointer::sign(&channel, 1, manifest, &key).unwrap());
    let topic = channel.topic(&key.public().bytes());
    pointers.arrived(&topic, 1, manifest);

    let policy = Arc::new(SharePolicy::new(Share::Lan, vec![]));
    let witness = Witness {
        policy: policy.clone(),
        then,
        given: Arc::default(),
    };
    let mut other = MainlineDht::builder();
    let settings = ServerSettings {
        filter: Box::new(witness.clone()),
        ..ServerSettings::default()
    };
    let other = other
        .bind_address(Ipv4Addr::LOCALHOST)
        .port(0)
        .no_bootstrap()
        .server_mode()
        .server_settings(settings);
    let other = other.build().unwrap().as_async();
    let bootstrap = other.info().await.local_addr();
    let bootstrap = SocketAddrV4::new(Ipv4Addr::LOCALHOST, bootstrap.port());

    let mut dht = Dht::new(DhtParts {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        configured: vec![bootstrap.into()],
        from_headers: Arc::default(),
        kept: place.path().join("dht"),
        policy,
        pointers,
        peers: Arc::default(),
        view: watch::Sender::default(),
    });
    let node = dht.start(&[bootstrap]).await.unwrap();
    dht.round(&node).await;
    let given = witness.given.lock().unwrap();
    given.clone()
}

#[tokio::test]
async fn nothing_is_put_or_announced_once_share_is_off() {
    let given = given_when_share_becomes(Share::Lan).await;
    assert_eq!(given, ["PutMutable", "AnnouncePeer"]);
    let given = given_when_share_becomes(Share::Off).await;
    assert!(given.is_empty(), "{given:?}");
}

/// Nobody answers; then a header names somebody. The port is the one that the node before has only just left.
#[tokio::test]
async fn it_begins_anew_at_nodes_that_are_named_later() {
    let place = tempfile::tempdir().unwrap();
    let mut other = MainlineDht::builder();
    let other = other.bind_address(Ipv4Addr::LOCALHOST).port(0);
    let other = other.no_bootstrap().server_mode().build().unwrap();
    let other = other.as_async();
    let named = (Ipv4Addr::LOCALHOST, other.info().await.local_addr().port());
    let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let free = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let from_headers: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
    let (view, mut seen) = watch::channel(DhtView::default());
    let dht = Dht::new(DhtParts {
        listen,
        configured: vec![silent.local_addr().unwrap()],
        from_headers: from_headers.clone(),
        kept: place.path().join("dht"),
        policy: Arc::new(SharePolicy::new(Share::Lan, vec![])),
        pointers: Pointers::new(place.path().join("pointers")).unwrap(),
        peers: Arc::default(),
        view,
    });
    let stop = CancellationToken::new();
    let running = tokio::spawn(dht.run(stop.clone()));
    seen.changed().await.unwrap();
    assert_eq!(seen.borrow().nodes, 0);
    from_headers.lock().unwrap().push(named.into());
    let met = seen.wait_for(|view| view.nodes > 0);
    timeout(Duration::from_secs(60), met)
        .await
        .unwrap()
        .unwrap();
    stop.cancel();
    running.await.unwrap();
}

#[test]
fn rests_grow_longer() {
    let rest = |vain: u32| rest_after(vain).as_secs();
    let rests = [6, 12, 18, 24, 30, 36, 600].map(rest);
    assert_eq!(rests, [30, 60, 120, 240, 480, 600, 600]);
}
