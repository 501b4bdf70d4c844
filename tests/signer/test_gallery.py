"""Looks and pictures: kept in versions, checked on their way in, over HTTP and for what they draw."""

from __future__ import annotations

import io
from typing import Any

import falcon
import pytest
import sqlalchemy as sa
from falcon import testing
from PIL import Image

from audit.log import SYSTEM, AuditEntry
from core.errors import Conflict, NotFound, Rejected
from registry.agencies import VIETNAM
from registry.models import ApiClient, Role
from registry.registry import add_client, key_digest
from signer.gallery import Gallery, check_picture
from signer.http_looks import AgencyLookResource, AgencyLooks, AgencyPicture, SubscriberPicture
from signer.looks import LOOK_NAMES, built_in, parse_look
from signer.options import PdfOptions
from tests.signer.house import OFFICER, House
from tests.signer.letters import initials, scribble, seal
from web import problems
from web.access import ApiKeys, Shell

AGENCY = "H12.34"
OWN = built_in("copy").replace(b"{copy}; {agency};", b"{copy}: {agency}").replace(b"[[mark]]", b'time = "%Y"\n\n[[mark]]')
ADMIN = {"Authorization": "Bearer an-admin"}


def painted(colour: tuple[int, int, int], *, clear: bool = True, size: tuple[int, int] = (300, 300)) -> bytes:
    """A disc of one colour, on nothing or on white."""
    image = Image.new("RGBA", size, (255, 255, 255, 0 if clear else 255))
    disc = Image.new("RGBA", (size[0] // 2, size[1] // 2), (*colour, 255))
    image.paste(disc, (size[0] // 4, size[1] // 4))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def opaque(png: bytes) -> bytes:
    """The picture on white paper, its alpha channel full all over."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    paper = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    out = io.BytesIO()
    paper.save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def gallery(house: House) -> Gallery:
    return house.gallery()


@pytest.mark.parametrize("name", LOOK_NAMES)
def test_every_look_that_comes_with_the_software_is_one(name: str) -> None:
    assert parse_look(built_in(name)).title


@pytest.mark.parametrize(
    ("png", "source", "width", "said"),
    [
        (painted((220, 10, 10)), "seal", 36, None),
        (painted((20, 40, 180)), "signature", 45, None),
        (painted((10, 20, 90)), "initials", 12, None),  # dark ink is blue as well
        (painted((20, 40, 180)), "seal", 36, "red"),
        (painted((220, 10, 10)), "signature", 45, "blue"),
        (painted((10, 10, 10)), "signature", 45, "blue"),
        (painted((220, 10, 10), clear=False), "seal", 36, "transparent background"),
        (opaque(scribble()), "signature", 45, "transparent background"),
        (Image.new("RGBA", (9, 9)).tobytes(), "seal", 36, "PNG"),
        (painted((220, 10, 10), size=(100, 100)), "seal", 36, "100 pixels wide: 36 mm need 142"),
        (painted((220, 10, 10), size=(400, 200)), "seal", 36, "seal's edge"),
    ],
)
def test_a_picture_must_be_able_to_be_what_it_is_handed_in_as(png: bytes, source: Any, width: float, said: str | None) -> None:
    if said is None:
        check_picture(png, source, width)
        return
    with pytest.raises(Rejected, match=said) as refused:
        check_picture(png, source, width)
    assert [violation.field for violation in refused.value.violations] == ["image"]


def test_every_violation_of_a_picture_is_told_at_once() -> None:
    with pytest.raises(Rejected) as refused:
        check_picture(painted((20, 40, 180)), "seal", 360)
    assert [violation.field for violation in refused.value.violations] == ["width", "image"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ((b"{time}", b"{moment}"), "mark.0.element.lines"),
        ((b"width = 105.0", b"width = -1"), "mark.0.width"),
        ((b"width = 105.0\n", b""), "mark.0.width"),
        ((b'at = "corner"', b'at = "moon"'), "mark.0.place"),
        ((b'kind = "text"', b'kind = "script"'), "mark.0.element.0"),
        ((b'align = "right"', b'align = "right"\ncode = "1"'), "mark.0.element.0.text.code"),
        ((b"title = ", b"title "), "look"),
        ((b"[[mark]]", b'time = "%Q\\u0007"\n\n[[mark]]'), "time"),
        ((b'name = "Copy"', b'name = "Person"'), "mark"),
    ],
)
def test_a_look_that_is_none_is_refused_by_its_key(gallery: Gallery, change: tuple[bytes, bytes], field: str) -> None:
    with pytest.raises(Rejected) as refused:
        gallery.keep_look(AGENCY, "copy", built_in("copy").replace(*change), SYSTEM)
    assert refused.value.violations[0].field == field


def test_the_newest_version_counts_and_the_older_ones_stay(house: House, gallery: Gallery) -> None:
    first = gallery.keep_look(AGENCY, "copy", OWN, SYSTEM)
    second = gallery.keep_look(AGENCY, "copy", OWN + b"# again\n", SYSTEM)
    assert (first.version, second.version) == (1, 2)
    assert gallery.look(AGENCY, "copy").endswith(b"# again\n")
    assert [(row.name, row.version) for row in gallery.looks(AGENCY)] == [("copy", 2)]
    assert gallery.look(AGENCY, "person") == built_in("person")
    with house.database.read() as db:
        entries = list(db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "look.keep").order_by(AuditEntry.id)))
    assert [entry.detail["sha256"] for entry in entries] == [first.sha256, second.sha256]


def test_an_agency_s_own_look_is_what_its_signatures_say(house: House, gallery: Gallery) -> None:
    gallery.keep_look(AGENCY, "copy", OWN, SYSTEM)
    act = gallery.act(PdfOptions(profile="copy", copy_kind="sao-y"), house.identity(), house.now(), None)
    assert act is not None
    assert act.values["time"] == str(house.now().astimezone(VIETNAM).year)
    assert act.look.mark[0].element[0].lines[0] == "{copy}: {agency}"  # type: ignore[union-attr]  # it is a text


def test_pictures_are_kept_in_versions_of_each_owner(house: House, gallery: Gallery) -> None:
    assert gallery.keep_picture(OFFICER, "signature", scribble(), 45, SYSTEM).version == 1
    assert gallery.keep_picture(OFFICER, "signature", scribble((800, 300)), 50, SYSTEM).version == 2
    assert gallery.keep_picture(OFFICER, "initials", initials(), 12, SYSTEM).version == 1
    assert gallery.keep_picture(AGENCY, "seal", seal(), 36, SYSTEM).version == 1
    assert gallery.picture(OFFICER, "signature").width == 50
    with pytest.raises(NotFound):
        gallery.picture(AGENCY, "logo")
    with house.database.read() as db:
        entries = list(db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "picture.keep").order_by(AuditEntry.id)))
    assert [(entry.subject, entry.detail["source"]) for entry in entries][::3] == [(OFFICER, "signature"), (AGENCY, "seal")]


def test_two_who_keep_at_once_do_not_overwrite_each_other(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.keep_look(AGENCY, "copy", OWN, SYSTEM)
    monkeypatch.setattr("signer.gallery._newest", lambda *_, **__: None)  # as the second saw it before the first had written
    with pytest.raises(Conflict):
        gallery.keep_look(AGENCY, "copy", OWN, SYSTEM)


def test_a_request_s_picture_is_as_large_as_the_one_it_stands_for(house: House, gallery: Gallery) -> None:
    options = PdfOptions(profile="person")
    with pytest.raises(Rejected) as refused:
        gallery.act(options, house.identity(), house.now(), painted((220, 10, 10)))
    assert refused.value.violations[0].field == "image"
    gallery.keep_picture(OFFICER, "signature", scribble(), 52, SYSTEM)
    act = gallery.act(options, house.identity(), house.now(), painted((20, 40, 180)))
    assert act is not None
    assert (act.pictures["signature"].image.size, act.pictures["signature"].width) == ((300, 300), 52)


def test_a_look_without_picture_takes_none(house: House, gallery: Gallery) -> None:
    with pytest.raises(Rejected, match="takes no picture"):
        gallery.act(PdfOptions(profile="appendix", number="1/X"), house.identity(), house.now(), scribble())


@pytest.fixture
def api(house: House) -> testing.TestClient:
    with house.database.write() as db:
        add_client(db, at=house.now(), actor=SYSTEM, name="quan-tri", role=Role.ADMIN)
        db.execute(sa.update(ApiClient).where(ApiClient.name == "quan-tri").values(key_sha256=key_digest("an-admin")))
        db.execute(sa.update(ApiClient).where(ApiClient.name == "dms").values(key_sha256=key_digest("a-client")))
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=house.database), body_limit=4_000_000)])
    problems.install(app)
    kept = {"gallery": house.gallery()}
    app.add_route("/v1/agencies/{code}/looks", AgencyLooks(**kept))
    app.add_route("/v1/agencies/{code}/looks/{name}", AgencyLookResource(**kept))
    app.add_route("/v1/agencies/{code}/seal", AgencyPicture(source="seal", **kept))
    app.add_route("/v1/subscribers/{handle}/signature-image", SubscriberPicture(source="signature", **kept))
    return testing.TestClient(app)


def test_looks_and_pictures_are_put_and_read_over_http(api: testing.TestClient) -> None:
    looks, png = f"/v1/agencies/{AGENCY}/looks", {**ADMIN, "Content-Type": "image/png"}
    assert api.simulate_get(f"{looks}/copy", headers=ADMIN).content == built_in("copy")
    put = api.simulate_put(f"{looks}/copy", headers={**ADMIN, "Content-Type": "application/toml"}, body=OWN)
    assert (put.status_code, put.json["version"]) == (200, 1)
    assert api.simulate_get(f"{looks}/copy", headers=ADMIN).content == OWN
    assert [one["name"] for one in api.simulate_get(looks, headers=ADMIN).json["looks"]] == ["copy"]
    for path, picture in ((f"/v1/agencies/{AGENCY}/seal", seal()), (f"/v1/subscribers/{OFFICER}/signature-image", scribble())):
        assert api.simulate_get(path, headers=ADMIN).status_code == 404
        put = api.simulate_put(path, headers=png, params={"width": "36"}, body=picture)
        assert (put.status_code, put.json["width"]) == (200, 36)
        assert api.simulate_get(path, headers=ADMIN).content == picture
    wrong = api.simulate_put(f"/v1/agencies/{AGENCY}/seal", headers=png, params={"width": "360"}, body=scribble())
    assert (wrong.status_code, [one["field"] for one in wrong.json["violations"]]) == (422, ["width", "image"])
    other = {"Authorization": "Bearer a-client", "Content-Type": "image/png"}
    assert api.simulate_put(f"/v1/agencies/{AGENCY}/seal", headers=other, params={"width": "36"}, body=seal()).status_code == 403
    assert api.simulate_get(f"{looks}/moon", headers=ADMIN).status_code == 404
