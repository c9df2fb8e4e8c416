{ lib, rustPlatform, installShellFiles, stdenv }:

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

  # jemalloc does not start where pages are larger than where it was built; 64-bit ARM has kernels with 4, 16 and 64 kB.
  env = lib.optionalAttrs stdenv.hostPlatform.isAarch64 { JEMALLOC_SYS_WITH_LG_PAGE = "16"; };

  # Those in tests/ want Nix, root and other programs.
  cargoTestFlags = [ "--lib" ];

  nativeBuildInputs = [ installShellFiles ];
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/narswarm man --to $out/share/man/man1
    installShellCompletion --cmd narswarm \
      --bash <($out/bin/narswarm completions bash) \
      --fish <($out/bin/narswarm completions fish) \
      --zsh <($out/bin/narswarm completions zsh)
  '';

  meta = {
    inherit (package) description;
    license = lib.licenses.mit;
    mainProgram = "narswarm";
    platforms = lib.platforms.linux;
  };
}
