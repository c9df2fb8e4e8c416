# services.narswarm.seedbox: disk and uplink for the swarm, without Nix.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types;
  roles = import ./roles.nix { inherit lib pkgs; };
  cfg = config.services.narswarm.seedbox;

  hold = cfg.settings.hold;
  isStore = hold.source or "payloads" == "store";
  # With an amount the box fetches, and owns the directory. Without, it serves what others put there.
  isOwned = !isStore && hold ? location && hold ? amount;
  user = "narswarm-seedbox";
in
{
  options.services.narswarm.seedbox = {
    enable = lib.mkEnableOption "the narswarm seedbox, which gives disk and uplink to a BitTorrent swarm of Nix packages";
    inherit (roles) package channels uploadLimit openFirewall;
    share = roles.share "public";

    location = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/mnt/nixpkgsDisk";
      description = ''
        The directory of payloads. With {option}`services.narswarm.seedbox.amount` it becomes the box's own: it is made if it is not
        there, and given to the user ${user}, so let it be one that nobody else needs. Without an amount it is only read.
      '';
    };

    amount = mkOption {
      type = types.nullOr (types.strMatching "[0-9]+([kMGT]?B|%)");
      default = null;
      example = "20%";
      description = "How much to hold: a size (`500GB`), or a part of each release (`20%`).";
    };

    settings = mkOption {
      type = types.submodule {
        freeformType = roles.toml.type;
        options.swarm.listen = roles.listen "seedbox";
      };
      default = { };
      example = { hold = { source = "store"; location = "local"; }; };
      description = roles.settingsDescription "seedbox.toml";
    };
  };

  config = lib.mkIf cfg.enable {
    services.narswarm.seedbox.settings = lib.mkMerge [
      (roles.settingsFrom cfg)
      {
        # Said, so that `narswarm status --config` finds it.
        state = lib.mkDefault "/var/lib/${user}";
        hold = {
          location = lib.mkIf (cfg.location != null) (lib.mkDefault cfg.location);
          amount = lib.mkIf (cfg.amount != null) (lib.mkDefault cfg.amount);
        };
      }
    ];

    networking.firewall = roles.firewall cfg;
    environment.systemPackages = [ cfg.package ];
    environment.etc."narswarm/seedbox.toml".source = roles.checked "seedbox" cfg;

    # Not a dynamic user: what it keeps on the disk belongs to it for longer than one run.
    users.users.${user} = { isSystemUser = true; group = user; };
    users.groups.${user} = { };
    systemd.tmpfiles.settings.${user} = lib.mkIf isOwned {
      ${hold.location}.d = { inherit user; group = user; mode = "0755"; };
    };

    systemd.services.narswarm-seedbox = {
      description = "narswarm seedbox: disk and uplink for Nix packages";
      wantedBy = [ "multi-user.target" ];
      requires = [ "sysinit.target" ];
      after = [ "network.target" "sysinit.target" "basic.target" ];
      before = [ "shutdown.target" ];
      conflicts = [ "shutdown.target" ];
      reloadTriggers = [ config.environment.etc."narswarm/seedbox.toml".source ];
      restartTriggers = [ (roles.needsRestart cfg.settings) ];
      environment = config.networking.proxy.envVars;

      unitConfig = {
        # As the agent: the boot does not wait for it.
        DefaultDependencies = false;
        # Not into the directory below a disk that is not there.
        RequiresMountsFor = if isStore then "/nix/store" else hold.location or [ ];
      };
      startLimitIntervalSec = 600;
      startLimitBurst = 20;

      serviceConfig = import ./hardening.nix // {
        Type = "notify";
        ExecStart = "${lib.getExe cfg.package} seedbox --config /etc/narswarm/seedbox.toml";
        ExecReload = roles.reload cfg "seedbox";
        User = user;
        Group = user;
        StateDirectory = user;
        CacheDirectory = user;
        RuntimeDirectory = user;
        UMask = "0077";
        ReadWritePaths = lib.mkIf isOwned [ hold.location ];
        Restart = "on-failure";
        RestartSec = 10;
        RestartPreventExitStatus = 2;
        TimeoutStartSec = 60;
        TimeoutStopSec = 10;
        WatchdogSec = 60;
        Nice = 10;
        CPUWeight = 20;
        IOWeight = 20;
        IOSchedulingPriority = 7;
        OOMScoreAdjust = 200;
        # A connection per peer.
        LimitNOFILE = 65536;
      };
    };

    assertions = roles.assertions "services.narswarm.seedbox" cfg ++ [
      {
        assertion = hold ? location;
        message = "services.narswarm.seedbox.location is not set: where is the disk?";
      }
      {
        assertion = cfg.settings.channel or [ ] != [ ];
        message = "services.narswarm.seedbox.channels is empty: a box serves what a channel lists, and nothing else.";
      }
    ] ++ lib.optional (!isStore && hold ? location) (roles.directoryAssertion "services.narswarm.seedbox.location" hold.location);
  };
}
