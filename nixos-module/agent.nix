# services.narswarm.agent: Nix asks it, it asks the swarm, and it seeds what is installed.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types;
  roles = import ./roles.nix { inherit lib pkgs; };
  cfg = config.services.narswarm.agent;
  nix = config.nix;

  # What an address that listens everywhere is reached by from here.
  shim = "http://${lib.replaceStrings [ "0.0.0.0:" "[::]:" ] [ "127.0.0.1:" "[::1]:" ] cfg.settings.shim.listen}";

  # The same cache is written with and without a slash, or with parameters that are Nix's own.
  bare = url: lib.removeSuffix "/" (lib.head (lib.splitString "?" url));
  upstreams = map (upstream: bare upstream.url) (cfg.settings.upstream or [ ]);
  # NixOS lists it by itself: that is nobody's wish to have a second cache.
  isReplaced = url: lib.elem (bare url) (upstreams ++ [ shim "https://cache.nixos.org" ]);
  isHttp = url: lib.hasPrefix "http://" url || lib.hasPrefix "https://" url;

  only = cfg.enable && cfg.configureSubstituter == "only";
  stillListed =
    lib.optionals (only && nix.enable)
      (lib.filter (url: url != shim) nix.settings.substituters ++ nix.settings.extra-substituters or [ ]);
  trustedKeys = lib.optionals nix.enable nix.settings.trusted-public-keys;
  bytes = key: lib.last (lib.splitString ":" key);
