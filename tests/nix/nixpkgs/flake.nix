# A stand-in for nixpkgs where no binary cache can be reached: see tests/nix/offline.
{
  outputs = _: rec {
    lib = import ./lib.nix;
    # Where `nix develop` looks for its shell.
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
      system: import ./. { inherit system; }
    );
  };
}
