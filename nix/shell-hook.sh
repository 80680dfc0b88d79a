# Runs in the user's shell, or in direnv's: sets variables, and leaves nothing else behind.

# What Nix sets for builds. The first would make Python compare all bytecode with its source, at each start. The
# others name a folder that ends with this shell, while a lab in the background lives on.
unset SOURCE_DATE_EPOCH
if [ -n "${NIX_BUILD_TOP:-}" ] && [ "${TMPDIR:-}" = "$NIX_BUILD_TOP" ]; then
  export TMPDIR="${NIX_BUILD_TOP%/*}"
  unset TMP TEMP TEMPDIR
fi

# As activating the environment does. When it cannot be made, `lab` has said why, and the shell is still of use.
if VIRTUAL_ENV=$(lab setup); then
  export VIRTUAL_ENV PATH="$VIRTUAL_ENV/bin:$PATH"
  case $- in
    *i*)
      echo "lab: Python 3.13, Postgres 17, Redis 8; honcho, supervisord, pytest and lab are on the path" >&2
      echo "lab: next   lab up      lab test      lab doctor" >&2
      ;;
  esac
else
  unset VIRTUAL_ENV
fi