in
{
  options = {
    services.narswarm.agent = {
      enable = lib.mkEnableOption "the narswarm agent, a substituter that fetches Nix packages from a BitTorrent swarm and seeds those that are installed";
      inherit (roles) package channels upstreams uploadLimit openFirewall;
      share = roles.share "lan";

      configureSubstituter = mkOption {
        type = types.enum [ "only" "prepend" "keep" ];
        default = "only";
        description = ''
          What {file}`nix.conf` says.
          `only`: the agent is the one substituter, and asks {option}`services.narswarm.agent.upstreams` itself. With dead DNS every
          further cache costs 15 to 55 s per command. What the agent cannot ask (`s3://`, `ssh://`, `file://`) or is not told to ask
          stays listed behind it when it stands in {option}`nix.settings.substituters`, with a warning.
          `prepend`: the agent first, then {option}`nix.settings.substituters` as they are.
          `keep`: nothing is changed.
        '';
      };

      narinfoCacheNegativeTtl = mkOption {
        type = types.ints.unsigned;
        default = 60;
        description = ''
          With `configureSubstituter = "only"`: for how many seconds Nix remembers that a path is not there. Nix's own default is an
          hour, which is long for a cache whose sources come and go.
        '';
      };

      netrcFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/etc/nix/netrc";
        description = ''
          Passwords of upstreams, in the form of Nix's own {file}`netrc`. systemd hands it to the agent; it must not be in the store.
        '';
      };

      settings = mkOption {
        type = types.submodule {
          freeformType = roles.toml.type;
          options = {
            shim.listen = mkOption {
              type = types.strMatching ".+:[0-9]+";
              default = "127.0.0.1:8642";
              description = "Where Nix asks the agent. systemd holds this port, also while the agent is down.";
            };
            swarm.listen = roles.listen "agent";
          };
        };
        default = { };
        example = { cache.size = "20GB"; swarm.peers = [ "192.0.2.7:6881" ]; };
        description = roles.settingsDescription "agent.toml";
      };
    };

    # Whatever the lists of all modules come to, Nix is given this.
    nix.settings.substituters = mkOption {
      type = types.listOf types.str;
      apply = urls: if only then [ shim ] ++ lib.filter (url: !isReplaced url) urls else urls;
    };
  };

  config = lib.mkIf cfg.enable {
    services.narswarm.agent.settings = lib.mkMerge [
      (roles.settingsFrom cfg)
      {
        # Only what Nix accepts is worth offering to it.
        trusted_keys = lib.mkDefault trustedKeys;
        upstream = lib.mkDefault (map roles.toUpstream cfg.upstreams);
        netrc = lib.mkIf (cfg.netrcFile != null) (lib.mkDefault "/run/credentials/narswarm-agent.service/netrc");
      }
    ];

    nix.settings = lib.mkMerge [
      (lib.mkIf (cfg.configureSubstituter == "prepend") {
        substituters = lib.mkBefore [ shim ];
      })
      (lib.mkIf only {
        narinfo-cache-negative-ttl = lib.mkDefault cfg.narinfoCacheNegativeTtl;
        # So that every user may go past a broken agent: --option substituters https://cache.nixos.org
        trusted-substituters = map (url: "${url}/") upstreams;
      })
    ];

    networking.firewall = roles.firewall cfg;
    environment.systemPackages = [ cfg.package ];
    environment.etc."narswarm/agent.toml".source = roles.checked "agent" cfg;

    systemd.sockets.narswarm-agent = {
      description = "narswarm agent, where Nix asks it";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ cfg.settings.shim.listen ];
      # Before the network is up, and on addresses that come later.
      socketConfig.FreeBind = true;
    };

    systemd.services.narswarm-agent = {
      description = "narswarm agent: Nix packages from the swarm";
      wantedBy = [ "multi-user.target" ];
      requires = [ "narswarm-agent.socket" "sysinit.target" ];
      after = [ "narswarm-agent.socket" "network.target" "sysinit.target" "basic.target" ];
      before = [ "shutdown.target" ];
      conflicts = [ "shutdown.target" ];
      # What can change without a restart does.
      reloadTriggers = [ config.environment.etc."narswarm/agent.toml".source ];
      restartTriggers = [ (roles.needsRestart cfg.settings) ];
      # Stopping and starting would close the socket in between.
      stopIfChanged = false;
      environment = config.networking.proxy.envVars;

      unitConfig = {
        # Without these, multi-user.target does not wait for us: the boot never hangs on an agent that does not get ready.
        DefaultDependencies = false;
        RequiresMountsFor = "/nix/store";
      };
      # An agent that cannot start gives up in ten seconds, and the socket with it: Nix is then refused instead of left waiting.
      startLimitIntervalSec = 30;
      startLimitBurst = 10;

      serviceConfig = import ./hardening.nix // {
        Type = "notify";
        ExecStart = "${lib.getExe cfg.package} agent --config /etc/narswarm/agent.toml";
        ExecReload = roles.reload cfg "agent";
        DynamicUser = true;
        LoadCredential = lib.optional (cfg.netrcFile != null) "netrc:${toString cfg.netrcFile}";
        StateDirectory = "narswarm";
        CacheDirectory = "narswarm";
        RuntimeDirectory = "narswarm";
        UMask = "0077";
        Restart = "on-failure";
        RestartSec = 1;
        # A file that it refuses stays refused.
        RestartPreventExitStatus = 2;
        TimeoutStartSec = 30;
        TimeoutStopSec = 10;
        WatchdogSec = 60;
        # Behind everything else, but not idle: Nix waits for it.
        Nice = 10;
        CPUWeight = 20;
        IOWeight = 20;
        IOSchedulingPriority = 7;
        OOMScoreAdjust = 200;
        # A connection per peer.
        LimitNOFILE = 65536;
      };
    };

    assertions = roles.assertions "services.narswarm.agent" cfg ++ [
      {
        assertion = !lib.hasPrefix "${builtins.storeDir}/" (toString cfg.netrcFile);
        message = "services.narswarm.agent.netrcFile is in the Nix store, where everybody can read it. Name a file outside, as a string.";
      }
      {
        assertion = roles.port cfg.settings.shim.listen != 0;
        message = "services.narswarm.agent.settings.shim.listen has port 0: nix.conf must name the port.";
      }
    ] ++ map
      (upstream: {
        assertion = isHttp upstream.url;
        message = ''
          services.narswarm.agent.upstreams: the agent cannot ask ${upstream.url}, only http and https. Leave it in nix.settings.substituters.
        '';
      })
      cfg.upstreams ++ map
      (upstream: {
        assertion = !lib.hasInfix "@" upstream.url;
        message = ''
          services.narswarm.agent.upstreams: agent.toml is world-readable, and an upstream has a password in its URL.
          Put it into a file for netrcFile.
        '';
      })
      cfg.upstreams ++ map
      (upstream: {
        assertion = bare upstream.url != shim;
        message = "services.narswarm.agent.upstreams: ${upstream.url} is the agent itself.";
      })
      cfg.upstreams ++ map
      (channel: {
        assertion = !lib.elem (bytes channel.key) (map bytes trustedKeys);
        message = ''
          services.narswarm.agent: the key ${channel.key} of a channel is in nix.settings.trusted-public-keys. A channel's key signs lists,
          not packages: with it there, its publisher could sign packages for this machine as well. Take it out.
        '';
      })
      (lib.filter (channel: channel ? key) (cfg.settings.channel or [ ]));

    warnings =
      map
        (url: ''
          services.narswarm.agent: ${url} stays in nix.conf beside the agent: ${
            if isHttp url
            then "it is not in services.narswarm.agent.upstreams. Move it there, with its key (a password goes into netrcFile)."
            else "the agent asks http and https only."
          } With dead DNS it costs 15 to 55 s per command.
        '')
        stillListed
      ++ lib.concatMap
        (upstream: map
          (key: ''
            services.narswarm.agent.upstreams: ${upstream.url} signs with ${key}, which is not in nix.settings.trusted-public-keys: Nix will refuse its packages.
          '')
          (lib.subtractLists trustedKeys upstream.keys))
        cfg.upstreams
      ++ lib.optional (only && lib.hasInfix "substituters" nix.extraOptions) ''
        services.narswarm.agent: nix.extraOptions speaks of substituters, behind the agent's line in nix.conf. Write them in nix.settings.
      ''
      ++ lib.optional (cfg.settings.channel or [ ] == [ ]) ''
        services.narswarm.agent follows no channel: it only passes requests on to its upstreams.
      ''
      ++ lib.optional (cfg.settings.shim.expressions or false) ''
        services.narswarm.agent.settings.shim.expressions: release files rest on the publisher's key alone, and evaluating them is root on this machine.
      ''
      ++ lib.optional (!lib.any (own: lib.hasPrefix own cfg.settings.shim.listen) [ "127." "[::1]:" ]) ''
        services.narswarm.agent.settings.shim.listen = "${cfg.settings.shim.listen}": whoever reaches this address can read what is in the store.
      '';
  };
}
