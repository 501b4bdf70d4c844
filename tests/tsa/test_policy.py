"""The policy and practice statement: its numbers are the configured ones, in both languages, on paper and on the page."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import falcon
import pytest
from falcon import testing

from core.db import Database
from core.settings import ClockConfig, Config, TsaConfig, TsaLimit, TsaLimits, TsaUnitConfig
from tests.service import ROOT
from tsa.http import PolicyPage
from tsa.policy import LANGUAGES, render_policy
from web import problems
from web.access import ApiKeys, Shell

ANOTHER = TsaConfig(
    operator="Văn phòng thử nghiệm",
    contact="tsa@example.org",
    accuracy_milliseconds=250,
    clock=ClockConfig(sources=("ntp://a.example", "ntp://b.example", "ntp://c.example"), interval=32, max_age=96),
    units=(TsaUnitConfig("seal", "1.2.3.4", key="rsa-3072", pss=True, keys=3), TsaUnitConfig("fast", "1.2.3.5", qualified=True)),
    limits=TsaLimits(anonymous_per_second=41, client_per_day=4321, clients=(TsaLimit("<van-ban>", 77, 8888),)),
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_statement_in_docs_is_that_of_the_default_configuration(language: str, tmp_path: Path) -> None:
    written = (ROOT / "docs" / f"tsa-policy.{language}.md").read_text(encoding="utf-8")
    assert written == render_policy(Config(home=tmp_path), language)  # `condau tsa-policy --lang …` of such an instance


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_configured_number_is_in_it(language: str, tmp_path: Path) -> None:
    text = render_policy(Config(home=tmp_path, public_url="https://tsa.example", tsa=ANOTHER), language)
    for wanted in ("**250 mil", "**2**", "ntp://c.example", " 32 ", " 96 ", "1.2.3.4", "rsa-3072, RSASSA-PSS | 3 |", "1.2.3.5"):
        assert wanted in text
    assert re.search(r"\| 41 \| (no limit|không giới hạn) \|", text)
    assert "| 4321 |" in text
    assert "| <van-ban> | 77 | 8888 |" in text
    assert "https://tsa.example/tsa/fast" in text
    assert ": Văn phòng thử nghiệm.\n" in text
    assert ": tsa@example.org.\n" in text


def test_both_languages_state_the_same_numbers(tmp_path: Path) -> None:
    config = Config(home=tmp_path, tsa=ANOTHER)
    first, second = (sorted(re.findall(r"\d+(?:\.\d+)*", render_policy(config, language))) for language in LANGUAGES)
    assert first == second


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_development_instance_and_an_unchecked_clock_are_told(language: str, tmp_path: Path) -> None:
    real = Config(home=tmp_path)
    tsa = dataclasses.replace(real.tsa, clock=ClockConfig(unchecked=True))
    trial = dataclasses.replace(real, development=True, tsa=tsa)
    assert len(render_policy(trial, language).splitlines()) == len(render_policy(real, language).splitlines()) + 3


def test_the_page_is_vietnamese_first_with_english_at_a_switch(database: Database, tmp_path: Path) -> None:
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App(
        middleware=[Shell(access=ApiKeys(database=database), body_limit=1_000_000)]
    )
    problems.install(app)
    app.add_route("/tsa/policy", PolicyPage(config=Config(home=tmp_path, tsa=ANOTHER)))
    client = testing.TestClient(app)
    page = client.simulate_get("/tsa/policy")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert '<html lang="vi">' in page.text
    assert "<h1>Chính sách" in page.text
    assert 'href="/tsa/policy?lang=en"' in page.text
    assert "<strong>250 mili giây</strong>" in page.text
    assert "<td>&lt;van-ban&gt;</td>" in page.text
    assert "**" not in page.text
    assert "| " not in page.text
    assert "<h1>Time-stamp policy" in client.simulate_get("/tsa/policy?lang=en").text
    assert client.simulate_get("/tsa/policy?lang=fr").status_code == 422
