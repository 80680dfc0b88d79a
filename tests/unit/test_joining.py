"""What a machine needs to join: a token, a certificate, an address; and what the main machine answers to others."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_celery_lab.configuration.exposure import Exposure
from airflow_celery_lab.configuration.settings import Ports
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import ExposureError, StateFolderError, TokenError
from airflow_celery_lab.remote import addresses, admission, authority, likeness, token
from airflow_celery_lab.remote.authority import Authority
from airflow_celery_lab.remote.invitation import invite
from airflow_celery_lab.remote.token import Token

SECRET = bytes(range(32))
TOKENS = [Token(address, 8080, b"f" * 32, SECRET) for address in ("10.0.0.1", "fd00::1")]


@pytest.mark.parametrize("one", TOKENS)
def test_a_token_is_one_word_and_says_where_and_whom(one: Token) -> None:
    assert token.parse(f" {one.text}\n") == one
    assert one.text.isascii()
    assert len(one.text.split()) == 1


def test_a_token_does_not_show_its_secret_where_it_is_printed_as_a_value() -> None:
    assert str([TOKENS[0]]) == "[Token(10.0.0.1, 8080)]"


@pytest.mark.parametrize("one", TOKENS)
def test_a_token_of_which_a_letter_is_missing_or_wrong_is_found_out(one: Token) -> None:
    text = one.text
    damaged = [text[:place] + text[place + 1 :] for place in range(5, len(text))]
    damaged += [text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :] for place in range(5, len(text) - 1)]

    for wrong in [*damaged, text + "A", text[:40], "lab1.", "lab1.é"]:
        with pytest.raises(TokenError, match=r"^the token is cut or mistyped; copy the whole line"):
            token.parse(wrong)


def test_what_is_no_token_at_all_is_told_what_one_looks_like() -> None:
    with pytest.raises(TokenError, match=r"^that is no token: a token begins with `lab1\.`"):
        token.parse("SECRET")


def test_an_invitation_is_good_for_its_own_secret_until_its_end() -> None:
    secret, invitation = invite(60, now=1000)

    assert secret != invite(60, now=1000)[0]
    assert secret.hex() not in str(invitation)
    assert invitation.refusal(secret, 1060) is None
    assert invitation.refusal(secret, 1061) == (
        "this token was valid until 00:17:40 UTC on 1970-01-01; run `expose` on the main machine for a new one."
    )
    for wrong in (SECRET, b"", secret[:-1]):
        assert str(invitation.refusal(wrong, 1000)).startswith("this token is not valid: a newer one has taken its place")


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("atlas", "'atlas' is not an IP address; this machine has 10.0.0.1, 8.8.4.4 and fd00::1."),
        ("10.0.0.2", "10.0.0.2 is not an address of this machine; this machine has"),
        ("0.0.0.0", "0.0.0.0 means all addresses of this machine"),
        ("::", ":: means all addresses of this machine"),
        ("127.0.0.1", "no other machine reaches 127.0.0.1"),
        ("fe80::1", "fe80::1 is valid on one link only"),
        ("8.8.4.4", "8.8.4.4 is a public address, which the whole internet may reach; add `--yes` if that is meant."),
    ],
)
def test_an_address_that_is_not_meant_for_this_is_refused_with_those_that_there_are(typed: str, why: str) -> None:
    with pytest.raises(ExposureError) as refused:
        addresses.choose(typed, ["10.0.0.1", "8.8.4.4", "fd00::1"], public=False)

    assert str(refused.value).startswith(why)


def test_an_address_of_this_machine_is_taken_and_a_public_one_when_that_is_meant() -> None:
    assert addresses.choose("fd00:0::1", ["fd00::1"], public=False) == "fd00::1"
    assert addresses.choose("8.8.4.4", ["8.8.4.4"], public=True) == "8.8.4.4"


def shaken_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """Return the protocol that both agree on, without a network between them."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server, server_hostname=name), server.wrap_bio(to_server, to_client, server_side=True)]
    for _ in range(3):  # Flights of TLS 1.3, at most.
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return str(ends[0].version())


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
def test_who_knows_the_authority_trusts_the_lab_at_its_address_and_nobody_else(tmp_path: Path, address: str) -> None:
    own, other = Authority(State(tmp_path / "own")), Authority(State(tmp_path / "other"))
    server = own.server_context(address)
    strict = ssl.create_default_context(cadata=own.certificate())
    strict.verify_flags |= ssl.VERIFY_X509_STRICT  # As Python 3.13 does by itself.

    assert shaken_hands(server, strict, address) == "TLSv1.3"
    for name, known in ((address, other), ("10.0.0.9", own)):
        with pytest.raises(ssl.SSLCertVerificationError):
            shaken_hands(server, ssl.create_default_context(cadata=known.certificate()), name)


def test_the_authority_stays_when_the_address_changes_and_its_keys_are_its_owners_alone(tmp_path: Path) -> None:
    state = State(tmp_path)
    certificate = Authority(state).certificate()
    for address in ("10.0.0.1", "10.0.0.2"):
        Authority(state).server_context(address)

    assert Authority(state).certificate() == certificate
    assert {path.stat().st_mode & 0o077 for path in state.tls.iterdir()} == {0}
    assert state.tls.stat().st_mode & 0o077 == 0
    assert len(authority.fingerprint(certificate)) == 32


def test_a_damaged_authority_is_named(tmp_path: Path) -> None:
    state = State(tmp_path)
    Authority(state).certificate()
    (state.tls / "ca.key").write_text("x")

    with pytest.raises(StateFolderError, match=r"^cannot use .*ca\.key: it is damaged or not readable; remove the folder"):
        Authority(state).server_context("10.0.0.1")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (None, "this is not understood"),
        ([1], "this is not understood"),
        ({"secret": 1, "machine": "atlas", "address": "10.0.0.2"}, "this is not understood"),
        ({"secret": "zz", "machine": "atlas", "address": "10.0.0.2"}, "this is not understood"),
        ({"secret": "00", "machine": "atlas", "address": "atlas"}, "this is not understood"),
        ({"secret": "00", "machine": "a/b", "address": "10.0.0.2"}, "'a/b' is not a name for a machine"),
        ({"secret": "00", "machine": "", "address": "10.0.0.2"}, "'' is not a name for a machine"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_a_sentence(asked: object, why: str) -> None:
    with pytest.raises(admission.RefusedError, match=f"^{why}"):
        admission.read(asked)


def test_urls_for_other_machines_hold_no_password() -> None:
    exposed = Exposure("fd00::1", "pg-password", "redis-password", "digest", 0.0)
    ports = Ports(postgres=1, redis=2, webserver=3, flower=4, scheduler=5)

    assert exposed.urls(ports) == {
        "redis": "rediss://[fd00::1]:2",
        "postgres": "postgresql://[fd00::1]:1",
        "webserver": "https://[fd00::1]:3",
    }


def test_two_folders_with_the_same_code_are_alike_whatever_else_lies_there(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "dag.py").write_text("x = 1\n")
    (tmp_path / "there" / "__pycache__").mkdir()
    (tmp_path / "there" / "__pycache__" / "dag.pyc").write_bytes(b"x")
    (tmp_path / "there" / ".git").mkdir()
    (tmp_path / "there" / ".git" / "HEAD").write_text("x")
    before = likeness.dags(tmp_path / "here")

    assert before == likeness.dags(tmp_path / "there")
    (tmp_path / "here" / "sub" / "dag.py").rename(tmp_path / "here" / "dag.py")
    assert before != likeness.dags(tmp_path / "here")
