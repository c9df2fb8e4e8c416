{
  description = "A BitTorrent-based Nix substituter: package, NixOS modules and their test";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      forEach = f: nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEach (pkgs: rec {
        narswarm = pkgs.callPackage ./package.nix { };
        default = narswarm;
      });

      overlays.default = import ./overlay.nix;

      nixosModules = {
        default = ./default.nix;
        agent = ./agent.nix;
        seedbox = ./seedbox.nix;
        publisher = ./publisher.nix;
      };

      checks = forEach (pkgs: {
        package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        vm = pkgs.testers.runNixOSTest ./vm-test.nix;
        style = pkgs.runCommand "narswarm-module-style" { nativeBuildInputs = [ pkgs.nixpkgs-fmt pkgs.deadnix ]; } ''
          nixpkgs-fmt --check ${./.}/*.nix
          deadnix --fail ${./.}
          touch $out
        '';
      });

      devShells = forEach (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [ cargo clippy rustc rustfmt deadnix nixpkgs-fmt ];
        };
      });

      formatter = forEach (pkgs: pkgs.nixpkgs-fmt);
    };
}
