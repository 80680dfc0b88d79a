# Packages of nixpkgs, made of the host's programs and libraries: tests/nix/offline has put those beside this file,
# in host/. Builds must not be sandboxed. What fails in real nixpkgs should fail here too, for the same reason.
{
  system,
  config ? { },
}:
let
  lib = import ./lib.nix;
  hostPath = "/usr/local/bin:/usr/bin:/bin";

  # The version is that of the package which is stood in for, not the host's.
  package =
    {
      pname,
      version ? "0",
      programs ? [ ],
      libraries ? [ ],
      mainProgram ? pname,
    }:
    derivation {
      inherit system programs libraries;
      name = "${pname}-${version}";
      builder = "/bin/sh";
      PATH = hostPath;
      args = [
        "-ec"
        ''
          mkdir -p "$out/bin" "$out/lib"
          for program in $programs; do ln -s "$(readlink ${./host}/bin/$program)" "$out/bin/$program"; done
          for library in $libraries; do cp ${./host}/lib/$library "$out/lib"; done
        ''
      ];
    }
    // {
      inherit pname version;
      meta = { inherit mainProgram; };
    };

  stdenv =
    derivation {
      inherit system;
      name = "stdenv";
      builder = "/bin/sh";
      PATH = hostPath;
      args = [
        "-ec"
        ''mkdir "$out"; printf %s "$setup" >"$out/setup"''
      ];
      # As nixpkgs' own: inputs make the PATH, and all time stands still.
      setup = ''
        PATH=${hostPath}
        for input in $nativeBuildInputs; do PATH=$input/bin:$PATH; done
        export PATH SOURCE_DATE_EPOCH=315532800
      '';
    }
    // {
      cc.cc.lib = package {
        pname = "gcc-lib";
        libraries = [ "libstdc++.so.6" ];
      };
      hostPlatform = {
        inherit system;
        isLinux = builtins.match ".*-linux" system != null;
      };
    };

  build =
    attributes:
    derivation (
      {
        inherit system stdenv;
        outputs = [ "out" ]; # `nix develop` goes through them.
        builder = "/bin/bash";
        args = [
          "-ec"
          ''source "$stdenv/setup"; eval "$buildCommand"''
        ];
      }
      // attributes
    );
in
# As the real one does for a system that it is about to drop.
assert system == "x86_64-darwin" -> config.allowDeprecatedx86_64Darwin;
rec {
  inherit lib stdenv;
  runtimeShell = "/bin/bash";

  bashInteractive = package {
    pname = "bash";
    programs = [ "bash" ];
  };
  python313 = package {
    pname = "python3";
    version = "3.13.0";
    programs = [ "python3" ];
  };
  postgresql_17 = package {
    pname = "postgresql";
    version = "17.0";
    programs = [
      "initdb"
      "postgres"
      "psql"
    ];
  };
  redis = package {
    pname = "redis";
    version = "8.0.0";
    programs = [ "redis-server" ];
  };
  uv = package {
    pname = "uv";
    programs = [ "uv" ];
  };
  shellcheck = package {
    pname = "shellcheck";
    programs = [ "shellcheck" ];
  };
  zlib = package {
    pname = "zlib";
    libraries = [ "libz.so.1" ];
  };
  nixfmt-tree = package { pname = "treefmt"; };

  runCommand =
    name: attributes: buildCommand:
    build ({ inherit name buildCommand; } // attributes);

  mkShellNoCC =
    {
      name,
      packages,
      env,
      shellHook,
    }:
    build (
      {
        inherit name shellHook;
        nativeBuildInputs = packages;
        buildCommand = ''export >"$out"'';
      }
      // env
    );

  writeShellApplication =
    {
      name,
      text,
      runtimeInputs ? [ ],
      runtimeEnv ? { },
      meta ? { },
    }:
    build {
      inherit name;
      nativeBuildInputs = [ shellcheck ];
      text = ''
        #!${runtimeShell}
        set -o errexit -o nounset -o pipefail
        ${lib.concatStringsSep "\n" (map (key: "export ${key}='${runtimeEnv.${key}}'") (lib.attrNames runtimeEnv))}
        PATH="${lib.makeBinPath runtimeInputs}:$PATH"; PATH=''${PATH#:}
        ${text}'';
      buildCommand = ''
        mkdir -p "$out/bin"
        printf %s "$text" >"$out/bin/${name}"
        chmod +x "$out/bin/${name}"
        shellcheck "$out/bin/${name}"
      '';
    }
    // {
      meta = meta // {
        mainProgram = name;
      };
    };
}
