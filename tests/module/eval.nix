# What the modules make of each configuration in cases.nix, with the module list of a real NixOS (`nixpkgs`) and packages
# that are only names (`words`: a JSON file). `source` is nixos-module/.
{ nixpkgs, source, words }:

let
  lib = import (nixpkgs + "/lib");
  pkgs = import ./stub-pkgs.nix {
    inherit lib;
    words = builtins.fromJSON (builtins.readFile words);
  };
  cases = import ./cases.nix { inherit lib source; };

  evaluate = modules: import (nixpkgs + "/nixos/lib/eval-config.nix") {
    system = null;
    inherit lib pkgs;
    modules = modules ++ [
      {
        system.stateVersion = "25.05";
        boot.loader.grub.enable = false;
        fileSystems."/" = { device = "none"; fsType = "tmpfs"; };
      }
    ];
  };

  # Those of our files only: most others need real packages to be evaluated.
  ours = option: lib.concatMap (definition: definition.value)
    (lib.filter (definition: lib.hasPrefix (toString source) (toString definition.file)) option.definitionsWithLocations);
  isOurs = lib.filterAttrs (name: _: lib.hasPrefix "narswarm" name);

  report = { config, options, ... }: {
    units = lib.mapAttrs (_: unit: unit.text) (isOurs config.systemd.units);
    # Where one of these differs, the unit is restarted.
    restartTriggers = lib.mapAttrs (_: service: service.restartTriggers) (isOurs config.systemd.services);
    # The text of the script that a unit starts.
    scripts = lib.mapAttrs (_: service: service.script) (lib.filterAttrs (_: service: service.script != "") (isOurs config.systemd.services));
    nixConf = lib.filter (line: line != "") (lib.splitString "\n" config.environment.etc."nix/nix.conf".source.text);
    tcp = config.networking.firewall.allowedTCPPorts;
    udp = config.networking.firewall.allowedUDPPorts;
    refused = map (assertion: assertion.message) (lib.filter (assertion: !assertion.assertion) (ours options.assertions));
    warnings = ours options.warnings;
    users = lib.attrNames (isOurs config.users.users);
    directories = isOurs config.systemd.tmpfiles.settings;
    # What is looked at when the system is built.
    checks = lib.mapAttrs (_: entry: entry.source.text) (lib.filterAttrs (name: _: lib.hasPrefix "narswarm/" name) config.environment.etc);
    settings = lib.mapAttrs (_: role: role.settings) (lib.filterAttrs (_: role: role.enable or false && role ? settings) config.services.narswarm);
  };

  vmTest = import (source + "/vm-test.nix") { inherit lib pkgs; };
  # As the test driver does; the machine that runs it is not here.
  vmNodes = lib.mapAttrs
    (name: node: evaluate [
      node
      (nixpkgs + "/nixos/modules/virtualisation/qemu-vm.nix")
      { _module.args.nodes = lib.mapAttrs (_: node: node.config) vmNodes; networking.hostName = name; }
      {
        options.networking.primaryIPAddress = lib.mkOption { type = lib.types.str; };
        config.networking.primaryIPAddress = "192.168.1.1";
      }
    ])
    vmTest.nodes;

  flake = import (source + "/flake.nix");
  flakeOutputs = flake.outputs {
    self = flakeOutputs;
    nixpkgs = { inherit lib; legacyPackages = { x86_64-linux = pkgs; aarch64-linux = pkgs; }; };
  };
  package = pkgs.callPackage (source + "/package.nix") { };
in
{
  cases = lib.mapAttrs (_: case: report (evaluate [ case ])) cases.evaluated;
  # One at a time: each is a type error.
  mistyped = lib.mapAttrs (_: case: { inherit (report (evaluate [ case ])) settings scripts; }) cases.mistyped;

  vm = {
    nodes = lib.mapAttrs (_: report) vmNodes;
    inherit (vmTest) name;
    script = vmTest.testScript { nodes = lib.mapAttrs (_: node: node.config) vmNodes; };
  };

  package = {
    inherit (package) pname version meta;
    arguments = lib.attrNames package.arguments;
    lockFile = builtins.pathExists package.arguments.cargoLock.lockFile;
    overlay = (import (source + "/overlay.nix") pkgs pkgs).narswarm.name;
  };

  flake = {
    inputs = lib.mapAttrs (_: input: input.url) flake.inputs;
    outputs = lib.mapAttrs (_: lib.attrNames) flakeOutputs;
    perSystem = lib.mapAttrs (_: lib.attrNames) (lib.mapAttrs (_: systems: systems.x86_64-linux)
      (lib.getAttrs [ "packages" "checks" "devShells" ] flakeOutputs));
    modules = lib.mapAttrs (_: module: builtins.pathExists module) flakeOutputs.nixosModules;
  };
}
