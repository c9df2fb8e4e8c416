# What the roles have in common: the package, and for agent and seedbox channels, the swarm, and the checked file.
{ lib, pkgs }:

let
  inherit (lib) mkOption types;
  toml = pkgs.formats.toml { };
  set = lib.filterAttrs (_: value: value != null);

  orNull = type: description: mkOption {
    type = types.nullOr type;
    default = null;
    inherit description;
  };

  channel = types.submodule {
    options = {
      link = orNull types.str ''
        The channel's lasting link, `magnet:?xs=urn:btpk:...`. It says name and key, and where the newest release is.
        A channel that is given as a string is this.
      '';
      name = orNull types.str "The name, as its publisher chose it.";
      key = orNull types.str "The public key, `name:base64`. It is no Nix key, and never goes into {option}`nix.settings.trusted-public-keys`.";
      manifest = orNull types.str "Where the manifest is: a directory, an URL, or the magnet link of one manifest.";
      keepReleases = orNull types.ints.positive "How many releases stay offered, so that those who lag behind find them. The program's default is 3.";
    };
  };

  upstream = types.submodule {
    options = {
      url = mkOption {
        type = types.str;
        example = "https://nix-community.cachix.org";
        description = "A binary cache, over http or https.";
      };
      keys = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Its public keys. Nix must trust them too, in {option}`nix.settings.trusted-public-keys`.";
      };
      resolve = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Addresses to use when its name cannot be looked up.";
      };
      timeout = orNull types.str "How long a first answer may take. The program's default is `5s`.";
    };
  };
