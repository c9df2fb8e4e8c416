# Enough of a nixpkgs to evaluate NixOS modules with, and nothing that can be built: every word that stands in the
# modules (`words`) is the name of a package, and what makes files keeps their text to be looked at.
{ lib, words }:

let
  fake = name: {
    type = "derivation";
    inherit name;
    pname = name;
    # Of any package: modules ask whether it is new enough.
    version = "99";
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
    drvPath = "/nix/store/00000000000000000000000000000000-${name}.drv";
    outputs = [ "out" ];
    out = fake name;
    bin = fake name;
    dev = fake name;
    lib = fake name;
    man = fake name;
    doc = fake name;
    callPackage = _: _: fake name;
    override = _: fake name;
    overrideAttrs = _: fake name;
    modules = [ ];
    passthru = { };
    meta.mainProgram = name;
  };
  file = name: text: fake name // { inherit text; };

  # The format's values, as nixpkgs has them; a generated file keeps its value.
  value = with lib.types; oneOf [ bool int float str path (attrsOf value) (listOf value) ];
  format = _: {
    type = value;
    generate = name: content: fake name // { inherit content; };
    lib = { };
  };

  platform = lib.systems.elaborate "x86_64-linux";
  pkgs = lib.genAttrs words fake // {
    _type = "pkgs";
    __splicedPackages = pkgs;
    inherit lib;
    inherit (platform) system;
    config = { };
    overlays = [ ];
    appendOverlays = _: pkgs;
    extend = _: pkgs;
    qemu_kvm = fake "qemu" // { ga = fake "qemu-ga"; };
    stdenv = fake "stdenv" // {
      hostPlatform = platform;
      buildPlatform = platform;
      inherit (platform) system isLinux;
      cc = fake "cc";
      mkDerivation = arguments: fake (arguments.name or arguments.pname or "derivation");
    };
    linuxPackages = fake "linux" // {
      kernel = fake "linux" // { version = "6.12"; features = { }; config = { }; kernelAtLeast = _: true; };
      extend = _: pkgs.linuxPackages;
    };

    writers = lib.genAttrs words (_: file);
    formats = lib.genAttrs words (_: format);
    writeText = file;
    writeScript = file;
    writeScriptBin = file;
    writeShellScript = file;
    writeShellScriptBin = file;
    writeTextFile = arguments: file arguments.name arguments.text;
    writeShellApplication = arguments: file arguments.name arguments.text;
    runCommand = name: _: file name;
    runCommandLocal = name: _: file name;
    buildEnv = arguments: fake arguments.name;
    symlinkJoin = arguments: fake arguments.name;
    replaceVars = path: _: fake (baseNameOf path);
    substituteAll = _: fake "substituted";
    mkShell = arguments: fake "shell" // { inherit (arguments) packages; };
    testers.runNixOSTest = path: fake "test" // { inherit path; };

    callPackage = path: arguments:
      let function = import path; in function (builtins.intersectAttrs (builtins.functionArgs function) pkgs // arguments);
    rustPlatform.buildRustPackage = arguments: fake arguments.pname // {
      inherit arguments;
      inherit (arguments) version meta;
    };
  };
in
pkgs
