# services.narswarm.{agent,seedbox,publisher}: each file also works alone.
{ config, lib, ... }:

let
  inherit (config.services.narswarm) agent seedbox;
  port = listen: lib.last (lib.splitString ":" listen);
in
{
  imports = [ ./agent.nix ./publisher.nix ./seedbox.nix ];

  config = lib.mkIf (agent.enable && seedbox.enable) {
    assertions = [
      {
        assertion = port agent.settings.swarm.listen != port seedbox.settings.swarm.listen;
        message = ''
          services.narswarm.agent and services.narswarm.seedbox both listen for peers on port ${port agent.settings.swarm.listen}:
          give one of them another settings.swarm.listen.
        '';
      }
    ];
    # Both are on this machine because somebody wants it so: the defaults must go together.
    services.narswarm.seedbox.settings.swarm.listen = lib.mkDefault "[::]:6882";
  };
}
