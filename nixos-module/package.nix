{ lib, rustPlatform }:

let
  inherit (lib.importTOML ../Cargo.toml) package;
in
rustPlatform.buildRustPackage {
  pname = package.name;
  inherit (package) version;

  # No tests, documents or modules: changing those builds nothing anew.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [ ../Cargo.lock ../Cargo.toml ../src ];
  };
  # ZSTD_SYS_USE_PKG_CONFIG must stay unset: payloads are the same everywhere only with the zstd that this file pins.
  # With another one the program notices, and does not seed from the store.
  cargoLock.lockFile = ../Cargo.lock;

  # Those in tests/ want Nix, root and other programs.
  cargoTestFlags = [ "--lib" ];

  meta = {
    inherit (package) description;
    license = lib.licenses.mit;
    mainProgram = "narswarm";
    platforms = lib.platforms.linux;
  };
}
