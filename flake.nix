# Nix's way in: the programs that the lab needs, in the versions that flake.lock pins. The Python packages
# are the same hash-locked ones as everywhere; `./lab` installs them, below .venv-nix. Reasons:
# docs/decisions/0007-nix-brings-programs-only.md. Checked by `nix flake check` and tests/nix/check.
{
  description = "A whole Airflow CeleryExecutor cluster on one machine, without a container per service";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
        "x86_64-darwin"
      ];
      forEachSystem =
        build:
        lib.genAttrs systems (
          system:
          build (
            import nixpkgs {
              inherit system;
              # 26.05 is the last release that has it, and would warn each time.
              config.allowDeprecatedx86_64Darwin = true;
            }
          )
        );

      # What the README promises, and a newer flake.lock has to keep.
      versions = {
        python313 = "3.13";
        postgresql_17 = "17";
        redis = "8";
      };

      # What `./lab` must know to use these programs instead of the machine's.
      variables =
        pkgs:
        {
          # Not the machine's own .venv: that has another Python. Relative to the checkout.
          LAB_VENV = ".venv-nix";
          LAB_PYTHON = lib.getExe pkgs.python313;
          LAB_POSTGRES_BIN = "${pkgs.postgresql_17}/bin";
          LAB_REDIS_SERVER = lib.getExe' pkgs.redis "redis-server";
        }
        // lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux {
          # All that wheels may expect of a Linux machine and that Nix's loader does not find. The third,
          # libgcc_s, comes with the first. tests/unit/test_wheels.py looks into the wheels.
          LAB_LIBRARIES = lib.concatStringsSep ":" [
            "${pkgs.stdenv.cc.cc.lib}/lib/libstdc++.so.6"
            "${pkgs.zlib}/lib/libz.so.1"
          ];
        };

      # A `lab` for any folder of a checkout. It runs the checkout's own, not the read-only copy in Nix's store.
      finder =
        pkgs: more:
        pkgs.writeShellApplication (
          {
            name = "lab";
            text = builtins.readFile ./nix/find-lab.sh;
            meta.description = "The lab of the checkout around the current folder";
          }
          // more
        );

      # The same for a shell that knows nothing of the above.
      lab =
        pkgs:
        finder pkgs {
          runtimeInputs = [ pkgs.uv ];
          runtimeEnv = variables pkgs;
        };

      up =
        pkgs:
        pkgs.writeShellApplication {
          name = "lab-up";
          text = ''
            if [ $# = 0 ]; then set -- up; fi
            exec ${lib.getExe (lab pkgs)} "$@"
          '';
          meta.description = "Runs the cluster, or the `lab` command that is given";
        };
    in
    {
      packages = forEachSystem (pkgs: {
        default = lab pkgs;
      });

      apps = forEachSystem (pkgs: {
        default = {
          type = "app";
          program = lib.getExe (up pkgs);
          meta = { inherit ((up pkgs).meta) description; };
        };
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShellNoCC {
          name = "airflow-celery-lab";
          # Not Python: it comes from .venv-nix, and nixpkgs' own would bring PYTHONPATH and a fixed hash seed.
          packages = [
            (finder pkgs { })
            pkgs.uv
            pkgs.postgresql_17
            pkgs.redis
          ];
          env = variables pkgs;
          shellHook = builtins.readFile ./nix/shell-hook.sh;
        };
      });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);

      checks = forEachSystem (
        pkgs:
        {
          # Each `writeShellApplication` in it is run through shellcheck.
          shell = self.devShells.${pkgs.stdenv.hostPlatform.system}.default;

          versions =
            let
              wrong = lib.filter (name: !lib.hasPrefix "${versions.${name}}." "${pkgs.${name}.version}.") (
                lib.attrNames versions
              );
              told = map (name: "${name} is ${pkgs.${name}.version}, not ${versions.${name}}") wrong;
            in
            if wrong == [ ] then
              pkgs.runCommand "versions" { } "touch $out"
            else
              throw "${lib.concatStringsSep "; " told}: pin another nixpkgs in flake.lock, or change flake.nix and docs/three-ways.md.";

          scripts = pkgs.runCommand "scripts" { nativeBuildInputs = [ pkgs.shellcheck ]; } ''
            cd ${self}
            shellcheck lab .ci/run tests/nix/check tests/nix/offline
            shellcheck --shell=bash .envrc nix/*.sh
            touch $out
          '';

          finder = pkgs.runCommand "finder" { } ''
            ${pkgs.runtimeShell} ${./tests/nix/finder.sh} ${lib.getExe (lab pkgs)}
            touch $out
          '';
        }
        // lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux {
          # The last comes with the first, as wheels that want it alone expect.
          libraries = pkgs.runCommand "libraries" (variables pkgs) ''
            "$LAB_PYTHON" -c 'import ctypes, sys; list(map(ctypes.CDLL, sys.argv[1:]))' \
              ''${LAB_LIBRARIES//:/ } libgcc_s.so.1
            touch $out
          '';

          # On Linux, the sandbox of a build has a loopback of its own.
          servers = pkgs.runCommand "servers" (variables pkgs) ''
            PYTHONPATH=${self}/src "$LAB_PYTHON" ${./tests/nix/servers.py} >$out
            cat $out
          '';
        }
      );
    };
}
