"""libtorrent_client.py LINK DIRECTORY PORT: downloads a magnet link or a .torrent and seeds it until it is killed."""

import sys
import time

import libtorrent

link, directory, port = sys.argv[1:]
session = libtorrent.session(
    {
        "listen_interfaces": "0.0.0.0:" + port,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "alert_mask": libtorrent.alert.category_t.all_categories,
    }
)
if link.startswith("magnet:"):
    torrent = libtorrent.parse_magnet_uri(link)
else:
    torrent = libtorrent.load_torrent_file(link)
torrent.save_path = directory
session.add_torrent(torrent)
while True:
    for alert in session.pop_alerts():
        print(alert.message(), flush=True)
    time.sleep(0.1)
