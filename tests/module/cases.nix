# Configurations as people write them, and as they should not.
{ lib, source }:

let
  module = file: settings: { imports = [ (source + "/${file}") settings ]; };
  agent = settings: module "default.nix" { services.narswarm.agent = { enable = true; } // settings; };
  seedbox = settings: module "default.nix" { services.narswarm.seedbox = { enable = true; } // settings; };
  publisher = settings: module "default.nix" { services.narswarm.publisher = { enable = true; } // settings; };

  link = "magnet:?xs=urn:btpk:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a&s=74657374";
  otherLink = "magnet:?xs=urn:btpk:3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c&s=74657374";
  key = "test-1:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
  coveredKey = "covered-1:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";
  channel = { name = "test"; inherit key; manifest = "https://example.org/channel"; };

  # What a running program does not take over, a key each; all else as in `agent`.
  restarted = lib.mapAttrs'
    (key: settings: lib.nameValuePair "agentRestarted-${key}" (agent { channels = [ channel ]; share = "public"; uploadLimit = "2MB/s"; inherit settings; }))
    {
      listen.swarm.listen = "[::]:7000";
      dht.swarm.dht = false;
      bootstrap.swarm.bootstrap = [ "192.0.2.9:6881" ];
      lsd.swarm.lsd = false;
      upnp.swarm.upnp = true;
      neighbours.swarm.neighbours = 5;
      recreate_threads.swarm.recreate_threads = 3;
      recreate_nice.swarm.recreate_nice = 7;
      cache.cache.size = "1GB";
      store.store.uri = "local?root=/elsewhere";
    };
in
{
  evaluated = restarted // {
    # Imported, but not turned on: nothing may change.
    nothing = module "default.nix" { };

    # The short forms of the README.
    agent = agent { channels = [ channel ]; share = "public"; uploadLimit = "2MB/s"; };
    agentByLink = agent { channels = [ link { link = otherLink; keepReleases = 5; } ]; };
    seedbox = seedbox { channels = [ channel ]; location = "/mnt/nixpkgsDisk"; amount = "20%"; };
    publisher = publisher {
      channel = "test";
      closure = [ "/nix/var/nix/profiles/system" ];
      secretKeyFile = "/run/secrets/channel.sec";
    };

    # Each file alone.
    agentAlone = module "agent.nix" { services.narswarm.agent = { enable = true; channels = [ channel ]; }; };
    seedboxAlone = module "seedbox.nix" { services.narswarm.seedbox = { enable = true; channels = [ channel ]; location = "/mnt/disk"; }; };
    publisherAlone = module "publisher.nix" {
      services.narswarm.publisher = { enable = true; channel = "test"; storePaths = "/srv/store-paths"; secretKeyFile = "/run/secrets/channel.sec"; };
    };
    all = {
      imports = [
        (agent { channels = [ channel ]; openFirewall = true; })
        (seedbox { channels = [ channel ]; location = "/mnt/nixpkgsDisk"; amount = "500GB"; openFirewall = true; })
        (publisher { channel = "test"; closure = [ "/nix/var/nix/profiles/system" ]; secretKeyFile = "/run/secrets/channel.sec"; })
      ];
    };

    # What a running program takes over; all else as in `agent`.
    agentReloaded = agent {
      channels = [ link { link = otherLink; keepReleases = 5; } ];
      share = "off";
      uploadLimit = "3MB/s";
      upstreams = [ ];
      settings = {
        netrc = "/etc/nix/other-netrc";
        trusted_keys = [ coveredKey ];
        shim.expressions = true;
        swarm = {
          connections = 100;
          networks = [ "10.1.0.0/16" ];
          peer_upload_limit = "1MB/s";
          peers = [ "192.0.2.7:6881" ];
          schedule = [{ from = "22:00"; to = "07:00"; upload_limit = "20MB/s"; }];
          trackers = [ "udp://192.0.2.8:6969" ];
          upload_slots = 4;
        };
      };
    };

    # settings, leaf by leaf.
    leaves = agent {
      channels = [ channel ];
      share = "public";
      settings = {
        cache.size = "20GB";
        shim.listen = "127.0.0.1:9000";
        swarm = { listen = "0.0.0.0:7000"; upload_limit = "9MB/s"; dht = false; peers = [ "192.0.2.7:6881" ]; };
      };
      openFirewall = true;
    };
    seedboxOfStore = seedbox {
      channels = [ channel ];
      settings.hold = { source = "store"; location = "local"; };
    };
    seedboxReadOnly = seedbox { channels = [ channel ]; location = "/srv/payloads"; };
    publisherOfEverything = publisher {
      channel = "my-channel";
      release = "26.11 'beta'";
      secretKeyFile = "/run/secrets/channel.sec";
      narinfoKeyFile = "/run/secrets/cache.sec";
      storePaths = "/srv/store-paths";
      from = "http://127.0.0.1:1";
      out = "/srv/channel";
      payloads = "/srv/payloads";
      files = [ "/srv/nixexprs.tar.xz" ];
      seedboxes = [ "192.0.2.7:6881" "[2001:db8::7]:6881" ];
      trackers = [ "udp://192.0.2.8:6969" ];
      system = "aarch64-linux";
      lifetime = "7d";
      startAt = [ ];
    };

    # nix.conf.
    prepend = agent { channels = [ channel ]; configureSubstituter = "prepend"; };
    keep = agent { channels = [ channel ]; configureSubstituter = "keep"; };
    negativeTtl = agent { channels = [ channel ]; narinfoCacheNegativeTtl = 5; };
    noUpstreams = agent { channels = [ channel ]; upstreams = [ ]; };
    otherCaches = {
      imports = [
        (agent {
          channels = [ channel ];
          upstreams = [
            "https://cache.nixos.org"
            { url = "https://covered.example/"; keys = [ coveredKey ]; timeout = "3s"; resolve = [ "192.0.2.9" ]; }
            { url = "https://untrusted.example"; keys = [ "untrusted-1:/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=" ]; }
          ];
        })
      ];
      nix.settings.substituters = [
        "https://covered.example?priority=10"
        "s3://bucket?region=eu-west-1"
        "ssh://builder"
        "file:///mnt/usb/cache"
        "https://netrc.example"
      ];
      nix.settings.extra-substituters = [ "https://extra.example" ];
      nix.settings.trusted-public-keys = [ coveredKey ];
      nix.extraOptions = "extra-substituters = https://hidden.example";
    };
    netrc = agent { channels = [ channel ]; netrcFile = "/run/secrets/netrc"; };
    forced = {
      imports = [ (agent { channels = [ channel ]; }) ];
      nix.settings.substituters = lib.mkForce [ "ssh://only-this" ];
    };
    everywhere = agent { channels = [ channel ]; settings.shim = { listen = "0.0.0.0:8642"; expressions = true; }; };

    # Refused by the program, when the system is built.
    unknownKey = agent { channels = [ channel ]; settings.swarm.uploadLimit = "2MB/s"; };
    badRate = agent { channels = [ channel ]; uploadLimit = "fast"; };
    badSeedbox = seedbox { channels = [ channel ]; location = "/mnt/disk"; settings.hold.source = "elsewhere"; };
    # Good for an agent.
    agentsSeedbox = seedbox { channels = [ channel ]; location = "/mnt/disk"; settings.cache.size = "20GB"; };

    # Refused, each with its reason.
    noChannel = agent { };
    notALink = agent { channels = [ "magnet:?xt=urn:btih:0000000000000000000000000000000000000000" ]; };
    halfAChannel = agent { channels = [{ name = "test"; }]; };
    bothForms = agent { channels = [ (channel // { inherit link; }) ]; };
    channelsTwice = agent { channels = [ channel ]; settings.channel = [{ name = "other"; inherit key; manifest = "/srv/other"; }]; };
    channelKeyTrusted = {
      imports = [ (agent { channels = [ channel ]; }) ];
      nix.settings.trusted-public-keys = [ "another-name:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" ];
    };
    unfitUpstreams = agent { channels = [ channel ]; upstreams = [ "s3://bucket" "https://me:secret@cache.example" "http://127.0.0.1:8642/" ]; };
    noPort = agent { channels = [ channel ]; openFirewall = true; settings = { shim.listen = "127.0.0.1:0"; swarm.listen = "[::]:0"; }; };
    samePort = {
      imports = [
        (agent { channels = [ channel ]; })
        (seedbox { channels = [ channel ]; location = "/mnt/disk"; settings.swarm.listen = "0.0.0.0:6881"; })
      ];
    };
    netrcInStore = agent { channels = [ channel ]; netrcFile = builtins.toFile "netrc" "machine cache.example password secret"; };
    emptySeedbox = seedbox { };
    seedboxAtHome = seedbox { channels = [ channel ]; location = "/home/me/disk"; amount = "5GB"; };
    secretInStore = publisher {
      channel = "test";
      closure = [ "/nix/var/nix/profiles/system" ];
      secretKeyFile = "/nix/store/00000000000000000000000000000000-source/channel.sec";
      narinfoKeyFile = builtins.toFile "cache.sec" "secret";
    };
    nothingToPublish = publisher { channel = "test"; secretKeyFile = "/run/secrets/channel.sec"; out = "relative"; };
  };

  mistyped = {
    share = agent { share = "wan"; };
    configureSubstituter = agent { configureSubstituter = "first"; };
    amount = seedbox { amount = "a lot"; };
    listen = agent { settings.swarm.listen = "6881"; };
    channelOption = agent { channels = [{ nmae = "test"; }]; };
    channelName = publisher { channel = "my channel"; };
    settingsOfPublisher = publisher { settings = { }; };
  };
}
