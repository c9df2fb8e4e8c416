# services.narswarm.publisher: signs a manifest of a release at each run of its timer.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types;
  roles = import ./roles.nix { inherit lib pkgs; };
  cfg = config.services.narswarm.publisher;

  user = "narswarm-publisher";
  state = "/var/lib/${user}";
  directories = lib.filter (directory: directory != null && !lib.hasPrefix "${state}/" "${directory}/") [ cfg.out cfg.payloads ];
  isRemote = lib.hasPrefix "http://" cfg.from || lib.hasPrefix "https://" cfg.from;

  keys = lib.filterAttrs (_: file: file != null) {
    secret-key = cfg.secretKeyFile;
    narinfo-key = cfg.narinfoKeyFile;
  };
  # Never by interpolation: that would copy a path literal to the store.
  isSafe = file: !lib.hasPrefix "${builtins.storeDir}/" (toString file);

  each = flag: lib.concatMap (value: [ flag (toString value) ]);
  given = flag: value: lib.optionals (value != null) [ flag (toString value) ];
  arguments = [ "--channel" cfg.channel "--from" cfg.from "--out" cfg.out ]
    ++ lib.optionals (cfg.closure != [ ]) ([ "--closure" ] ++ map toString cfg.closure)
    ++ given "--store-paths" cfg.storePaths
    ++ given "--system" cfg.system
    ++ given "--payloads" cfg.payloads
    ++ given "--lifetime" cfg.lifetime
    ++ each "--file" cfg.files
    ++ each "--seedbox" cfg.seedboxes
    ++ each "--tracker" cfg.trackers;

  orNull = type: description: mkOption {
    type = types.nullOr type;
    default = null;
    inherit description;
  };
  list = type: description: mkOption {
    type = types.listOf type;
    default = [ ];
    inherit description;
  };
in
{
  options.services.narswarm.publisher = {
    enable = lib.mkEnableOption "the narswarm publisher, which signs manifests of releases for a BitTorrent swarm of Nix packages";
    inherit (roles) package;

    channel = mkOption {
      type = types.strMatching "[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,63}";
      example = "mychannel";
      description = "The channel's name.";
    };
    release = orNull types.str "The release's name; the time of the run by default.";
    secretKeyFile = mkOption {
      type = types.path;
      example = "/run/secrets/channel.sec";
      description = ''
        The channel's secret key, as {command}`narswarm keygen` writes it. systemd hands it to the publisher; it must not be in the store.
      '';
    };
    narinfoKeyFile = orNull types.path ''
      A secret key of Nix that signs the paths that have no signature; without it they are refused. It must not be in the store.
    '';
    closure = list types.path "Publish the closure of these store paths or profiles, for example {file}`/nix/var/nix/profiles/system`.";
    storePaths = orNull types.path "Publish the closure of the store paths in this file, one a line.";
    from = mkOption {
      type = types.str;
      default = "local";
      description = "Where the paths are: `local`, `local?root=DIR`, `file:///dir` or `http(s)://host`.";
    };
    out = mkOption {
      type = types.str;
      default = state;
      description = "Where manifest, layers and torrents go. Any web server can serve this directory as it is.";
    };
    payloads = orNull types.str "Also write every payload to this directory, for a seedbox that has no store.";
    files = list types.path "Release files to publish along, for example {file}`nixexprs.tar.xz`.";
    seedboxes = list types.str "Seedboxes (`ip:port`) to name in the manifest.";
    trackers = list types.str "Trackers with literal addresses to name in the manifest.";
    system = orNull types.str "The system of these paths; this machine's by default.";
    lifetime = orNull types.str "After this the release is shown as stale. The program's default is `30d`.";
    startAt = mkOption {
      type = with types; either str (listOf str);
      default = "daily";
      description = ''
        When to publish, as in {manpage}`systemd.time(7)`; `[ ]` for never by itself. A run that finds nothing new
        renews the date up to which the release is fresh.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];

    # Not a dynamic user: a web server must be able to read what it writes.
    users.users.${user} = { isSystemUser = true; group = user; };
    users.groups.${user} = { };
    systemd.tmpfiles.settings.${user} = lib.genAttrs directories (_: {
      d = { inherit user; group = user; mode = "0755"; };
    });

    systemd.services.narswarm-publisher = {
      description = "narswarm publisher of ${cfg.channel}";
      inherit (cfg) startAt;
      after = [ "network.target" ];
      environment = config.networking.proxy.envVars;
      unitConfig.RequiresMountsFor = [ "/nix/store" ] ++ directories;

      script = ''
        exec ${lib.getExe cfg.package} publish ${lib.escapeShellArgs arguments} \
          --release ${if cfg.release == null then ''"$(date --utc +%Y%m%d.%H%M%S)"'' else lib.escapeShellArg cfg.release} \
          --secret-key "$CREDENTIALS_DIRECTORY/secret-key" ${
            lib.optionalString (keys ? narinfo-key) "--narinfo-key \"$CREDENTIALS_DIRECTORY/narinfo-key\""
          }
      '';

      serviceConfig = import ./hardening.nix // {
        Type = "oneshot";
        User = user;
        Group = user;
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${toString file}") keys;
        StateDirectory = user;
        ReadWritePaths = directories;
        # For web servers and seedboxes.
        UMask = "0022";
        # Whoever holds the key needs no network.
        PrivateNetwork = !isRemote;
        Nice = 10;
        CPUWeight = 20;
        IOWeight = 20;
        IOSchedulingPriority = 7;
      };
    };

    systemd.timers.narswarm-publisher = lib.mkIf (cfg.startAt != [ ]) {
      timerConfig = {
        Persistent = true;
        RandomizedDelaySec = "10min";
      };
    };

    assertions = lib.mapAttrsToList
      (name: file: {
        assertion = isSafe file;
        message = ''
          services.narswarm.publisher.${if name == "secret-key" then "secretKeyFile" else "narinfoKeyFile"} is in the Nix store (${toString file}), where everybody can read it.
          Name a file outside, as a string: "/run/secrets/...".
        '';
      })
      keys ++ [
      {
        assertion = (cfg.closure != [ ]) != (cfg.storePaths != null);
        message = "services.narswarm.publisher: what is to be published? Set either closure or storePaths.";
      }
    ] ++ map (roles.directoryAssertion "services.narswarm.publisher.out") directories;
  };
}