in
rec {
  inherit toml;

  package = lib.mkPackageOption
    # The overlay is not needed.
    { narswarm = pkgs.narswarm or (pkgs.callPackage ./package.nix { }); }
    "narswarm"
    { };

  channels = mkOption {
    type = types.listOf (types.coercedTo types.str (link: { inherit link; }) channel);
    default = [ ];
    example = lib.literalExpression ''
      [
        "magnet:?xs=urn:btpk:..."
        { name = "mychannel"; key = "mychannel-1:..."; manifest = "https://example.org/channel"; }
      ]
    '';
    description = "The channels to follow: links, or name, key and manifest.";
  };

  upstreams = mkOption {
    type = types.listOf (types.coercedTo types.str (url: { inherit url; }) upstream);
    default = [
      {
        url = "https://cache.nixos.org";
        keys = [ "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" ];
      }
    ];
    description = "The binary caches that the agent asks for what no channel lists, or nobody has. A list of your own replaces the default.";
  };

  share = default: mkOption {
    type = types.enum [ "off" "lan" "public" ];
    inherit default;
    description = ''
      Whom this machine uploads to, and tells what it has: nobody, its own networks, or everybody.
      Nothing is named to anybody but what a channel lists.
    '';
  };

  uploadLimit = mkOption {
    type = types.str;
    default = "2MB/s";
    description = "How fast all uploads together may be.";
  };

  openFirewall = mkOption {
    type = types.bool;
    default = false;
    description = "Whether to open the peer port ({option}`settings.swarm.listen`) in the firewall: TCP, and UDP for the DHT.";
  };

  listen = role: mkOption {
    type = types.strMatching ".+:[0-9]+";
    default = "[::]:6881";
    description = "Where the ${role} listens for peers: its one public port.";
  };

  settingsDescription = file: ''
    {file}`${file}`, with its own key names. What stands here wins over the short options.
    It is world-readable, and checked by {command}`narswarm check-config` when the system is built.
  '';

  port = listen: lib.toInt (lib.last (lib.splitString ":" listen));

  # One definition per key, each a default, so that any of them can be set alone.
  settingsFrom = cfg: {
    swarm.share = lib.mkDefault cfg.share;
    swarm.upload_limit = lib.mkDefault cfg.uploadLimit;
    channel = lib.mkIf (cfg.channels != [ ]) (lib.mkDefault (map toChannel cfg.channels));
  };

  toChannel = channel: set {
    inherit (channel) link name key manifest;
    keep_releases = channel.keepReleases;
  };

  toUpstream = upstream: { inherit (upstream) url; }
    // lib.filterAttrs (_: list: list != [ ]) { inherit (upstream) keys resolve; }
    // set { inherit (upstream) timeout; };

  # A file that the program refuses fails the build of the system, not the next boot.
  checked = role: cfg:
    let
      name = "narswarm-${role}.toml";
      file = toml.generate name cfg.settings;
    in
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand name { } ''
        ${lib.getExe cfg.package} check-config --role ${role} ${file}
        cp ${file} $out
      ''
    else
      file;

  # The part of the settings that a running program does not take over.
  needsRestart = settings: builtins.toJSON (
    removeAttrs settings [ "channel" "upstream" "trusted_keys" "netrc" ]
    // {
      swarm = removeAttrs settings.swarm [
        "share"
        "networks"
        "upload_limit"
        "peer_upload_limit"
        "upload_slots"
        "connections"
        "schedule"
        "peers"
        "trackers"
      ];
    }
    // lib.optionalAttrs (settings ? shim) { shim = removeAttrs settings.shim [ "expressions" ]; }
  );

  # The second says why a file is refused where somebody reloads; the program goes on with the one before.
  reload = cfg: role: [
    "/bin/sh -c 'kill -HUP \"$MAINPID\"'"
    "${lib.getExe cfg.package} check-config --role ${role} /etc/narswarm/${role}.toml"
  ];

  firewall = cfg:
    let
      peer = port cfg.settings.swarm.listen;
    in
    lib.mkIf cfg.openFirewall {
      allowedTCPPorts = [ peer ];
      allowedUDPPorts = lib.optional (cfg.settings.swarm.dht or true) peer;
    };

  assertions = option: cfg:
    let
      given = channel: lib.attrNames (removeAttrs (toChannel channel) [ "keep_releases" ]);
      channelAssertions = channel: [
        {
          assertion = channel.link == null || lib.hasPrefix "magnet:?" channel.link && lib.hasInfix "xs=urn:btpk:" channel.link;
          message = ''
            ${option}.channels: "${toString channel.link}" is not a channel's link (magnet:?xs=urn:btpk:...).
            The magnet link of one manifest (urn:btih) needs name and key beside it: { name = "..."; key = "..."; manifest = "magnet:..."; }
          '';
        }
        {
          assertion = lib.elem (given channel) [ [ "link" ] [ "key" "manifest" "name" ] ];
          message = ''
            ${option}.channels: a channel is either a link or name, key and manifest; this one has ${if given channel == [ ] then "none" else lib.concatStringsSep ", " (given channel)}.
          '';
        }
      ];
    in
    lib.concatMap channelAssertions cfg.channels ++ [
      {
        assertion = cfg.channels == [ ] || cfg.settings.channel or [ ] == map toChannel cfg.channels;
        message = "${option}: settings.channel replaces channels. Write all of them in one of the two.";
      }
      {
        assertion = cfg.openFirewall -> port cfg.settings.swarm.listen != 0;
        message = "${option}.openFirewall: settings.swarm.listen has port 0, which is another one at each start.";
      }
    ];

  # Of the user's own making: where the disk is, or the outcome goes.
  directoryAssertion = option: directory: {
    assertion = lib.hasPrefix "/" directory
      && directory != "/"
      && !(lib.any (hidden: lib.hasPrefix "${hidden}/" "${directory}/") [ "/home" "/root" "/run/user" "/nix/store" "/tmp" "/var/tmp" ]);
    message = ''
      ${option} = "${directory}": it must be an absolute path and not below /home, /root, /run/user, /tmp, /var/tmp (the unit cannot see them) or /nix/store.
    '';
  };
}
