# What the flake uses of nixpkgs' library: same names, same meaning.
rec {
  inherit (builtins) attrNames concatStringsSep filter;
  genAttrs =
    names: value:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = value name;
      }) names
    );
  optionalAttrs = condition: attributes: if condition then attributes else { };
  hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
  makeBinPath = packages: concatStringsSep ":" (map (package: "${package}/bin") packages);
  getExe = package: getExe' package package.meta.mainProgram;
  getExe' = package: program: "${package}/bin/${program}";
}
